/**
 * A convolution whose gradient comes out of backward in the eigenbasis, as `affine.ts` has it for affine layers. Its side A is one of
 * channels (times taps): a map of the channels of the input without a bias, x̃ = U_cᵀ x at each pixel, commutes with zero padding,
 * stride and dilation, so that with V over the taps (identities where nothing turns)
 *
 *   y = UG (x̃ ∗ W̃ (1 ⊗ Vᵀ) + b̃),   D̃ = [Σ g̃ ⋆ x̃ (1 ⊗ V) | Σ g̃],   g̃ = UGᵀ gy,
 *
 * with ⋆ the convolution's gradient by its weight. The homogeneous 1 is a coordinate of its own. What turns are images: U costs C²
 * for each pixel. A side that mixes channels with taps has patches to turn, which are more than its gradient.
 */

import { concat, isRecording, noGrad, type Op, scope, type Tensor, unscoped } from '@otimes/core';
import { defineBuiltIn, materialize } from '@otimes/core/extend';
import type { ConvolutionLayer, TurnableLayer } from '../block.ts';
import type { Segment, Side } from '../side.ts';
import {
  type Convolution,
  convolution,
  convolve,
  inputGrad,
  mapChannels,
  pointwise,
  pointwiseWeight,
  weightGrad,
} from './convolve.ts';
import { BasisGradient, type Frame } from './frame.ts';
import type { RouteSizes } from './route.ts';

/**
 * Whether a layer can be computed in a basis with that side A: every affine one, and a convolution whose channels turn without
 * mixing their taps, and without the homogeneous 1, where there is one.
 */
export function isTurnable({ bias, window }: TurnableLayer, A: Side): boolean {
  if (window === undefined || !A.turns) return true;
  const channels = bias === null ? A.segments : A.segments.slice(0, -1);
  const last = A.segments.at(-1)!;
  const taps = window.kernel[0] * window.kernel[1];
  return channels.every(one => one.taps === taps) && (bias === null || (last.size === 1 && last.taps === 1));
}

/**
 * What the routes of a convolution cost beside its `rows` places a step. Pixels are counted from those, which leaves out what
 * stride 1 without padding does not reach.
 */
export function imagesOf({ window }: TurnableLayer, rows: number): RouteSizes['images'] {
  if (window === undefined) return undefined;
  const { kernel, stride } = window;
  return { taps: kernel[0] * kernel[1], pixels: rows * stride[0] * stride[1] };
}

/** The segments of a side over so many coordinates, without the homogeneous 1, and what turns them. */
function partsOf(side: Side, U: Tensor, size: number): { segment: Segment; U: Tensor; V: Tensor | null }[] {
  const parts = side.parts(U);
  return side.segments.flatMap((segment, i) => (segment.start < size ? [{ segment, ...parts[i]! }] : []));
}

/** Images x [N, C, H, W] with their channels in the basis of a side, or back; x itself where nothing turns. */
function turned(x: Tensor, side: Side, M: Tensor | null, taps: number, back = false): Tensor {
  if (M === null) return x;
  const pieces = partsOf(side, M, x.shape[1]! * taps).map(({ segment: { start, size }, U }) =>
    mapChannels(size === x.shape[1] ? x : x.narrow(1, start / taps, size), back ? U : U.transpose()),
  );
  return pieces.length === 1 ? pieces[0]! : concat(pieces, 1);
}

/** A weight [O, C, rows, columns] with its taps in the basis of a side, or back; X itself where none turn. */
function tapsTurned(X: Tensor, side: Side, M: Tensor | null, back = false): Tensor {
  if (M === null || side.segments.every(({ turnsTaps }) => !turnsTaps)) return X;
  const [outputs, channels, ...kernel] = X.shape as [number, number, number, number];
  const taps = kernel[0]! * kernel[1]!;
  const pieces = partsOf(side, M, channels * taps).map(({ segment: { start, size }, V }) => {
    const own = X.narrow(1, start / taps, size);
    if (V === null) return own;
    return own
      .reshape([outputs * size, taps])
      .matmul(back ? V.transpose() : V)
      .reshape(own.shape);
  });
  return pieces.length === 1 ? pieces[0]! : concat(pieces, 1);
}

/** What turns the homogeneous 1, where it is not the identity: a matrix [1, 1]. */
const ofBias = (side: Side, M: Tensor | null): Tensor | null => M && side.parts(M).at(-1)!.U;

/** W̃ of a resident layer as the convolution between the turns takes it: its weight, and b̃ [O] or null. */
function innerOf({ sides, UA, resident }: Frame, shape: readonly number[]): { w: Tensor; bias: Tensor | null } {
  const W = resident!;
  const size = shape.slice(1).reduce((product, n) => product * n, 1);
  const w = tapsTurned(W.narrow(1, 0, size).reshape(shape), sides.A, UA, true);
  if (size === W.shape[1]) return { w, bias: null };
  const column = W.narrow(1, size, 1);
  const u = ofBias(sides.A, UA);
  return { w, bias: (u === null ? column : column.mul(u)).reshape([-1]) };
}

/** `inputs` is x̃ between forward and backward. */
type Attrs = { readonly frame: Frame; readonly o: Convolution; readonly taps: number; inputs: Tensor | null };

const convolutionOp: Op<Attrs> = defineBuiltIn<Attrs>({
  name: 'conv2d in the eigenbasis',
  acceptsLazy: true,
  shape: ([x], { o }) => ({ shape: o.y, dtype: x!.dtype }),

  forward(backend, [x, W, b], out, attrs) {
    const { frame, o, taps } = attrs;
    const { sides, UA, UG, resident } = frame;
    materialize(x!);
    if (resident === null) {
      materialize(W!);
      if (b !== undefined) materialize(b);
      backend.convForward(x!, W!, b ?? null, out, o);
      return;
    }
    noGrad(() => {
      // Outside of scopes, since x̃ lives until backward and not with what is made around it.
      const inputs = unscoped(() => scope(() => turned(x!, sides.A, UA, taps)));
      if (inputs !== x) attrs.inputs = inputs;
      scope(() => {
        const { w, bias } = innerOf(frame, o.w);
        if (UG === null) return backend.convForward(inputs, w, bias, out, o);
        const hidden = convolve(inputs, w, bias, o);
        if (!sides.G.isExact) return backend.copy(turned(hidden, sides.G, UG, 1, true), out);
        const map = pointwiseWeight(UG);
        backend.convForward(hidden, map, null, out, pointwise(o.y, map.shape));
      });
    });
  },

  backward(gy, node) {
    const { attrs } = node;
    const { frame, o, taps } = attrs;
    const { sides, UA, UG, resident } = frame;
    const hasBias = node.inputs.length === 3;
    const x = node.input(0);
    // Its values are needed for x's gradient alone, as in parameter coordinates.
    const W = node.needs(0) ? node.input(1) : node.inputs[1]!;
    if (isRecording())
      return [
        node.needs(0) ? inputGrad(gy, W, o) : null,
        weightGrad(x, gy, o),
        ...(hasBias ? [gy.sum([0, 2, 3])] : []),
      ];
    const turnedGy = turned(gy, sides.G, UG, 1);
    // Kept apart from what this pass frees: the optimizer takes it.
    const D = unscoped(() => {
      const inputs = attrs.inputs ?? scope(() => turned(x, sides.A, UA, taps));
      attrs.inputs = null;
      const gradient = scope(() => {
        const main = tapsTurned(weightGrad(inputs, turnedGy, o), sides.A, UA).flatten(1);
        if (!hasBias) return main;
        const u = ofBias(sides.A, UA);
        const column = turnedGy.sum([0, 2, 3]).unsqueeze(1);
        return concat([main, u === null ? column : column.mul(u)], 1);
      });
      if (inputs !== x) inputs.storage.release();
      return gradient;
    });
    let gx: Tensor | null = null;
    if (node.needs(0))
      gx =
        resident === null
          ? inputGrad(gy, W, o)
          : turned(inputGrad(turnedGy, innerOf(frame, o.w).w, o), sides.A, UA, taps, true);
    return [gx, ...new BasisGradient(D, frame).gradients(o.w, hasBias ? [o.w[0]!] : null)];
  },
});

/** The layer's output for images x [N, C, H, W], computed in `frame`. */
export function convolutionIn(frame: Frame, { weight, bias, window }: ConvolutionLayer, x: Tensor): Tensor {
  const o = convolution(x.shape, weight.shape, window);
  const taps = window.kernel[0] * window.kernel[1];
  return convolutionOp(bias === null ? [x, weight] : [x, weight, bias], { frame, o, taps, inputs: null });
}
