/** From packed bytes to callable kernels: picks the variant, compiles it once and binds it to a memory. */

import { type Variant, variants } from './features.ts';
import { kernels as packed } from './generated/kernels.gen.ts';
import type { Exports } from './generated/types.gen.ts';
import { Heap, type HeapOptions } from './heap.ts';
import { Memory, type MemoryOptions } from './memory.ts';
import { unpack } from './packed.ts';
import { sharedVariant } from './shared.ts';
import { type WasmMemory, wasm } from './wasm.ts';

const modules = new Map<string, object>();

/** By its name, as `instanceof` fails between realms (test runners). */
const isShared = (memory: WasmMemory) => Object.prototype.toString.call(memory.buffer) === '[object SharedArrayBuffer]';

/** The module of a variant for a memory, shared or not; compiled once. */
export const moduleFor = (memory: WasmMemory, variant: Variant): object => compiled(variant, isShared(memory));

/** The module of a variant for memories that are shared, or not; compiled once. */
export function compiled(variant: Variant, shared: boolean): object {
  if (wasm === undefined) throw new Error('kernels: there is no WebAssembly here');
  const key = `${variant} ${shared}`;
  let module = modules.get(key);
  if (module === undefined) {
    const bytes = unpack(packed, variant);
    // NOTE: synchronous. Chrome's main thread refused modules above 4 KB before version 114; there use a Worker.
    module = new wasm.Module(shared ? sharedVariant(bytes) : bytes);
    modules.set(key, module);
  }
  return module;
}

/** The functions of one variant over a memory, shared or not; null where no variant runs. Each is compiled once. */
export function instantiate(memory: WasmMemory, o: { variant?: Variant | undefined } = {}): Exports | null {
  const variant = o.variant ?? variants()[0];
  if (wasm === undefined || variant === undefined) return null;
  return new wasm.Instance(moduleFor(memory, variant), { env: { memory } }).exports as Exports;
}

/** What may take the place of exports, lowest first: a higher layer is given what the lower ones left. */
const LAYERS = ['threads', 'blas'] as const;
export type Layer = (typeof LAYERS)[number];
/** Exports in place of those of the same name and signature; `below` has what it covers. */
export type Override = (below: Exports) => Partial<Exports>;

/** Kernels, the heap that their operands live in, and the scratch memory that they work in. */
export class Kernels {
  readonly variant: Variant;
  readonly memory: Memory;
  readonly heap: Heap;
  /** Address of `exports.convScratch()` bytes, which are enough for all. One thread at a time may use them. */
  readonly scratch: number;
  /** The exports that the module itself has. */
  readonly compiled: Exports;
  readonly #overrides = new Map<Layer, Override>();
  readonly #bound: ((exports: Exports) => void)[] = [];
  #exports: Exports;

  constructor(variant: Variant, compiled: Exports, memory: Memory, heap: Heap) {
    this.variant = variant;
    this.memory = memory;
    this.heap = heap;
    this.scratch = heap.pool.alloc(compiled.convScratch());
    this.compiled = compiled;
    this.#exports = compiled;
  }

  /** What to call. NOTE: changes with `override`; who keeps functions of it asks `bind` for them. */
  get exports(): Exports {
    return this.#exports;
  }

  /** Calls `take` with the exports now, and again whenever an override changes them. */
  bind(take: (exports: Exports) => void): void {
    this.#bound.push(take);
    take(this.#exports);
  }

  /** Lets a layer replace exports (many threads, a native library); null takes its replacements back. */
  override(layer: Layer, override: Override | null): void {
    if (override === null) this.#overrides.delete(layer);
    else this.#overrides.set(layer, override);
    let exports = this.compiled;
    for (const name of LAYERS) exports = { ...exports, ...this.#overrides.get(name)?.(exports) };
    this.#exports = this.#overrides.size === 0 ? this.compiled : exports;
    for (const take of this.#bound) take(this.#exports);
  }
}

export type KernelOptions = {
  /** Defaults to the fastest that runs here. */
  readonly variant?: Variant;
  readonly memory?: MemoryOptions;
  readonly heap?: HeapOptions;
};

/** Kernels with a memory of their own; null where there is no SIMD or no memory, and callers use plain TypeScript. */
export function createKernels(o: KernelOptions = {}): Kernels | null {
  const variant = o.variant ?? variants()[0];
  if (variant === undefined || !variants().includes(variant)) return null;
  const memory = Memory.create(o.memory);
  if (memory === null) return null;
  const exports = instantiate(memory.wasm, { variant });
  if (exports === null) return null;
  return new Kernels(variant, exports, memory, new Heap(memory, o.heap));
}
