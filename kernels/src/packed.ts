/**
 * Unpacks the modules that build.mjs packed, synchronously and the same everywhere: what hosts offer for it
 * (DecompressionStream) is asynchronous.
 */

import type { Variant } from './features.ts';
import { unfused } from './unfused.ts';
import { PAGE, type WasmMemory, wasm } from './wasm.ts';

/** The variant `relaxed` of a module, arranged into `size` bytes, with LZMA and as base64; and the module that undoes both. */
export type Packed = { readonly decoder: string; readonly size: number; readonly packed: string };

type Decoder = {
  readonly memory: WasmMemory;
  /** Where the decoder's own part of the memory ends. */
  readonly own: { readonly value: number };
  unpack(from: number, out: number, size: number): void;
  /** Undoes the arrangement, and returns where the module ends. */
  restore(from: number, out: number): number;
};

function fromBase64(text: string): Uint8Array {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** The bytes of a module. NOTE: needs WebAssembly, without which nobody has a use for them. */
export function unpack({ decoder, size, packed }: Packed, variant: Variant): Uint8Array {
  const bytes = fromBase64(packed);
  const module = new wasm!.Module(fromBase64(decoder));
  const { memory, own, unpack, restore } = new wasm!.Instance(module).exports as Decoder;
  const arranged = own.value + bytes.length;
  const out = arranged + size;
  // A module is longer than its arrangement, by 3 bytes for each function at most.
  const missing = out + 2 * size - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
  new Uint8Array(memory.buffer).set(bytes, own.value);
  unpack(own.value, arranged, size);
  const relaxed = new Uint8Array(memory.buffer).slice(out, restore(arranged, out));
  return variant === 'relaxed' ? relaxed : unfused(relaxed);
}
