/**
 * An affine layer y = x Wᵀ + b whose gradient comes out of backward in the eigenbasis: D̃ = UGᵀ [dW | db] UA = g̃ᵀ ã with
 * ã = [x, 1] UA and g̃ = gy UG, so that nobody has to project it.
 *
 * Two ways to compute the layer itself. In parameter coordinates as always ('activations'). Or 'resident': the weight is
 * kept as W̃ = UGᵀ [W | b] UA, and y = (ã W̃ᵀ) UGᵀ. Both are the same function in exact arithmetic.
 *
 * The operation has the parameters themselves as inputs, and gives them gradients that are computed when somebody reads
 * them: `weight.grad` is dW for everyone, and costs its two products only where it is looked at.
 */

import { isRecording, linear, noGrad, type Op, scope, type Tensor, unscoped } from '@otimes/core';
import { defineBuiltIn, held, materialize } from '@otimes/core/extend';
import type { Kfe } from '../basis.ts';
import type { TurnableLayer } from '../block.ts';
import { BasisGradient, type Frame, isSameBasis, turnedRows, weightColumns } from './frame.ts';

/** ã [rows, dIn] and g̃ [rows, dOut]. */
export type TurnedRows = { readonly inputs: Tensor; readonly grads: Tensor };

/** Told of the rows of a layer by each backward pass that reaches its gradients. */
export interface TurnedSink {
  /** `rows` gives them in the bases of `frame`, and they are the sink's from then on. */
  takeTurned(frame: Frame, rows: () => TurnedRows): void;
}

/** `inputs` is ã [rows, dIn] between forward and backward. */
type Attrs = { readonly frame: Frame; readonly sink: TurnedSink; inputs: Tensor | null };

const asRows = (x: Tensor): Tensor => (x.rank === 2 ? x : x.reshape([-1, x.shape[x.rank - 1]!]));

const affineOp: Op<Attrs> = defineBuiltIn<Attrs>({
  name: 'linear in the eigenbasis',
  acceptsLazy: true,
  shape: ([x, W]) => ({ shape: [...x!.shape.slice(0, -1), W!.shape[0]!], dtype: x!.dtype }),

  forward(backend, [x, W, b], out, attrs) {
    const { sides, UA, UG, resident } = attrs.frame;
    materialize(x!);
    if (resident === null) {
      materialize(W!);
      if (b !== undefined) materialize(b);
      backend.linear(x!, W!, b ?? null, out);
      return;
    }
    const { storage, dtype, offset } = out;
    const width = sides.G.n;
    const rows = { storage, dtype, offset, shape: [out.size / width, width], strides: [width, 1] };
    noGrad(() => {
      // Outside of scopes, since ã lives until backward and not with what is made around it.
      const inputs = unscoped(() => scope(() => turnedRows(asRows(x!), sides.A, UA)));
      if (inputs.storage !== x!.storage) attrs.inputs = inputs;
      scope(() => {
        if (UG === null) return backend.linear(inputs, resident, null, rows);
        const hidden = linear(inputs, resident);
        if (sides.G.isExact) backend.linear(hidden, UG, null, rows);
        else backend.copy(sides.G.turnBack(hidden, UG), rows);
      });
    });
  },

  backward(gy, node) {
    // Its values are needed for x's gradient alone, as in parameter coordinates.
    const [x, W] = [node.inputs[0]!, node.needs(0) ? node.input(1) : node.inputs[1]!];
    const hasBias = node.inputs.length === 3;
    const rows = asRows(gy);
    if (isRecording())
      return [
        rows.matmul(W).reshape(x.shape),
        rows.transpose().matmul(asRows(node.input(0))),
        ...(hasBias ? [rows.sum(0)] : []),
      ];
    const { attrs } = node;
    const { sides, UA, UG, resident } = attrs.frame;
    const features = W.shape[1]!;
    const turned = sides.G.turn(rows, UG);
    // Kept apart from what this pass frees: the optimizer takes it.
    const D = unscoped(() => {
      const inputs = attrs.inputs ?? scope(() => turnedRows(asRows(node.input(0)), sides.A, UA));
      attrs.inputs = null;
      const product = turned.transpose().matmul(inputs);
      // Where nothing turns these are the layer's input and the gradient themselves, which are others' too.
      const own = (y: Tensor, of: Tensor) => (y.storage === of.storage ? y.clone() : y);
      let isTaken = false;
      attrs.sink.takeTurned(attrs.frame, () => {
        isTaken = true;
        return { inputs: own(inputs, x), grads: held(own(turned, gy)) };
      });
      if (!isTaken && inputs.storage !== x.storage) inputs.storage.release();
      return product;
    });
    const gradient = new BasisGradient(D, attrs.frame);
    let gx: Tensor | null = null;
    if (node.needs(0)) {
      const back = resident === null ? rows.matmul(W) : weightColumns(turned.matmul(resident), sides.A, UA, features);
      gx = back.reshape(x.shape);
    }
    return [gx, ...gradient.gradients(W.shape, hasBias ? [W.shape[0]!] : null)];
  },
});

/** Of outputs of `affineIn`: where they were computed. */
const frames = new WeakMap<Tensor, Frame>();

/** The layer's output for x [..., inputs], computed in `frame`. */
export function affineIn(frame: Frame, { weight, bias }: TurnableLayer, x: Tensor, sink: TurnedSink): Tensor {
  const y = affineOp(bias === null ? [x, weight] : [x, weight, bias], { frame, sink, inputs: null });
  frames.set(y, frame);
  return y;
}

/** Whether `y` comes from `affineIn` in a basis, so that its rows are turned into that in backward. */
export function isAffineIn(y: Tensor, kfe: Kfe): boolean {
  const frame = frames.get(y);
  return frame !== undefined && isSameBasis(frame, kfe);
}
