/**
 * Storage: the memory behind one or several tensors (views share it), and how long it lives.
 *
 * The rule is "reachable means valid": tensors, graph nodes and closures hold storages strongly, nobody counts
 * references, and what the program cannot reach any more is collected, in a synchronous loop too. On top of that some
 * memory is given back earlier, where the library knows that nobody reads it again. The field `holder` says who may do so, one
 * at a time, or that it was done and why:
 *
 * | holder        | gives the memory back                   | holds                                               | is followed by            |
 * |---------------|-----------------------------------------|-----------------------------------------------------|---------------------------|
 * | null          | nobody: the collector finds it          | what is made outside of scopes, or left there       | any but a Scope           |
 * | an open Scope | at its end, unless the tensor leaves it | what is made inside                                 | the scope around it, any  |
 * | a graph Node  | when backward frees the node            | what built-in layers make between input and result  | PROGRAM, a text           |
 * | several Nodes | when backward has freed all of them     | what rules make in `grad(…, { createGraph: true })` | PROGRAM, a text           |
 * | a Walk        | when no gradient on its way lies there  | what gradient rules make                            | null or a Scope, any      |
 * | LIBRARY       | the part of the library that `held` it  | what outlives scopes and passes, until then         | PROGRAM, a text           |
 * | PROGRAM       | nobody: the collector finds it          | what `keep` was called for, or an ndarray sees      | nothing                   |
 * | a text        | it was given back                       | nothing any more; the text says when                | nothing                   |
 *
 * `release` is the only way back. It does nothing to what the program holds, and a released storage remembers why, so that
 * reading it is an error that says so, never a wrong number.
 */

import type { Backend } from './backends/backend.ts';
import { aFunction, checkArgument, inspect } from './check.ts';
import { checkDType, type Region } from './device.ts';
import { allocateArray, type DType, type TypedArray } from './dtype.ts';
import { describe, ReleasedError } from './errors.ts';

export type { Region };

/** Makes the memory of a storage, or fills what it has and returns that. Runs outside of scopes. */
type Make = () => TypedArray | Region;

/** The holder of what the program can reach in ways that the library does not see. */
const PROGRAM = {};
/** The holder of what outlives scopes and passes until its maker releases it. */
const LIBRARY = {};

let releasing = true;

/**
 * Runs `run` while nothing is given back before the collector finds it: the twin for tests of everything that releases
 * memory early. Results must be the same.
 */
export function withoutEarlyRelease<T>(run: () => T): T {
  const before = releasing;
  releasing = false;
  try {
    return run();
  } finally {
    releasing = before;
  }
}

export class Storage {
  /** @internal How many there were; the next one has this as its id. */
  static count = 0;
  /** Unlike that of any other, so that no comparison of objects finds two tensors equal whose elements it cannot see. */
  readonly id = Storage.count++;
  readonly backend: Backend;
  readonly dtype: DType;
  readonly size: number;
  /** @internal Counts the writes after creation, so that backward notices a value that changed after it was saved. */
  version = 0;
  /** @internal Who may give the memory back before the collector does, or why it was given back; see the table above. */
  holder: object | string | null = null;
  /** @internal Gradients on their way through a backward pass that lie here. */
  uses = 0;
  /** @internal Whether something outside of the library can write to the elements unseen: an ndarray over them. */
  exposed = false;
  /** @internal What `lazyTensor` was told that the elements come from. */
  origin: unknown = null;
  #memory: TypedArray | Region | null;
  /** Set while the elements are lazy. */
  #make: Make | null = null;
  #dispose: (() => void) | null = null;

  constructor(backend: Backend, dtype: DType, memory: TypedArray | Region | null, size = sizeOfMemory(memory)) {
    this.backend = backend;
    this.dtype = dtype;
    this.size = size;
    this.#memory = memory;
    if (scopes.length > 0) scopes[scopes.length - 1]!.take(this);
  }

  /** Where the elements are. Throws a ReleasedError once they were given back. */
  get memory(): TypedArray | Region {
    if (this.#make !== null) this.materialize();
    if (this.#memory === null)
      throw new ReleasedError(`read: this ${this.dtype} tensor of ${this.size} elements was released ${this.holder}`);
    return this.#memory;
  }

  /** The elements, not a copy; good until the next allocation. Throws a ReleasedError once they were given back. */
  get array(): TypedArray {
    const { memory } = this;
    return 'array' in memory ? memory.array : memory;
  }

  /** @internal The elements where they lie, for a look that changes nothing, or in words why there are none. */
  peek(): TypedArray | string {
    if (this.#make !== null) return 'not computed yet';
    return this.#memory === null ? `released ${this.holder}` : this.array;
  }

  /** For consoles. */
  [inspect](): string {
    return `Storage ${describe({ dtype: this.dtype, shape: [this.size] })} on '${this.backend.device}'`;
  }

  get released(): boolean {
    return typeof this.holder === 'string';
  }

  /** Whether the program holds this memory, so that nobody gives it back early. */
  get kept(): boolean {
    return this.holder === PROGRAM;
  }

  /** The program holds this memory from now on. */
  keep(): void {
    if (!this.released) this.holder = PROGRAM;
  }

  /** @internal Scopes and passes leave this memory to the caller, who releases it. */
  hold(): void {
    if (this.holder !== PROGRAM && !this.released) this.holder = LIBRARY;
  }

  /**
   * @internal The elements for somebody who keeps them and may write to them unseen. From now on they lie in an array of their own,
   * which every view of it keeps alive: memory of a backend would go to others once no tensor lies there.
   */
  expose(): TypedArray {
    const { memory } = this;
    if ('array' in memory) {
      const own = allocateArray(this.dtype, this.size);
      own.set(memory.array);
      this.#memory = own;
      memory.release();
    }
    this.exposed = true;
    this.keep();
    return this.array;
  }

  /**
   * @internal Leaves the elements to `make`, which runs when somebody next asks for them: whatever lies here now is out of date.
   * `dispose` is called when the storage is released or deferred again, whether anybody asked or not.
   */
  defer(make: Make, dispose: (() => void) | null): void {
    this.#dispose?.();
    this.#make = make;
    this.#dispose = dispose;
  }

  /** @internal Computes the elements if they are lazy. */
  materialize(): void {
    const make = this.#make;
    if (make === null) return;
    this.#make = null;
    try {
      this.#memory = unscoped(make);
    } catch (error) {
      this.#make = make;
      throw error;
    }
  }

  /** Gives the memory back, unless the program holds it. `why` completes "it was released …". */
  release(why = 'by its owner, which has no more use for it'): void {
    if (this.holder === PROGRAM || this.released || !releasing) return;
    this.#dispose?.();
    this.#dispose = null;
    this.#make = null;
    if (this.#memory !== null && 'release' in this.#memory) this.#memory.release();
    this.#memory = null;
    this.holder = why;
  }
}

const sizeOfMemory = (memory: TypedArray | Region | null): number =>
  memory === null ? 0 : 'size' in memory ? memory.size : memory.length;

/** A storage for `size` elements, with any content. Throws a DTypeError if the device has no such elements. */
export function allocate(backend: Backend, dtype: DType, size: number): Storage {
  if (backend.dtypes !== undefined) checkDType(backend, dtype);
  return new Storage(backend, dtype, backend.allocate(dtype, size));
}

/** A storage of the elements of `data`, which nobody else writes to. Throws a DTypeError if the device has no such elements. */
export function storageOf(backend: Backend, dtype: DType, data: TypedArray): Storage {
  if (backend.dtypes !== undefined) checkDType(backend, dtype);
  return new Storage(backend, dtype, backend.store(data));
}

/** `x`, which outlives scopes and passes until the caller releases its storage. */
export function held<T extends { readonly storage: Storage }>(x: T): T {
  x.storage.hold();
  return x;
}

/** The storages that are made while it is the innermost one that is open. */
export class Scope {
  readonly made: Storage[] = [];
  /** Whether its end releases what it holds. */
  readonly releases: boolean;

  constructor(releases: boolean) {
    this.releases = releases;
  }

  take(storage: Storage): void {
    storage.holder = this;
    this.made.push(storage);
  }
}

/** The open ones, the innermost last. */
const scopes: Scope[] = [];

/** Whether a scope is open whose end releases something. */
export const inScope = (): boolean => scopes.some(({ releases }) => releases);

/** Runs `run` while `own` is the innermost scope. */
export function within<T>(own: Scope, run: () => T): T {
  scopes.push(own);
  try {
    return run();
  } finally {
    scopes.pop();
  }
}

/** Leaves a storage to the innermost open scope, or to the collector. */
export function leave(storage: Storage): void {
  storage.holder = null;
  scopes.at(-1)?.take(storage);
}

/** Runs `run` in a scope that releases nothing, and returns that. */
export function tracking(run: () => void): Scope {
  const own = new Scope(false);
  within(own, run);
  return own;
}

/** Runs `run` outside of every scope: what it creates (optimizer state, say) lives as long as it is reachable. */
export function unscoped<T>(run: () => T): T {
  if (typeof run !== 'function') checkArgument('unscoped', 'run', run, aFunction);
  if (scopes.length === 0) return run();
  const open = scopes.splice(0);
  try {
    return run();
  } finally {
    scopes.push(...open);
  }
}
