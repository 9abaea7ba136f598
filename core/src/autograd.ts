/**
 * Reverse-mode differentiation over the recorded graph: `backward` and `grad`. It knows no operation by name. Gradients
 * of broadcast operands are summed back here, and the walk is iterative, so that depth costs no stack.
 */

import { full } from './create.ts';
import { describe, GraphError, ShapeError } from './errors.ts';
import { isRecording, type Node, withRecording } from './graph.ts';
import { cast } from './ops/cast.ts';
import { add } from './ops/elementwise.ts';
import { sumTo } from './ops/reduce.ts';
import { clone } from './ops/view.ts';
import { sameShape } from './shape.ts';
import { type Storage, tracking, unscoped } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** All nodes that `y` depends on, outputs before inputs. */
function reachable(y: Tensor): Node[] {
  const found = new Set<Node>();
  const open: Node[] = y.node === null ? [] : [y.node];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    for (const x of node.inputs) if (x.node !== null && !found.has(x.node)) open.push(x.node);
  }
  return [...found].sort((a, b) => b.order - a.order);
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

/** The gradients on their way, and the memory that the walk itself made for them: freed as soon as none needs it. */
class Pending {
  // Intermediates are keyed by their node, so that no tensor is held longer than by the graph.
  readonly #gradients = new Map<Node | Tensor, Tensor>();
  readonly #uses = new Map<Storage, number>();
  readonly #own = new Set<Storage>();
  readonly #frees: boolean;

  /** @param frees whether memory is freed on the way; not while the walk itself is recorded */
  constructor(frees: boolean) {
    this.#frees = frees;
  }

  take(key: Node | Tensor): Tensor | undefined {
    const gx = this.#gradients.get(key);
    if (gx === undefined) return undefined;
    this.#gradients.delete(key);
    this.#uses.set(gx.storage, this.#uses.get(gx.storage)! - 1);
    return gx;
  }

  accumulate(key: Node | Tensor, gx: Tensor): void {
    const before = this.take(key);
    const sum = before === undefined ? gx : add(before, gx);
    this.#gradients.set(key, sum);
    this.#uses.set(sum.storage, (this.#uses.get(sum.storage) ?? 0) + 1);
    if (before !== undefined) this.#drop(before.storage);
  }

  /** Runs a rule. What it made and no gradient needs is freed, and so is `consumed`, if the walk made it. */
  run(rule: () => void, consumed: Tensor): void {
    if (!this.#frees) {
      rule();
      return;
    }
    for (const storage of tracking(rule)) {
      this.#own.add(storage);
      this.#drop(storage);
    }
    this.#drop(consumed.storage);
  }

  /** Others hold this memory from now on. */
  release(storage: Storage): void {
    this.#own.delete(storage);
  }

  #drop(storage: Storage): void {
    if ((this.#uses.get(storage) ?? 0) > 0 || !this.#own.delete(storage)) return;
    this.#uses.delete(storage);
    storage.release();
  }
}

/**
 * Propagates `gy` from `y` through `nodes` (outputs first) and calls `arrive` for every tensor on the way that `wants`
 * names, with its complete gradient. Hooks have run on it by then. Returns the memory that hooks have seen or given.
 */
function propagate(
  y: Tensor,
  gy: Tensor,
  nodes: Iterable<Node>,
  wants: (x: Tensor) => boolean,
  arrive: (x: Tensor, gx: Tensor) => void,
): Set<Storage> {
  const pending = new Pending(!isRecording());
  const leaves = new Set<Tensor>(y.node === null ? [y] : []);
  const hooked = new Set<Storage>();
  const settle = (x: Tensor, complete: Tensor): Tensor => {
    let gx = complete;
    if (x.hasGradHooks) {
      pending.release(complete.storage);
      gx = x.runGradHooks(complete);
      hooked.add(complete.storage).add(gx.storage);
    }
    if (wants(x)) {
      pending.release(gx.storage);
      arrive(x, gx);
    }
    return gx;
  };

  pending.accumulate(y.node ?? y, gy);
  for (const node of nodes) {
    const complete = pending.take(node);
    if (complete === undefined) continue;
    const gout = settle(node.result, complete);
    const rule = () => {
      const gradients = node.gradients(gout);
      node.inputs.forEach((x, i) => {
        const gx = gradients[i];
        if (gx === null || gx === undefined || !x.requiresGrad) return;
        if (x.node === null) {
          // `grad` visits only part of the graph: the gradients of other leaves would stay incomplete.
          if (!wants(x)) return;
          leaves.add(x);
        }
        pending.accumulate(x.node ?? x, cast(sumTo(gx, x.shape), x.dtype));
      });
    };
    if (node.op.builtIn) pending.run(rule, gout);
    else {
      // A rule from outside may keep what it sees.
      pending.release(gout.storage);
      rule();
    }
  }
  for (const leaf of leaves) settle(leaf, pending.take(leaf)!);
  return hooked;
}

/**
 * Adds the gradient of `y` to `.grad` of every leaf it depends on, and frees the graph. `gy` is needed where `y` is not
 * a scalar. Nothing is accumulated if the walk throws.
 */
export function backward(y: Tensor, gy?: Tensor): void {
  unscoped(() =>
    withRecording(false, () => {
      const start = seed(y, gy, 'backward');
      const nodes = reachable(y);
      const arrived: [Tensor, Tensor][] = [];
      const taken = propagate(
        y,
        start,
        nodes,
        x => x.isLeaf,
        (x, gx) => arrived.push([x, gx]),
      );
      // A leaf's gradient shares memory with nobody: not with another leaf (the operands of a sum would), nor a hook.
      if (gy !== undefined) taken.add(gy.storage);
      for (const [x, gx] of arrived) {
        if (x.grad !== null) x.grad = add(x.grad, gx);
        else x.grad = taken.has(gx.storage) || !gx.isContiguous ? clone(gx) : gx;
        taken.add(x.grad.storage);
      }
      for (const node of nodes) node.free();
    }),
  );
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
export function grad(y: Tensor, xs: readonly Tensor[], o?: GradOptions & { allowUnused?: false }): Tensor[];
export function grad(y: Tensor, xs: readonly Tensor[], o?: GradOptions): (Tensor | null)[];
export function grad(y: Tensor, xs: readonly Tensor[], o: GradOptions = {}): (Tensor | null)[] {
  return withRecording(o.createGraph ?? false, () => {
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
