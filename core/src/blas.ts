/**
 * The device 'cpu' on a native BLAS. Its tensors stay in the memory of the WebAssembly kernels, where the library computes
 * without a copy; what it does not have, the kernels go on doing.
 */

import { type BlasInfo, type BlasOptions, type Kernels, openBlas } from '@otimes/kernels';
import { setSolver } from '@otimes/linalg';
import { getBackend } from './backends/registry.ts';
import { WasmBackend } from './backends/wasm/index.ts';
import { setDirectCost } from './convolution.ts';

export type { BlasInfo, BlasOptions };

/**
 * Rows from which LAPACK is worth the way in and out. NOTE: measured with OpenBLAS 0.3.21 and float64, against the kernels:
 * 512 0.97 (eigh) to 1.4 (inverse) times as fast, 1024 1.25 to 1.6; at 128 half as fast.
 */
const SOLVER_FROM = 512;
/** What its convolutions cost, of what the kernels' do: measured from 16 to 256 channels .57 to .65, with 512 .7 to .95. */
const CONVOLUTIONS = 0.62;

let used: Kernels | null = null;

/**
 * From now on large matrix products and convolutions on the device 'cpu', and of @otimes/linalg `eigh`, `cholesky` and
 * `inverse` from 512 rows on and all triangular solves, run in the OpenBLAS, MKL or Accelerate at `path` (defaults to the
 * first that the system finds by its usual name), on `threads` threads of that library (defaults to 1). Resolves to what it
 * found. A second call replaces the first.
 *
 * Results change by rounding, and with the library and the processor. For Node alone, with the package koffi:
 * `npm install koffi`. Throws an Error without it, without a library (it lists what it tried), for one that lacks a
 * function, in a browser, and where 'cpu' has no WebAssembly SIMD; then everything stays as it was.
 */
export async function useBlas(path?: string, o: BlasOptions = {}): Promise<BlasInfo> {
  const backend = getBackend('cpu');
  if (!(backend instanceof WasmBackend))
    throw new Error(
      `useBlas: expected the WebAssembly backend as the device 'cpu', got ${backend.onHost ? 'one in plain TypeScript' : `that of ${backend.device}`}`,
    );
  const { info, override, ...solver } = await openBlas(path, o);
  if (used !== backend.kernels) releaseBlas();
  backend.kernels.override('blas', override(backend.kernels));
  setSolver({ minRows: SOLVER_FROM, ...solver });
  setDirectCost(CONVOLUTIONS);
  used = backend.kernels;
  return info;
}

/** Takes `useBlas` back: results are bit for bit what they were before. The library stays loaded. Does nothing without one. */
export function releaseBlas(): void {
  if (used === null) return;
  used.override('blas', null);
  setSolver(null);
  setDirectCost(1);
  used = null;
}
