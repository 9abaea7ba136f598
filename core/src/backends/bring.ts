/** Gives the plain devices the kernels that come with an operation; see parts.ts. */

import { ReferenceBackend } from './reference/index.ts';
import { WasmBackend } from './wasm/index.ts';

/**
 * Makes the functions of a file of reference/ methods of `ReferenceBackend`, and those of the file of wasm/ methods of
 * `WasmBackend`. Called where the module of an operation is loaded, so before anybody can call the operation.
 *
 * NOTE: as a statement of that module, and not in a module that is imported for it alone: bundlers drop such.
 */
export function bring<Kernels extends object>(
  reference: Readonly<Kernels>,
  wasm: { readonly [Name in keyof Kernels]: (this: WasmBackend, ...x: never) => void },
): void {
  Object.assign(ReferenceBackend.prototype, reference);
  Object.assign(WasmBackend.prototype, wasm);
}
