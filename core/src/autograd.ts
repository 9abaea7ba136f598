/**
 * Reverse-mode differentiation over the recorded graph: `backward` and `grad`. It knows no operation by name. Gradients
 * of broadcast operands are summed back here, and the walk is iterative, so that depth costs no stack.
 */

import { full } from './create.ts';
import { describe, GraphError, ShapeError } from './errors.ts';
import { isRecording, Node, withRecording } from './graph.ts';
import { cast } from './ops/cast.ts';
import { add } from './ops/elementwise.ts';
import { sumTo } from './ops/reduce.ts';
import { clone } from './ops/view.ts';
import { asPass, outsidePass } from './pass.ts';
import { sameShape } from './shape.ts';
import { type Storage, tracking, unscoped } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** All nodes that `y` depends on, outputs before inputs. */
function reachable(y: Tensor): Node[] {
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
      if (next !== null && next.search !== search) open.push(next);
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

function seed(y: Tensor, gy: Tensor | undefined, op: string): Tensor {
  if (!y.requiresGrad)
    throw new GraphError(
      `${op}: ${describe(y)} does not require a gradient: no input of its computation does, or it ran inside noGrad`,
    );
  if (gy === undefined) {
    if (y.size !== 1)
      throw new ShapeError(
        `${op}: expected a scalar, got ${describe(y)}; give gy, the gradient of what you differentiate by it`,
      );
    return full(y.shape, 1, { dtype: y.dtype, device: y.device });
  }
  if (!sameShape(gy.shape, y.shape))
    throw new ShapeError(`${op}: expected gy like ${describe(y)}, got ${describe(gy)}`);
  return cast(gy, y.dtype);
}

/**
 * The gradients on their way, and the memory that the walk itself made for them: freed as soon as none needs it. Storages
 * count their uses themselves; a walk inside of another (from a hook) gives back what it counted.
 */
class Walk {
  // Intermediates are keyed by their node, so that no tensor is held longer than by the graph.
  readonly #gradients = new Map<Node | Tensor, Tensor>();
  readonly #frees: boolean;

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
    if (before !== undefined) this.#drop(before.storage);
    return before === undefined;
  }

  /**
   * Runs a rule. What it made, did not mark with `keep` and no gradient needs is freed, and so is `consumed`, if the walk made
   * it.
   */
  run(rule: () => void, consumed: Tensor): void {
    if (!this.#frees) {
      rule();
      return;
    }
    const made = tracking(rule);
    for (let i = 0; i < made.length; i++) {
      if (made[i]!.kept) continue;
      made[i]!.owner = this;
      this.#drop(made[i]!);
    }
    this.#drop(consumed.storage);
  }

  /** Others hold this memory from now on. Whether it was the walk's own. */
  release(storage: Storage): boolean {
    if (storage.owner !== this) return false;
    storage.owner = null;
    return true;
  }

  #drop(storage: Storage): void {
    if (storage.uses > 0 || storage.owner !== this) return;
    storage.owner = null;
    storage.release();
  }
}

/**
 * Propagates `gy` from `y` through `nodes` (outputs first) and calls `arrive` for every tensor on the way that `wants`
 * names, with its complete gradient and whether the walk itself made that, so that nobody else holds it. Hooks have run
 * on it by then. Returns the memory that hooks have seen or given.
 */
function propagate(
  y: Tensor,
  gy: Tensor,
  nodes: readonly Node[],
  wants: (x: Tensor) => boolean,
  arrive: (x: Tensor, gx: Tensor, own: boolean) => void,
): Set<Storage> | null {
  const walk = new Walk(!isRecording());
  const leaves: Tensor[] = y.node === null ? [y] : [];
  let hooked: Set<Storage> | null = null;
  const settle = (x: Tensor, complete: Tensor): Tensor => {
    let gx = complete;
    if (x.hasGradHooks) {
      if (!x.gradHooksBorrow) walk.release(complete.storage);
      gx = x.runGradHooks(complete);
      if (!x.gradHooksBorrow || gx !== complete) {
        hooked ??= new Set();
        hooked.add(complete.storage).add(gx.storage);
      }
    }
    if (wants(x)) {
      const own = walk.release(gx.storage);
      arrive(x, gx, own);
    }
    return gx;
  };

  walk.accumulate(y.node ?? y, gy);
  for (const node of nodes) {
    const complete = walk.take(node);
    if (complete === undefined) continue;
    const gout = settle(node.result, complete);
    const rule = () => {
      const gradients = node.gradients(gout);
      const { inputs } = node;
      for (let i = 0; i < inputs.length; i++) {
        const [x, gx] = [inputs[i]!, gradients[i]];
        if (gx === null || gx === undefined || !x.requiresGrad) continue;
        // `grad` visits only part of the graph: the gradients of other leaves would stay incomplete.
        if (x.node === null && !wants(x)) continue;
        const first = walk.accumulate(x.node ?? x, cast(sumTo(gx, x.shape), x.dtype));
        if (first && x.node === null && x !== y) leaves.push(x);
      }
    };
    if (node.op.builtIn) walk.run(rule, gout);
    else {
      // A rule from outside may keep what it sees.
      walk.release(gout.storage);
      rule();
    }
  }
  for (const leaf of leaves) settle(leaf, walk.take(leaf)!);
  return hooked;
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
  const owns: boolean[] = [];
  const arrive = (x: Tensor, gx: Tensor, own: boolean) => {
    leaves.push(x);
    gradients.push(gx);
    owns.push(own);
  };
  const hooked = propagate(y, start, nodes, isLeaf, arrive);
  for (let i = 0; i < leaves.length; i++) {
    const [x, gx] = [leaves[i]!, gradients[i]!];
    // A leaf's gradient shares memory with nobody: not with another leaf (the operands of a sum would), nor a hook.
    const { storage } = gx;
    const shared = storage.owner === leaves || storage === gy?.storage || hooked?.has(storage);
    const before = x.borrowGrad();
    let g = gx;
    if (before !== null) g = add(before, gx);
    else if (shared || !gx.isContiguous) g = clone(gx);
    if (g !== gx || owns[i]) x.receiveGrad(g);
    else x.grad = g;
    g.storage.owner = leaves;
  }
  for (const x of leaves) x.borrowGrad()!.storage.owner = null;
  for (const node of nodes) node.free();
}

const isLeaf = (x: Tensor): boolean => x.isLeaf;

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
export function grad(y: Tensor, xs: readonly Tensor[], o?: GradOptions & { allowUnused?: false }): Tensor[];
export function grad(y: Tensor, xs: readonly Tensor[], o?: GradOptions): (Tensor | null)[];
export function grad(y: Tensor, xs: readonly Tensor[], o: GradOptions = {}): (Tensor | null)[] {
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
      (x, gx) => found.set(x, gx),
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
