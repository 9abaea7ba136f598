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

import { isRecording, linear, noGrad, type Op, type Tensor, unscoped } from '@otimes/core';
import { borrowGrad, defineBuiltIn, held, lazyTensor, materialize, originOf, precisely } from '@otimes/core/extend';
import type { Kfe, Sides } from '../basis.ts';
import type { AffineLayer } from '../block.ts';

/** A basis as a layer uses it: both sides turn. */
export type Frame = {
  /** [dIn, dIn], the homogeneous coordinate last where the layer has a bias. */
  readonly UA: Tensor;
  /** [dOut, dOut] */
  readonly UG: Tensor;
  /** How they are packed. */
  readonly sides: Sides;
  /** W̃ [dOut, dIn] of a resident layer, else null. */
  readonly resident: Tensor | null;
};

/** D̃ of one backward pass, and how to get back from it. Freed when no gradient needs it any more. */
export class BasisGradient {
  readonly D: Tensor;
  readonly frame: Frame;
  #holders = 0;

  constructor(D: Tensor, frame: Frame) {
    this.D = D;
    this.frame = frame;
  }

  /** A gradient tensor of that shape that is computed as `of(D̃)` when it is read. */
  lazily(shape: readonly number[], of: (D: Tensor, frame: Frame) => Tensor): Tensor {
    this.#holders++;
    return lazyTensor(this.D, () => of(this.D, this.frame), {
      shape,
      origin: this,
      dispose: () => {
        if (--this.#holders === 0) this.D.storage.release();
      },
    });
  }
}

/**
 * D̃ of the gradients that a layer's parameters have, if they are what one backward pass left and nothing else: not
 * accumulated, not clipped, not replaced. Else null.
 */
export function basisGradient({ weight, bias }: AffineLayer): BasisGradient | null {
  const origin = gradientOrigin(weight);
  if (!(origin instanceof BasisGradient) || (bias !== null && gradientOrigin(bias) !== origin)) return null;
  return origin;
}

function gradientOrigin(p: Tensor): unknown {
  const g = borrowGrad(p);
  return g === null ? null : originOf(g);
}

/** Told of the rows of a layer by each backward pass that reaches its gradients. */
export interface TurnedSink {
  /** ã [rows, dIn] and g̃ [rows, dOut] in the bases of `frame`. Returns whether it keeps them. */
  takeTurned(inputs: Tensor, grads: Tensor, frame: Frame): boolean;
}

/** `inputs` is ã [rows, dIn] between forward and backward. */
type Attrs = { readonly frame: Frame; readonly sink: TurnedSink; inputs: Tensor | null };

const asRows = (x: Tensor): Tensor => (x.rank === 2 ? x : x.reshape([-1, x.shape[x.rank - 1]!]));

/** [x, 1] UA without making [x, 1]. */
function turned(x: Tensor, UA: Tensor): Tensor {
  const features = x.shape[x.rank - 1]!;
  const [main, last] = [UA.narrow(0, 0, features), UA.narrow(0, features, UA.shape[0]! - features)];
  return linear(asRows(x), main.transpose(), last.shape[0] === 0 ? null : last.reshape([-1]));
}

const affineOp: Op<Attrs> = defineBuiltIn<Attrs>({
  name: 'linear in the eigenbasis',
  acceptsLazy: true,
  shape: ([x, W]) => ({ shape: [...x!.shape.slice(0, -1), W!.shape[0]!], dtype: x!.dtype }),

  forward(backend, [x, W, b], out, attrs) {
    const { UA, UG, resident } = attrs.frame;
    materialize(x!);
    if (resident === null) {
      materialize(W!);
      if (b !== undefined) materialize(b);
      backend.linear(x!, W!, b ?? null, out);
      return;
    }
    // Outside of scopes, since ã lives until backward and not with what is made around it.
    unscoped(() =>
      noGrad(() => {
        attrs.inputs = turned(x!, UA);
        const hidden = linear(attrs.inputs, resident);
        const { storage, dtype, offset } = out;
        const rows = { storage, dtype, offset, shape: [hidden.shape[0]!, UG.shape[0]!], strides: [UG.shape[0]!, 1] };
        backend.linear(hidden, UG, null, rows);
        hidden.storage.release();
      }),
    );
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
    const { UA, UG, resident } = attrs.frame;
    const features = W.shape[1]!;
    const turnedRows = rows.matmul(UG);
    // Kept apart from what this pass frees: the optimizer takes it.
    const D = unscoped(() => {
      const inputs = attrs.inputs ?? turned(node.input(0), UA);
      attrs.inputs = null;
      const product = turnedRows.transpose().matmul(inputs);
      if (attrs.sink.takeTurned(inputs, turnedRows, attrs.frame)) held(turnedRows);
      else inputs.storage.release();
      return product;
    });
    const gradient = new BasisGradient(D, attrs.frame);
    let gx: Tensor | null = null;
    if (node.needs(0)) {
      const back = UA.narrow(0, 0, features).transpose();
      gx = (resident === null ? rows.matmul(W) : turnedRows.matmul(resident).matmul(back)).reshape(x.shape);
    }
    return [
      gx,
      gradient.lazily(W.shape, (D, frame) => weightPart(D, frame, features)),
      ...(hasBias ? [gradient.lazily([W.shape[0]!], biasPart)] : []),
    ];
  },
});

/** The columns of UG D̃ UAᵀ that belong to the weight. */
export function weightPart(D: Tensor, { UA, UG }: Frame, features: number): Tensor {
  return precisely(() => UG.matmul(D).matmul(UA.narrow(0, 0, features).transpose()));
}

/** Its last column, that of the bias. */
export function biasPart(D: Tensor, { UA, UG }: Frame): Tensor {
  return precisely(() => UG.matmul(D.matmul(UA.narrow(0, UA.shape[0]! - 1, 1).transpose())).reshape([-1]));
}

/** Of outputs of `affineIn`: where they were computed. */
const frames = new WeakMap<Tensor, Frame>();

/** The layer's output for x [..., inputs], computed in `frame`. */
export function affineIn(frame: Frame, { weight, bias }: AffineLayer, x: Tensor, sink: TurnedSink): Tensor {
  const y = affineOp(bias === null ? [x, weight] : [x, weight, bias], { frame, sink, inputs: null });
  frames.set(y, frame);
  return y;
}

/** Whether `y` comes from `affineIn` in a basis, so that its rows are turned into that in backward. */
export function isAffineIn(y: Tensor, { UA, UG }: Kfe): boolean {
  const frame = frames.get(y);
  return frame !== undefined && frame.UA === UA && frame.UG === UG;
}
