/**
 * Storage: the memory behind one or several tensors (views share it), and how long it lives.
 *
 * The rule is "reachable means valid": tensors, graph nodes and closures hold storages strongly, nobody counts
 * references, and what the program cannot reach any more is collected, in a synchronous loop too. On top of that some
 * memory is given back earlier, where the library knows that nobody reads it again. Each storage has at most one holder
 * that may do so:
 *
 * | holder        | gives the memory back                       | becomes the holder                                         |
 * |---------------|---------------------------------------------|------------------------------------------------------------|
 * | null          | nobody: the collector finds it              | what is made outside of scopes, or outlives its holder     |
 * | an open Scope | at its end, unless the tensor leaves it     | of all that is made inside                                 |
 * | a graph Node  | when backward frees the node                | of what built-in layers make between input and result      |
 * | a Walk        | when no gradient on its way lies there      | of what gradient rules make                                |
 * | LIBRARY       | the part of the library that called `hold`  | of what that part will release itself                      |
 * | PROGRAM       | nobody: the collector finds it              | by `keep`, `ndarray` and hooks; it stays the holder        |
 *
 * `release` is the only way back. It does nothing to what the program holds, and what is released remembers why, so that
 * reading it is an error that says so, never a wrong number.
 */

import type { Backend } from './backends/backend.ts';
import { aFunction, checkArgument, inspect, received } from './check.ts';
import { allocateArray, type DType, type TypedArray } from './dtype.ts';
import { describe, ReleasedError } from './errors.ts';
import type { Node } from './graph.ts';
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
  /** @internal Who may give the memory back before the collector does; see the table above. */
  holder: object | null = null;
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
  #why = '';

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
      throw new ReleasedError(`read: this ${this.dtype} tensor of ${this.size} elements was released ${this.#why}`);
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
    return this.#memory === null ? `released ${this.#why}` : this.array;
  }

  /** For consoles. */
  [inspect](): string {
    return `Storage ${describe({ dtype: this.dtype, shape: [this.size] })} on '${this.backend.device}'`;
  }

  get released(): boolean {
    return this.#memory === null && this.#make === null;
  }

  /** Whether the program holds this memory, so that nobody gives it back early. */
  get kept(): boolean {
    return this.holder === PROGRAM;
  }

  /** The program holds this memory from now on. */
  keep(): void {
    this.holder = PROGRAM;
  }

  /** @internal Scopes and passes leave this memory to the caller, who releases it. */
  hold(): void {
    if (this.holder !== PROGRAM) this.holder = LIBRARY;
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
    if (this.holder === PROGRAM || !releasing) return;
    this.#dispose?.();
    this.#dispose = null;
    this.#make = null;
    if (this.#memory !== null && 'release' in this.#memory) this.#memory.release();
    this.#memory = null;
    this.#why = why;
  }
}

const sizeOfMemory = (memory: TypedArray | Region | null): number =>
  memory === null ? 0 : 'size' in memory ? memory.size : memory.length;

/** A storage for `size` elements, with any content. */
export function allocate(backend: Backend, dtype: DType, size: number): Storage {
  return new Storage(backend, dtype, backend.allocate(dtype, size));
}

/** `x`, which outlives scopes and passes until the caller releases its storage. */
export function held<T extends { readonly storage: Storage }>(x: T): T {
  x.storage.hold();
  return x;
}

/** What was made while it was the innermost one. */
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

const scopes: Scope[] = [];

/** Leaves a storage to the innermost open scope, or to the collector. */
export function leave(storage: Storage): void {
  storage.holder = null;
  scopes.at(-1)?.take(storage);
}

/** The tensors that a node's rule may ask for: result, inputs, and those that its attributes are or hold, such as statistics. */
function neededBy({ result, inputs, attrs }: Node): Tensor[] {
  const own = isTensor(attrs) ? [attrs] : typeof attrs === 'object' && attrs !== null ? Object.values(attrs) : [];
  return [result, ...inputs, ...own.filter(isTensor)];
}

/** What the graph of a tensor needs for backward survives the scopes that are open. */
export function keepGraph(x: { readonly node: Node | null }): void {
  if (!scopes.some(({ releases }) => releases)) return;
  const open: (Node | null)[] = [x.node];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node === null || node.survives || node.freed) continue;
    node.survives = true;
    for (const one of neededBy(node)) {
      const { holder } = one.storage;
      if (holder instanceof Scope && holder.releases) one.storage.keep();
      open.push(one.node);
    }
  }
}

const ENDED =
  'when its scope ended; return it from the scope, mark it with keep(), or copy it out with toArray() before';
const INSIDE =
  'with its graph, since a built-in layer or loss made it between its input and its result; a forward hook on the layer may ' +
  'keep it, and so may a module with a forward of its own';

/**
 * Runs `run` and then releases every tensor created inside, except those in its result (a tensor, or arrays, maps, sets
 * and objects of them), what their graphs need for backward, gradients of leaves, and what was marked with `keep` or is
 * seen by an ndarray. Nothing but an accelerator: without it the same memory is collected a little later. Nested scopes
 * hand what they return to the scope around them.
 */
export function scope<T>(run: () => T): T {
  if (typeof run !== 'function') checkArgument('scope', 'run', run, aFunction);
  const own = new Scope(true);
  scopes.push(own);
  let result: T | undefined;
  try {
    result = run();
    if (result instanceof Promise)
      throw new TypeError('scope: expected a synchronous function, got one that returns a promise');
    return result;
  } finally {
    scopes.pop();
    if (own.made.length > 0) end(own, result);
  }
}

/** Releases what a scope made, but for what is kept and what escapes to the scope around it. */
function end(own: Scope, result: unknown): void {
  const escaping = storagesIn(result);
  for (const storage of own.made) {
    if (storage.holder !== own) continue;
    if (escaping.has(storage)) leave(storage);
    else storage.release(ENDED);
  }
}

/** Runs `run` in a scope that releases nothing, and returns that. */
export function tracking(run: () => void): Scope {
  const own = new Scope(false);
  scopes.push(own);
  try {
    run();
  } finally {
    scopes.pop();
  }
  return own;
}

/**
 * Runs `run`, which makes tensors that only its result depends on and that nobody else sees. They are released with the
 * graph that they became part of, or at once where they became part of none. For the insides of built-in layers.
 *
 * @param owns asked at the end: whether that is so. False where code ran that may have kept what it saw; default true.
 */
export function owningIntermediates(run: () => Tensor, owns: () => boolean = () => true): Tensor {
  if (typeof run !== 'function') checkArgument('owningIntermediates', 'run', run, aFunction);
  let result: Tensor | undefined;
  const own = tracking(() => {
    result = run();
  });
  if (!(result?.storage instanceof Storage))
    throw new TypeError(`owningIntermediates: expected run to return a tensor, got ${received(result)}`);
  const { storage, node } = result;
  let adopted = false;
  const owning = owns();
  for (const one of own.made) {
    if (one.holder !== own) continue;
    if (one === storage || !owning) leave(one);
    else if (node === null) one.release(INSIDE);
    else {
      one.holder = node;
      adopted = true;
    }
  }
  // Some have a node of their own; indices and masks have none.
  if (adopted) node!.adopt(own.made);
  return result;
}

/** Releases what a node that is freed was the holder of. */
export function releaseInside(node: Node, storages: readonly Storage[]): void {
  for (const storage of storages) if (storage.holder === node) storage.release(INSIDE);
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

/**
 * The storages of all tensors in `value` (a tensor, or arrays, maps, sets and objects of them), and of all that their
 * graphs need for backward.
 */
function storagesIn(value: unknown): Set<Storage> {
  const storages = new Set<Storage>();
  const seen = new Set<unknown>();
  const open: unknown[] = [];
  const all = (items: Iterable<unknown>) => {
    for (const item of items) if (typeof item === 'object' && item !== null && !seen.has(item)) open.push(item);
  };
  all([value]);
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    if (typeof item !== 'object' || item === null || seen.has(item)) continue;
    seen.add(item);
    if (isTensor(item)) {
      storages.add(item.storage);
      // A node that backward freed needs nothing any more.
      if (item.node !== null && !item.node.freed) all(neededBy(item.node));
    } else if (Array.isArray(item) || item instanceof Set) all(item);
    else if (item instanceof Map) all(item.values());
    else if (!ArrayBuffer.isView(item)) all(Object.values(item));
  }
  return storages;
}

const isTensor = (item: unknown): item is Tensor =>
  typeof item === 'object' && item !== null && 'storage' in item && item.storage instanceof Storage;
