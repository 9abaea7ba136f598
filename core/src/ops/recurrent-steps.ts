/** Recurrent layers step by step in tensor operations: for devices without a kernel, and for gradients that have a graph themselves. */

import type { RecurrentCell } from '../backends/backend.ts';
import { withRecording } from '../graph.ts';
import type { Tensor } from '../tensor.ts';
import { add, gt, mul, relu, sigmoid, sub, tanh, where } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { sum } from './reduce.ts';
import { concat, narrow, stack } from './slice.ts';
import { reshape, squeeze, transpose, unsqueeze } from './view.ts';

/** All of a layer's inputs, in one dtype. */
export type RecurrentInputs = {
  /** [T, B, n h] */
  readonly p: Tensor;
  /** [n h, h] */
  readonly weight: Tensor;
  /** [n h], of a GRU alone. */
  readonly bias: Tensor | null;
  /** [B, h] */
  readonly h: Tensor;
  /** [B, h], of an LSTM alone. */
  readonly c: Tensor | null;
  /** int32 [B] */
  readonly lengths: Tensor | null;
  readonly cell: RecurrentCell;
  readonly reverse: boolean;
};

/** A step: the state before it, the values of its gates, and which sequences take part, bool [B, 1], null for all. */
type Step = {
  readonly t: number;
  readonly active: Tensor | null;
  readonly before: Tensor;
  readonly cBefore: Tensor | null;
  /** lstm i, f, g, o, tanh c; gru r, z, q, n; else the state after it. */
  readonly gates: readonly Tensor[];
};

/** The state after a step, its cells, and the values of its gates. */
function next({ cell, bias }: RecurrentInputs, p: Tensor, products: Tensor, h: Tensor, c: Tensor | null) {
  const n = h.shape[1]!;
  const part = (x: Tensor, k: number) => narrow(x, 1, k * n, n);
  if (cell === 'lstm') {
    const sums = add(p, products);
    const [i, f, g, o] = [sigmoid(part(sums, 0)), sigmoid(part(sums, 1)), tanh(part(sums, 2)), sigmoid(part(sums, 3))];
    const fresh = add(mul(f, c!), mul(i, g));
    const top = tanh(fresh);
    return { h: mul(o, top), c: fresh, gates: [i, f, g, o, top] };
  }
  if (cell === 'gru') {
    const q = bias === null ? products : add(products, bias);
    const [r, z] = [sigmoid(add(part(p, 0), part(q, 0))), sigmoid(add(part(p, 1), part(q, 1)))];
    const fresh = tanh(add(part(p, 2), mul(r, part(q, 2))));
    return { h: add(fresh, mul(z, sub(h, fresh))), c, gates: [r, z, part(q, 2), fresh] };
  }
  const state = (cell === 'tanh' ? tanh : relu)(add(p, products));
  return { h: state, c, gates: [state] };
}

function stepsOf(x: RecurrentInputs): { states: Tensor; steps: Step[] } {
  const { p, weight, lengths, reverse } = x;
  const count = p.shape[0]!;
  const columns = transpose(weight);
  const [rows, steps]: [Tensor[], Step[]] = [new Array(count), []];
  let { h, c } = x;
  for (let s = 0; s < count; s++) {
    const t = reverse ? count - 1 - s : s;
    const active = lengths && unsqueeze(gt(lengths, t), 1);
    const after = next(x, squeeze(narrow(p, 0, t, 1), 0), matmul(h, columns), h, c);
    steps.push({ t, active, before: h, cBefore: c, gates: after.gates });
    rows[t] = active === null ? after.h : where(active, after.h, 0);
    h = active === null ? after.h : where(active, after.h, h);
    if (c !== null) c = active === null ? after.c : where(active, after.c!, c);
  }
  return { states: stack([...rows, h, ...(c === null ? [] : [c])]), steps };
}

/** The layer by tensor operations, whose graph autograd records. */
export function composed(x: RecurrentInputs) {
  const { states, steps } = stepsOf(x);
  const inOrder = [...steps].sort((a, b) => a.t - b.t);
  // Only who listens to a layer asks for these.
  const joined = (of: (step: Step) => Tensor) =>
    withRecording(false, () => (inOrder.length === 0 ? narrow(states, 0, 0, 0) : stack(inOrder.map(of)))).detach();
  return {
    states,
    get before() {
      return joined(({ before }) => before);
    },
    get reset() {
      return x.cell === 'gru' ? joined(({ gates }) => gates[0]!) : null;
    },
  };
}

/** y (1 − y) g, and (1 − y²) g. */
const throughSigmoid = (g: Tensor, y: Tensor) => mul(g, mul(y, sub(1, y)));
const throughTanh = (g: Tensor, y: Tensor) => mul(g, sub(1, mul(y, y)));

/** Gradients of a step by its products with the input (p) and the state (q), and what comes to the state before it past these. */
function stepGrad(cell: RecurrentCell, { gates, before, cBefore }: Step, d: Tensor, dc: Tensor | null) {
  if (cell === 'lstm') {
    const [i, f, g, o, top] = gates as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const all = add(dc!, throughTanh(mul(d, o), top));
    const p = concat(
      [
        throughSigmoid(mul(all, g), i),
        throughSigmoid(mul(all, cBefore!), f),
        throughTanh(mul(all, i), g),
        throughSigmoid(mul(d, top), o),
      ],
      1,
    );
    return { p, q: p, h: null, c: mul(all, f) };
  }
  if (cell === 'gru') {
    const [r, z, q, fresh] = gates as [Tensor, Tensor, Tensor, Tensor];
    const dn = throughTanh(mul(d, sub(1, z)), fresh);
    const [dr, dz] = [throughSigmoid(mul(dn, q), r), throughSigmoid(mul(d, sub(before, fresh)), z)];
    return { p: concat([dr, dz, dn], 1), q: concat([dr, dz, mul(dn, r)], 1), h: mul(d, z), c: null };
  }
  const p = cell === 'tanh' ? throughTanh(d, gates[0]!) : where(gt(gates[0]!, 0), d, 0);
  return { p, q: p, h: null, c: null };
}

/** The gradients of a layer, from that of its `states`, by tensor operations. */
export function composedGradients(
  gy: Tensor,
  x: RecurrentInputs,
): Pick<RecurrentInputs, 'p' | 'weight' | 'bias' | 'h' | 'c'> {
  const { steps } = stepsOf(x);
  const count = x.p.shape[0]!;
  const row = (t: number) => squeeze(narrow(gy, 0, t, 1), 0);
  const [ps, qs]: [Tensor[], Tensor[]] = [new Array(count), new Array(count)];
  let dh = row(count);
  let dc = x.c && row(count + 1);
  for (const step of steps.toReversed()) {
    const { t, active } = step;
    const only = (g: Tensor, otherwise: Tensor | 0) => (active === null ? g : where(active, g, otherwise));
    const own = stepGrad(x.cell, step, add(row(t), dh), dc);
    ps[t] = only(own.p, 0);
    qs[t] = own.q === own.p ? ps[t]! : only(own.q, 0);
    const products = matmul(qs[t]!, x.weight);
    dh = only(own.h === null ? products : add(own.h, products), dh);
    if (dc !== null) dc = only(own.c!, dc);
  }
  if (count === 0) {
    const none = mul(x.p, 0);
    return { p: none, weight: mul(x.weight, 0), bias: x.bias && mul(x.bias, 0), h: dh, c: dc };
  }
  const rows = reshape(stack(qs), [-1, x.weight.shape[0]!]);
  const befores = reshape(stack(steps.toSorted((a, b) => a.t - b.t).map(({ before }) => before)), [-1, x.h.shape[1]!]);
  return { p: stack(ps), weight: matmul(transpose(rows), befores), bias: x.bias && sum(rows, 0), h: dh, c: dc };
}
