/** Which variant of the kernels runs here: found by executing a probe, since a version number promises nothing. */

import { enableRelaxedSimd } from '#host';
import { wasm } from './wasm.ts';

/** `relaxed` fuses multiply and add where the processor can; `simd` needs 128-bit SIMD alone. */
export type Variant = 'relaxed' | 'simd';

/** A module with one function () → i32 of this body. */
const probe = (...body: number[]): Uint8Array => {
  const section = (id: number, ...content: number[]) => [id, content.length, ...content];
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, 1, 0x60, 0, 1, 0x7f),
    ...section(3, 1, 0),
    ...section(7, 1, 1, 0x66, 0, 0),
    ...section(10, 1, body.length + 2, 0, ...body, 0x0b),
  ]);
};
const splat = (x: number) => [0x43, ...new Uint8Array(new Float32Array([x]).buffer), 0xfd, 0x13];
const LANE0_TO_INT = [0xfd, 0x1f, 0, 0xa8];

/** Each computes 2 · 3 + 4. */
const PROBES: Readonly<Record<Variant, Uint8Array>> = {
  relaxed: probe(...splat(2), ...splat(3), ...splat(4), 0xfd, 0x85, 0x02, ...LANE0_TO_INT),
  simd: probe(...splat(2), ...splat(3), 0xfd, 0xe6, 0x01, ...splat(4), 0xfd, 0xe4, 0x01, ...LANE0_TO_INT),
};

function runs(variant: Variant): boolean {
  if (wasm === undefined || !wasm.validate(PROBES[variant])) return false;
  try {
    const { f } = new wasm.Instance(new wasm.Module(PROBES[variant])).exports as { f: () => number };
    return f() === 10;
  } catch {
    return false;
  }
}

let known: readonly Variant[] | undefined;

/** The variants that run here, the faster first; none without SIMD, where callers use plain TypeScript. */
export function variants(): readonly Variant[] {
  if (known === undefined) {
    if (wasm !== undefined && !wasm.validate(PROBES.relaxed)) enableRelaxedSimd();
    known = (['relaxed', 'simd'] as const).filter(runs);
  }
  return known;
}
