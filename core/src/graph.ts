/** The recorded graph: one node for each differentiable operation that ran, and whether operations record at all. */

import { aFunction, checkArgument, inspect } from './check.ts';
import { GraphError } from './errors.ts';
import { releaseInside } from './scope.ts';
import type { Storage } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** What autograd needs of an operation: its name and the rule for its gradients. */
export interface Differentiable<A> {
  readonly name: string;
  /** True for the library's own operations, whose rules keep no tensor that they see: gradients can be freed early. */
  readonly builtIn?: boolean;
  /** Gradients of the inputs, `null` where there is none. They may have the broadcast shape; autograd sums them back. */
  backward(gy: Tensor, node: Node<A>): readonly (Tensor | null)[];
}

/** Memory whose holder it is, of several nodes. */
export type SharedMemory = { readonly storages: readonly Storage[]; owners: number };

let counter = 0;
let searches = 0;

/** The order of the last node that was made. */
export const newestOrder = (): number => counter - 1;

/** One recorded operation. Inputs precede outputs, so descending `order` is a topological order of the backward pass. */
export class Node<A = unknown> {
  readonly op: Differentiable<A>;
  readonly attrs: A;
  readonly order: number;
  /** The last walk that met this node. */
  search = 0;
  /** Whether what it needs survives the scopes that it was made in, because a result was kept. */
  survives = false;
  /** Memory that goes with this node: what was made before its result and nobody else sees. */
  #adopted: readonly Storage[] | null = null;
  /** The same of several nodes: it goes with the last of them. */
  #shared: SharedMemory[] | null = null;
  #inputs: readonly Tensor[] | null;
  #output: Tensor | null;
  readonly #versions: number[];
  readonly #outputVersion: number;

  constructor(op: Differentiable<A>, inputs: readonly Tensor[], output: Tensor, attrs: A) {
    this.op = op;
    this.attrs = attrs;
    this.order = counter++;
    this.#inputs = inputs;
    this.#output = output;
    const versions = new Array<number>(inputs.length);
    for (let i = 0; i < inputs.length; i++) versions[i] = inputs[i]!.storage.version;
    this.#versions = versions;
    this.#outputVersion = output.storage.version;
  }

  /** A number for a walk over the graph, to mark the nodes it has met; nothing else may walk until it is done. */
  static newSearch(): number {
    return ++searches;
  }

  /** The inputs, for shapes and for walking the graph. A rule that needs their values asks `input(i)`. */
  get inputs(): readonly Tensor[] {
    if (this.#inputs === null) throw this.#freed();
    return this.#inputs;
  }

  /** The tensor this operation made, for walking the graph. A rule that needs its values asks `output`. */
  get result(): Tensor {
    if (this.#output === null) throw this.#freed();
    return this.#output;
  }

  /** True if input `i` takes part in differentiation; a rule may skip the others. */
  needs(i: number): boolean {
    return this.inputs[i]!.requiresGrad;
  }

  /** Input `i` with the values it had in the forward pass. Throws a GraphError if they were changed since. */
  input(i: number): Tensor {
    const x = this.inputs[i]!;
    this.#check(x, this.#versions[i]!, `input ${i}`);
    return x;
  }

  /** The result of the forward pass. Throws a GraphError if it was changed since. */
  get output(): Tensor {
    const y = this.result;
    this.#check(y, this.#outputVersion, 'output');
    return y;
  }

  gradients(gy: Tensor): readonly (Tensor | null)[] {
    return this.op.backward(gy, this);
  }

  /** Takes charge of memory whose holder it is: `free` releases it. */
  adopt(storages: readonly Storage[]): void {
    this.#adopted = this.#adopted === null ? storages : [...this.#adopted, ...storages];
  }

  /** The same for memory of several nodes. */
  share(memory: SharedMemory): void {
    memory.owners++;
    this.#shared = [...(this.#shared ?? []), memory];
  }

  /** For consoles. */
  [inspect](): string {
    return `Node ${this.op.name}${this.freed ? ', freed' : ''}`;
  }

  /** Lets inputs and output go; a later backward through this node throws. */
  free(): void {
    if (this.#adopted !== null) releaseInside(this, this.#adopted);
    this.#adopted = null;
    for (const memory of this.#shared ?? []) if (--memory.owners === 0) releaseInside(memory, memory.storages);
    this.#shared = null;
    this.#inputs = null;
    this.#output = null;
  }

  get freed(): boolean {
    return this.#inputs === null;
  }

  #freed(): GraphError {
    return new GraphError(
      `${this.op.name}: its graph was freed by an earlier backward; run the forward pass again, ` +
        'or use grad(y, xs), which keeps the graph',
    );
  }

  #check(x: Tensor, version: number, what: string): void {
    if (x.storage.version !== version)
      throw new GraphError(
        `${this.op.name}: backward needs its ${what}, [${x.shape.join(',')}], as it was in the forward pass, ` +
          `but it was changed in place since (version ${x.storage.version}, expected ${version})`,
      );
  }
}

let recording = true;

/** True while operations on tensors that require a gradient are recorded. */
export function isRecording(): boolean {
  return recording;
}

/** Runs `run` with recording switched on or off, and restores it after. */
export function withRecording<T>(on: boolean, run: () => T): T {
  const before = recording;
  recording = on;
  try {
    return run();
  } finally {
    recording = before;
  }
}

/** Runs `run` without recording a graph: for evaluation and updates. Its results do not require gradients. */
export function noGrad<T>(run: () => T): T {
  if (typeof run !== 'function') checkArgument('noGrad', 'run', run, aFunction);
  return withRecording(false, () => {
    const result = run();
    if (result instanceof Promise)
      throw new TypeError('noGrad: expected a synchronous function, got one that returns a promise');
    return result;
  });
}
