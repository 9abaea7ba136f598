/**
 * The part of the WebAssembly interface that we use, typed here because only TypeScript's DOM library declares it and
 * neither we nor our users should need that. Absent where a browser's settings disable WebAssembly.
 */

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

interface WasmApi {
  validate(bytes: Uint8Array): boolean;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports?: object) => { readonly exports: object };
  Memory: new (limits: { initial: number; maximum: number; shared?: boolean }) => WasmMemory;
}

/** Bytes of a page, the unit in which a memory grows. */
export const PAGE = 65536;

export const wasm: WasmApi | undefined = (globalThis as { WebAssembly?: WasmApi }).WebAssembly;
