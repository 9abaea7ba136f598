/**
 * Storage: the memory behind one or several tensors (views share it), and how long it lives.
 *
 * The rule is "reachable means valid": tensors, graph nodes and closures hold storages strongly, nobody counts
 * references, and what the program cannot reach any more is collected, in a synchronous loop too. `scope` is an optional
 * accelerator that gives memory back earlier; reading a tensor it released is an error, never a wrong number.
 */

import type { Backend } from './backends/backend.ts';
import { aFunction, checkArgument, received } from './check.ts';
import type { DType, TypedArray } from './dtype.ts';
import { ReleasedError } from './errors.ts';
import type { Tensor } from './tensor.ts';

/** Memory that a backend keeps outside of ordinary arrays. */
export interface Region {
  /** Elements. */
  readonly size: number;
  /** The elements themselves, as long as no other region is allocated. */
  readonly array: TypedArray;
  /** Gives the memory back now, instead of when the region can no longer be reached. */
  release(): void;
}

/** Elements that are computed when somebody asks for them. */
export interface Deferred {
  /** Makes the memory, or fills the one that there is and returns it. Runs outside of scopes and unrecorded. */
  make(): TypedArray | Region;
  /** Called when the storage is released or deferred again, whether anybody asked or not. */
  readonly dispose?: () => void;
}

export class Storage {
  readonly backend: Backend;
  readonly dtype: DType;
  readonly size: number;
  /** Counts the writes after creation, so that backward notices a value that changed after it was saved. */
  version = 0;
  /** Kept storages survive the end of their scope. */
  kept = false;
  /** Owned by the graph: no tensor over it ever left the library, so it is released with the node that made it. */
  owned = false;
  /** Gradients on their way through a backward pass that lie here. */
  uses = 0;
  /** What gives this memory back: a backward pass, for what it made itself; else null. */
  owner: object | null = null;
  /** Whether something outside of the library can write to the elements unseen: an ndarray over them. */
  exposed = false;
  /** For its maker: where the elements come from. */
  origin: unknown = null;
  #memory: TypedArray | Region | null;
  #deferred: Deferred | null = null;
  #dispose: (() => void) | null = null;

  constructor(backend: Backend, dtype: DType, memory: TypedArray | Region | null, size = sizeOfMemory(memory)) {
    this.backend = backend;
    this.dtype = dtype;
    this.size = size;
    this.#memory = memory;
    if (scopes.length > 0) scopes[scopes.length - 1]!.push(this);
  }

  /** Where the elements are. Throws a ReleasedError once they were given back. */
  get memory(): TypedArray | Region {
    if (this.#deferred !== null) this.settle();
    if (this.#memory === null)
      throw new ReleasedError(
        `read: this ${this.dtype} tensor of ${this.size} elements was released when its scope ended; ` +
          'return it from the scope, mark it with keep(), or copy it out with toArray() before',
      );
    return this.#memory;
  }

  /** The elements, not a copy; good until the next allocation. Throws a ReleasedError once they were given back. */
  get array(): TypedArray {
    const { memory } = this;
    return 'array' in memory ? memory.array : memory;
  }

  get released(): boolean {
    return this.#memory === null && this.#deferred === null;
  }

  /** Leaves the elements to be computed when they are next asked for: whatever lies here now is out of date. */
  defer(deferred: Deferred): void {
    this.#dispose?.();
    this.#deferred = deferred;
    this.#dispose = deferred.dispose ?? null;
  }

  /** Computes what was deferred. */
  settle(): void {
    const deferred = this.#deferred;
    if (deferred === null) return;
    this.#deferred = null;
    try {
      this.#memory = unscoped(() => deferred.make());
    } catch (error) {
      this.#deferred = deferred;
      throw error;
    }
  }

  release(): void {
    this.#dispose?.();
    this.#dispose = null;
    this.#deferred = null;
    if (this.#memory !== null && 'release' in this.#memory) this.#memory.release();
    this.#memory = null;
  }
}

const sizeOfMemory = (memory: TypedArray | Region | null): number =>
  memory === null ? 0 : 'size' in memory ? memory.size : memory.length;

/** A storage for `size` elements that have no memory until somebody asks for them. */
export function deferredStorage(backend: Backend, dtype: DType, size: number, deferred: Deferred): Storage {
  checkArgument('deferredStorage', 'make', deferred?.make, aFunction);
  const storage = new Storage(backend, dtype, null, size);
  storage.defer(deferred);
  return storage;
}

/** A zero-filled storage for `size` elements. */
export function allocate(backend: Backend, dtype: DType, size: number): Storage {
  return new Storage(backend, dtype, backend.allocate(dtype, size));
}

const scopes: Storage[][] = [];

/**
 * Runs `run` and then releases every tensor created inside, except those in its result (a tensor, or arrays, maps, sets
 * and plain objects of them), gradients of leaves, and what was marked with `keep`. Nothing but an accelerator: without it the
 * same memory is collected a little later. Nested scopes hand what they return to the scope around them.
 */
export function scope<T>(run: () => T): T {
  checkArgument('scope', 'run', run, aFunction);
  const created: Storage[] = [];
  scopes.push(created);
  let result: T | undefined;
  try {
    result = run();
    if (result instanceof Promise)
      throw new TypeError('scope: expected a synchronous function, got one that returns a promise');
    return result;
  } finally {
    scopes.pop();
    if (created.length > 0) settle(created, storagesIn(result));
  }
}

/** Releases what a scope made, but for what is kept and what escapes to the scope around it. */
function settle(created: readonly Storage[], escaping: ReadonlySet<Storage>): void {
  const outer = scopes.at(-1);
  for (const storage of created) {
    if (storage.kept) continue;
    if (escaping.has(storage)) outer?.push(storage);
    else storage.release();
  }
}

/** Runs `run` and lists every storage made inside. */
export function tracking(run: () => void): readonly Storage[] {
  const created: Storage[] = [];
  scopes.push(created);
  try {
    run();
  } finally {
    scopes.pop();
  }
  return created;
}

/**
 * Runs `run`, which makes tensors that only its result depends on and that nobody else sees. They are released with the
 * graph that they became part of, or at once where they became part of none. For the insides of built-in layers.
 */
export function owningIntermediates(run: () => Tensor): Tensor {
  checkArgument('owningIntermediates', 'run', run, aFunction);
  let result: Tensor | undefined;
  const created = tracking(() => {
    result = run();
  });
  if (!(result?.storage instanceof Storage))
    throw new TypeError(`owningIntermediates: expected run to return a tensor, got ${received(result)}`);
  const { storage, node } = result;
  const outer = scopes.at(-1);
  for (const one of created) {
    if (one === storage || one.kept) outer?.push(one);
    else if (node !== null) one.owned = true;
    else one.release();
  }
  // Some have a node of their own that gives them back; indices and masks have none.
  if (node !== null && created.length > 1) node.adopted = created;
  return result;
}

/** Runs `run` outside of every scope: what it creates (optimizer state, say) lives as long as it is reachable. */
export function unscoped<T>(run: () => T): T {
  checkArgument('unscoped', 'run', run, aFunction);
  if (scopes.length === 0) return run();
  const open = scopes.splice(0);
  try {
    return run();
  } finally {
    scopes.push(...open);
  }
}

/** The storages of all tensors in `value`: a tensor, or arrays, maps, sets and plain objects of them. */
function storagesIn(value: unknown): Set<Storage> {
  const storages = new Set<Storage>();
  const seen = new Set<object>();
  const visit = (item: unknown): void => {
    if (item === null || typeof item !== 'object' || seen.has(item)) return;
    seen.add(item);
    if ('storage' in item && item.storage instanceof Storage) storages.add(item.storage);
    else if (Array.isArray(item) || item instanceof Set) for (const entry of item) visit(entry);
    else if (item instanceof Map) for (const entry of item.values()) visit(entry);
    else if (Object.getPrototypeOf(item) === Object.prototype) for (const entry of Object.values(item)) visit(entry);
  };
  visit(value);
  return storages;
}
