/** From packed bytes to callable kernels: picks the variant, compiles it once and binds it to a memory. */

import { type Variant, variants } from './features.ts';
import { kernels as packed } from './generated/kernels.gen.ts';
import type { Exports } from './generated/types.gen.ts';
import { Heap, type HeapOptions } from './heap.ts';
import { Memory, type MemoryOptions } from './memory.ts';
import { type Packed, unpack } from './packed.ts';
import type { Part, PartExports } from './parts.ts';
import { sharedVariant } from './shared.ts';
import { type WasmMemory, wasm } from './wasm.ts';

const modules = new Map<Packed, Map<string, object>>();

/** By its name, as `instanceof` fails between realms (test runners). */
const isShared = (memory: WasmMemory) => Object.prototype.toString.call(memory.buffer) === '[object SharedArrayBuffer]';

/** The first module in a variant for a memory, shared or not; compiled once. */
export const moduleFor = (memory: WasmMemory, variant: Variant): object => compiled(packed, variant, isShared(memory));

/** The bytes of a module in a variant for memories that are shared, or not. */
export function bytesOf(from: Packed, variant: Variant, shared: boolean): Uint8Array {
  const bytes = unpack(from, variant);
  return shared ? sharedVariant(bytes) : bytes;
}

/** That module; compiled once. */
export function compiled(from: Packed, variant: Variant, shared: boolean): object {
  if (wasm === undefined) throw new Error('kernels: there is no WebAssembly here');
  const made = modules.get(from) ?? new Map<string, object>();
  modules.set(from, made);
  const key = `${variant} ${shared}`;
  let module = made.get(key);
  if (module === undefined) {
    // NOTE: synchronous. Chrome's main thread refused modules above 4 KB before version 114; there use a Worker.
    module = new wasm.Module(bytesOf(from, variant, shared));
    made.set(key, module);
  }
  return module;
}

/** The first module in a variant for memories that are not shared. */
export const kernelsModule = (variant: Variant): object => compiled(packed, variant, false);

/** The functions of one variant over a memory, shared or not; null where no variant runs. Each is compiled once. */
export function instantiate(memory: WasmMemory, o: { variant?: Variant | undefined } = {}): Exports | null {
  const variant = o.variant ?? variants()[0];
  if (wasm === undefined || variant === undefined) return null;
  return new wasm.Instance(moduleFor(memory, variant), { env: { memory } }).exports as Exports;
}

/** What may take the place of exports, lowest first: a higher layer is given what the lower ones left. */
const LAYERS = ['threads', 'blas'] as const;
export type Layer = (typeof LAYERS)[number];
/** Exports of the first module, and of those that were loaded since. */
export type Loaded = Exports &
  Partial<
    PartExports['images'] &
      PartExports['normalize'] &
      PartExports['attention'] &
      PartExports['resample'] &
      PartExports['math'] &
      PartExports['order'] &
      PartExports['recurrent']
  >;
/** Exports in place of those of the same name and signature; `below` has what it covers. */
export type Override = (below: Loaded) => Partial<Loaded>;

/** A module beside the first one, with its own exports. */
export type LoadedPart = { readonly part: Part; readonly exports: object };

/** Threads that start by themselves, see threads/automatic.ts. */
export type Automatic = {
  /** Threads in use now. */
  readonly count: number;
  /** Calls that they have shared. */
  readonly runs: number;
  /** Starts them now, unless they have been; returns whether there are any. */
  start(): boolean;
  /** Ends them for good. What they share runs on one thread at once; resolves when none runs any more. */
  end(): Promise<void>;
};

/** Kernels, the heap that their operands live in, and the scratch memory that they work in. */
export class Kernels {
  readonly variant: Variant;
  readonly memory: Memory;
  readonly heap: Heap;
  /** Address of `exports.convScratch()` bytes, which are enough for all. One thread at a time may use them. */
  readonly scratch: number;
  /** The exports of the first module. */
  readonly first: Exports;
  /** Threads among which a call may be shared, if more than one: so many times is memory to be there that each piece has. */
  declare threads?: number | undefined;
  /** Where threads start by themselves, or may yet. */
  declare automatic?: Automatic | undefined;
  readonly #overrides = new Map<Layer, Override>();
  readonly #bound: ((exports: Loaded) => void)[] = [];
  #parts: readonly LoadedPart[] = [];
  #compiled: Loaded;
  #exports: Loaded;

  constructor(variant: Variant, first: Exports, memory: Memory, heap: Heap) {
    this.variant = variant;
    this.memory = memory;
    this.heap = heap;
    this.scratch = heap.pool.alloc(first.convScratch());
    this.first = first;
    this.#compiled = first;
    this.#exports = first;
  }

  /** The exports that the modules themselves have, in the order of loading. */
  get compiled(): Loaded {
    return this.#compiled;
  }

  /** What to call. NOTE: changes with `load` and `override`; who keeps functions of it asks `bind` for them. */
  get exports(): Loaded {
    return this.#exports;
  }

  /** The modules beside the first one, in the order of loading. */
  get parts(): readonly LoadedPart[] {
    return this.#parts;
  }

  /** Calls `take` with the exports now, and again whenever `load` or an override changes them. */
  bind(take: (exports: Loaded) => void): void {
    this.#bound.push(take);
    take(this.#exports);
  }

  /** Adds the exports of another module, unless they are there; returns all. Compiles it, which takes milliseconds, once. */
  load<Name extends keyof PartExports>(part: Part<Name>): Exports & PartExports[Name] {
    if (!this.#parts.some(loaded => loaded.part === part)) {
      const [before, parts] = [this.#compiled, this.#parts];
      const module = compiled(part.packed, this.variant, this.memory.shared);
      const { exports } = new wasm!.Instance(module, { env: { memory: this.memory.wasm }, kernels: this.first });
      this.#compiled = { ...before, ...exports };
      this.#parts = [...parts, { part, exports }];
      try {
        this.#apply();
      } catch (error) {
        [this.#compiled, this.#parts] = [before, parts];
        throw error;
      }
    }
    return this.#exports as Exports & PartExports[Name];
  }

  /** Lets a layer replace exports (many threads, a native library); null takes its replacements back. */
  override(layer: Layer, override: Override | null): void {
    if (override === null) this.#overrides.delete(layer);
    else this.#overrides.set(layer, override);
    this.#apply();
  }

  #apply(): void {
    let exports = this.#compiled;
    for (const name of LAYERS) exports = { ...exports, ...this.#overrides.get(name)?.(exports) };
    this.#exports = this.#overrides.size === 0 ? this.#compiled : exports;
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
