/**
 * Reverse-mode differentiation over the recorded graph: `backward` and `grad`. It knows no operation by name. Gradients
 * of broadcast operands are summed back here, and the walk is iterative, so that depth costs no stack.
 */

import { aBoolean, checkArgument, checkOptions } from './check.ts';
import { describe, GraphError, ShapeError } from './errors.ts';
import { fullLike } from './fill.ts';
import { isRecording, Node, withRecording } from './graph.ts';
import { cast } from './ops/cast.ts';
import { add } from './ops/elementwise.ts';
import { sumTo } from './ops/reduce.ts';
import { clone } from './ops/view.ts';
import { asPass, outsidePass } from './pass.ts';
import { sameShape } from './shape.ts';
import { inScope, leave, type Storage, tracking, unscoped } from './storage.ts';
import { aTensor, checkSameDevice, checkTensors, someTensors, type Tensor } from './tensor.ts';
import { noteGradient } from './untrained.ts';

/** All nodes that `y` depends on, outputs before inputs; none behind `stops`. */
function reachable(y: Tensor, stops?: ReadonlySet<Tensor>): Node[] {
  const found: Node[] = [];
  const open: Node[] = y.node === null ? [] : [y.node];
  const search = Node.newSearch();
  let last = Infinity;
  let ordered = true;
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node.search === search) continue;
    node.search = search;
    found.push(node);
    if (node.order > last) ordered = false;
    last = node.order;
    const { inputs } = node;
    for (let i = 0; i < inputs.length; i++) {
      const next = inputs[i]!.node;
      if (next !== null && next.search !== search && !stops?.has(inputs[i]!)) open.push(next);
    }
  }
  // A chain comes in order, and most graphs are nearly one.
  return ordered ? found : found.sort((a, b) => b.order - a.order);
}

/** The nodes among `nodes` (outputs first) through which `targets` influence the result. */
function leadingTo(targets: ReadonlySet<Tensor>, nodes: readonly Node[]): Set<Node> {
  const useful = new Set<Node>();
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    if (node.inputs.some(x => targets.has(x) || (x.node !== null && useful.has(x.node)))) useful.add(node);
  }
  return useful;
}

/** Checks what is differentiated, and returns `gy` in its dtype. */
function seed(y: Tensor, gy: Tensor | undefined, op: string): Tensor | undefined {
  if (!y.requiresGrad)
    throw new GraphError(
      `${op}: ${describe(y)} does not require a gradient: no input of its computation does, or it ran inside noGrad`,
    );
  if (gy === undefined) {
    if (y.size !== 1)
      throw new ShapeError(
        `${op}: expected a scalar, got ${describe(y)}; give gy, the gradient of what you differentiate by it`,
      );
    return undefined;
  }
  checkArgument(op, 'gy', gy, aTensor);
  if (!sameShape(gy.shape, y.shape))
    throw new ShapeError(`${op}: expected gy like ${describe(y)}, got ${describe(gy)}`);
  checkSameDevice(op, gy, y.storage);
  return cast(gy, y.dtype);
}

/**
 * The gradients on their way, and the memory that the walk itself made for them: it is their holder until somebody else
 * takes them, and frees them as soon as none needs it. Storages count their uses themselves; a walk inside of another (from
 * a hook) gives back what it counted.
 */
class Walk {
  // Intermediates are keyed by their node, so that no tensor is held longer than by the graph.
  readonly #gradients = new Map<Node | Tensor, Tensor>();
  readonly #frees: boolean;
  /** Memory to look at again when the rule that is running has ended. */
  #spent: Storage[] = [];
  /** What a recorded walk made: its graph needs all of it. */
  readonly #made: Storage[] = [];

  /** @param frees whether memory is freed on the way; not while the walk itself is recorded */
  constructor(frees: boolean) {
    this.#frees = frees;
  }

  take(key: Node | Tensor): Tensor | undefined {
    const gx = this.#gradients.get(key);
    if (gx === undefined) return undefined;
    this.#gradients.delete(key);
    gx.storage.uses--;
    return gx;
  }

  /** Whether this is the first gradient of `key` that is on its way. */
  accumulate(key: Node | Tensor, gx: Tensor): boolean {
    const before = this.take(key);
    const sum = before === undefined ? gx : add(before, gx);
    this.#gradients.set(key, sum);
    sum.storage.uses++;
    if (before !== undefined) this.#spent.push(before.storage);
    return before === undefined;
  }

  /**
   * Runs what deals with the rule of a node: what is made inside is the walk's. Only when all gradients that the rule handed
   * out have been counted, what none of them needs is freed, the gradient `consumed` too.
   */
  run(deal: () => void, consumed: Tensor): void {
    const own = tracking(deal);
    const { made } = own;
    for (let i = 0; i < made.length; i++) if (made[i]!.holder === own) made[i]!.holder = this;
    if (!this.#frees) {
      this.#made.push(...made);
      return;
    }
    for (let i = 0; i < made.length; i++) this.#drop(made[i]!);
    for (let i = 0; i < this.#spent.length; i++) this.#drop(this.#spent[i]!);
    if (this.#spent.length > 0) this.#spent = [];
    this.#drop(consumed.storage);
  }

  /** Makes the walk the holder of memory that nobody else holds. */
  own(storage: Storage): void {
    if (!storage.kept) storage.holder = this;
  }

  /** Whether somebody besides the gradient that was just taken has this memory, or may have it. */
  shares(storage: Storage): boolean {
    return storage.uses > 0 || storage.holder !== this;
  }

  /** Others hold this memory from now on. Whether it was the walk's own. */
  release(storage: Storage): boolean {
    if (storage.holder !== this) return false;
    leave(storage);
    return true;
  }

  /**
   * Forgets the gradients that nobody has taken. What a recorded walk made, only the graphs of its results need: it goes with them, or in
   * a scope with that.
   */
  end(results: Iterable<Tensor>): void {
    for (const { storage } of this.#gradients.values()) storage.uses--;
    const own = this.#made.filter(({ holder }) => holder === this);
    const memory = { storages: own, owners: 0 };
    if (!inScope()) for (const { node } of results) node?.share(memory);
    for (const storage of own) {
      if (memory.owners > 0) storage.holder = memory;
      else this.release(storage);
    }
  }

  #drop(storage: Storage): void {
    if (storage.uses > 0 || storage.holder !== this) return;
    storage.release(PASSED);
  }
}

const PASSED = 'when the backward pass ended that it was a gradient in; a hook (onGrad) may keep it';

/** The walk that is running, for rules that tell one from another. */
export let walking: Walk | null = null;

/**
 * Propagates the gradient of `y` (`gy`, or 1 for a scalar) through `nodes` (outputs first) and calls `arrive` for every
 * tensor on the way that `wants` names, with its complete gradient and whether nobody else has that memory. Hooks have run
 * on it by then, on a copy where they could reach the memory of other gradients. `results` is asked for in the end. What `stop` takes, a
 * summand of the gradient of `x`, goes no further.
 */
function propagate(
  y: Tensor,
  gy: Tensor | undefined,
  nodes: readonly Node[],
  wants: (x: Tensor) => boolean,
  arrive: (x: Tensor, gx: Tensor, own: boolean) => void,
  results?: () => Iterable<Tensor>,
  stop?: (x: Tensor, summand: Tensor) => boolean,
): void {
  const walk = new Walk(!isRecording());
  const around = walking;
  walking = walk;
  const leaves: Tensor[] = y.node === null ? [y] : [];
  const deliver = (x: Tensor, complete: Tensor): Tensor => {
    let gx = complete;
    if (x.hasGradHooks) {
      if (!x.gradHooksBorrow) {
        if (walk.shares(complete.storage) || !complete.isContiguous) gx = clone(complete);
        else walk.release(complete.storage);
      }
      gx = x.runGradHooks(gx);
    }
    if (wants(x)) arrive(x, gx, walk.release(gx.storage));
    return gx;
  };
  const deal = (node: Node, gout: Tensor): void => {
    const gradients = node.gradients(gout);
    const { inputs } = node;
    for (let i = 0; i < inputs.length; i++) {
      const [x, gx] = [inputs[i]!, gradients[i]];
      if (gx === null || gx === undefined || !x.requiresGrad) continue;
      if (stop?.(x, gx)) continue;
      // `grad` visits only part of the graph: the gradients of other leaves would stay incomplete.
      if (x.node === null && !wants(x)) continue;
      const first = walk.accumulate(x.node ?? x, cast(sumTo(gx, x.shape), x.dtype));
      if (first && x.node === null && x !== y) leaves.push(x);
    }
  };

  try {
    const start = gy ?? fullLike('backward', y, 1, y.shape);
    if (gy === undefined) walk.own(start.storage);
    walk.accumulate(y.node ?? y, start);
    for (const node of nodes) {
      const complete = walk.take(node);
      if (complete === undefined) continue;
      const gout = deliver(node.result, complete);
      if (node.op.builtIn) walk.run(() => deal(node, gout), gout);
      else {
        // A rule from outside may keep what it sees.
        walk.release(gout.storage);
        deal(node, gout);
      }
    }
    for (const leaf of leaves) deliver(leaf, walk.take(leaf)!);
  } finally {
    walk.end(results?.() ?? []);
    walking = around;
  }
}

/**
 * Adds the gradient of `y` to `.grad` of every leaf it depends on, and frees the graph. `gy` is needed where `y` is not
 * a scalar. Nothing is accumulated if the walk throws.
 */
export function backward(y: Tensor, gy?: Tensor): void {
  asPass(() => unscoped(() => withRecording(false, () => accumulateGradients(y, gy))));
}

function accumulateGradients(y: Tensor, gy: Tensor | undefined): void {
  const start = seed(y, gy, 'backward');
  const nodes = reachable(y);
  const leaves: Tensor[] = [];
  const gradients: Tensor[] = [];
  propagate(y, start, nodes, isLeaf, (x, gx, own) => {
    // A leaf's gradient shares memory with nobody: not with another leaf (the operands of a sum would), nor a hook.
    const before = x.borrowGrad();
    leaves.push(x);
    gradients.push(before !== null ? add(before, gx) : own && gx.isContiguous ? gx : clone(gx));
    if (before !== null && own && gx.storage.uses === 0) gx.storage.release();
  });
  // Nothing from here on can fail: all gradients arrive or none.
  for (let i = 0; i < leaves.length; i++) {
    leaves[i]!.receiveGrad(gradients[i]!);
    noteGradient(leaves[i]!);
  }
  for (const node of nodes) node.free();
}

const isLeaf = (x: Tensor): boolean => x.isLeaf;

/**
 * The summands of the gradients of `stops`, in the order of the walk, from the gradients of outputs, whose graph ends at `stops`. Part of the
 * pass that is running: hooks inside of that graph run. It is freed unless the walk is recorded.
 *
 * @throws GraphError if that graph has other leaves that were there before, or leads to what was recorded before
 */
export function gradientsUpTo(
  outputs: readonly (readonly [y: Tensor, gy: Tensor])[],
  stops: ReadonlySet<Tensor>,
  createGraph: boolean,
  check: (x: Tensor) => void,
): Map<Tensor, Tensor[]> {
  const summands = new Map<Tensor, Tensor[]>();
  /** Held until the walk ends. */
  const arrived: Storage[] = [];
  const stop = (x: Tensor, gx: Tensor): boolean => {
    if (!stops.has(x)) return false;
    const summand = cast(sumTo(gx, x.shape), x.dtype);
    summand.storage.uses++;
    arrived.push(summand.storage);
    summands.set(x, [...(summands.get(x) ?? []), summand]);
    return true;
  };
  const leaveAll = () => {
    for (const storage of arrived) {
      storage.uses--;
      walking!.release(storage);
    }
    return [];
  };
  if (outputs.length === 0) return summands;
  const [first] = outputs[0]!;
  // One node that all outputs lead to.
  const root = fullLike('backward', first, 0, [], first.dtype);
  const rule = { name: 'backward', builtIn: true, backward: () => outputs.map(([, gy]) => gy) };
  root.requiresGrad = true;
  root.node = new Node(
    rule,
    outputs.map(([y]) => y),
    root,
    null,
  );
  withRecording(createGraph, () => {
    const nodes = reachable(root, stops);
    for (const { inputs } of nodes) for (const x of inputs) if (x.requiresGrad && !stops.has(x)) check(x);
    propagate(
      root,
      undefined,
      nodes,
      () => false,
      () => {},
      leaveAll,
      stop,
    );
    if (!createGraph) for (const node of nodes) node.free();
  });
  return summands;
}

/** Options of `grad`. */
export type GradOptions = {
  /** The gradient of what is differentiated by `y`; may be left out for a scalar. */
  gy?: Tensor;
  /** Records the computation of the gradients itself, for higher derivatives. Default false. */
  createGraph?: boolean;
  /** Gives null for tensors that `y` does not depend on, instead of an error. Default false. */
  allowUnused?: boolean;
};

/**
 * The gradients of `y` by `xs`, leaves or intermediates, without touching any `.grad`. The graph of `y` stays.
 *
 * @throws GraphError if `y` does not depend on one of `xs`, unless `allowUnused`
 */
export function grad<const X extends readonly Tensor[]>(
  y: Tensor,
  xs: X,
  o?: GradOptions & { allowUnused?: false },
): { -readonly [I in keyof X]: Tensor };
export function grad<const X extends readonly Tensor[]>(
  y: Tensor,
  xs: X,
  o?: GradOptions,
): { -readonly [I in keyof X]: Tensor | null };
export function grad(y: Tensor, xs: readonly Tensor[], o: GradOptions = {}): (Tensor | null)[] {
  checkTensors('grad', y);
  checkArgument('grad', 'xs', xs, someTensors);
  checkOptions('grad', o, { gy: aTensor, createGraph: aBoolean, allowUnused: aBoolean });
  return apart(o.createGraph ?? false, () => {
    const start = seed(y, o.gy, 'grad');
    const targets = new Set(xs);
    const all = reachable(y);
    const useful = leadingTo(targets, all);
    const found = new Map<Tensor, Tensor>();
    const nodes = all.filter(node => useful.has(node) || targets.has(node.result));
    propagate(
      y,
      start,
      nodes,
      x => targets.has(x),
      // Each is the caller's alone, to write to.
      (x, gx, own) => found.set(x, own && gx.isContiguous ? gx : clone(gx)),
      () => found.values(),
    );
    return xs.map((x, i) => {
      const gx = found.get(x) ?? null;
      if (gx === null && !o.allowUnused)
        throw new GraphError(`grad: y ${describe(y)} does not depend on xs[${i}], ${describe(x)}`);
      return gx;
    });
  });
}

/** Recording or not, and no part of a backward pass that may be running. */
const apart = <T>(records: boolean, run: () => T): T => outsidePass(() => withRecording(records, run));
