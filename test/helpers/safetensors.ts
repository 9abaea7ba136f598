// Files of safetensors, and random tensors for them.

import type { Tensor } from '@otimes/core';

/** A file by its header's text, as it is (no padding added), and its data. */
export function file(header: string, data: ArrayLike<number> = [], length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

export function elementBytes(x: Tensor): Uint8Array {
  return new Uint8Array(x.dataSync().buffer);
}
