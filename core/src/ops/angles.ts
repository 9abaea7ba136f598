/** Angles and remainders. */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/math.ts';
import * as wasm from '../backends/wasm/layers/math.ts';
import { isFloat, promote, toFloat } from '../dtype.ts';
import { DTypeError, describe } from '../errors.ts';
import { fullLike } from '../fill.ts';
import { noGrad } from '../graph.ts';
import { defineOp, type Op } from '../op.ts';
import { broadcastShapes } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { checkInRange } from '../values.ts';
import { cast } from './cast.ts';
import { composeInto } from './compose.ts';
import { asTensor, type TensorLike } from './convert.ts';
import {
  abs,
  add,
  and,
  clamp,
  div,
  eq,
  finite,
  floor,
  ge,
  gt,
  lt,
  maximum,
  minimum,
  mul,
  nan,
  ne,
  neg,
  or,
  reciprocal,
  round,
  square,
  sub,
  where,
} from './elementwise.ts';

bring<Required<Pick<DeviceKernels, 'atan2' | 'remainder'>>>(reference, wasm);

// --- angles ---------------------------------------------------------------------------------------------------------

/** The sign bit, of −0 too. */
const isNegative = (x: Tensor) => or(lt(x, 0), and(eq(x, 0), lt(reciprocal(x), 0)));

/** Numerator and denominator of (arctan u − u) / u³ in u², for |u| ≤ 0.66 (Cephes). */
const ANGLE = [
  [-0.8750608600031904, -16.157537187333652, -75.00855792314705, -122.88666844901361, -64.85021904942025],
  [1, 24.858464901423062, 165.02700983169885, 432.88106049129027, 485.3903996359137, 194.5506571482614],
] as const;

const horner = (z: Tensor, [first, ...rest]: readonly number[]) =>
  rest.reduce<Tensor>((sum, c) => add(mul(sum, z), c), fullLike('atan2', z, first!));

/** arctan of the smaller by the larger, then by octants. */
function angle(y: Tensor, x: Tensor): Tensor {
  const [high, wide] = [abs(y), abs(x)];
  const [small, large] = [minimum(high, wide), maximum(high, wide)];
  const ratio = where(eq(small, 0), 0, where(eq(small, Infinity), 1, div(small, large)));
  const far = gt(ratio, 0.66);
  const u = where(far, div(sub(ratio, 1), add(ratio, 1)), ratio);
  const z = square(u);
  const near = add(mul(mul(u, z), div(horner(z, ANGLE[0]), horner(z, ANGLE[1]))), u);
  const octant = where(far, add(near, Math.PI / 4), near);
  const quadrant = where(gt(high, wide), sub(Math.PI / 2, octant), octant);
  const half = where(isNegative(x), sub(Math.PI, quadrant), quadrant);
  const result = where(isNegative(y), neg(half), half);
  return where(or(nan(y), nan(x)), Number.NaN, result);
}

const atan2Op: Op<null> = defineOp<null>({
  name: 'atan2',
  shape: ([y, x]) => ({
    shape: broadcastShapes('atan2', y!.shape, x!.shape),
    dtype: toFloat(promote(y!.dtype, x!.dtype)),
  }),
  forward(backend, [y, x], out) {
    if (backend.atan2 !== undefined) backend.atan2(y!, x!, out);
    else composeInto(backend, out, () => angle(cast(y!, out.dtype), cast(x!, out.dtype)));
  },
  // x / (x² + y²) and −y / (x² + y²), of numbers relative to the larger one, whose squares are in range; 0 infinitely far away.
  backward(gy, node) {
    const [y, x] = [node.input(0), node.input(1)];
    const { far, unit } = noGrad(() => {
      const larger = maximum(abs(x), abs(y));
      const far = eq(larger, Infinity);
      return { far, unit: where(far, 1, larger) };
    });
    const [v, u] = [div(where(far, 0, y), unit), div(where(far, 1, x), unit)];
    const g = div(where(far, 0, gy), mul(add(square(u), square(v)), unit));
    return [node.needs(0) ? mul(g, u) : null, node.needs(1) ? neg(mul(g, v)) : null];
  },
});

/** The angle of the points (x, y) in [−π, π], of all quadrants and with signed zeros as Math.atan2; they broadcast. Integers give float32. */
export function atan2(y: Tensor, x: TensorLike): Tensor {
  checkTensors('atan2', y);
  return atan2Op([y, asTensor('atan2', x, y)], null);
}

// --- remainders -----------------------------------------------------------------------------------------------------

/** a − b ⌊a/b⌋. The quotient is rounded, so the rest may be one b off. */
function rest(a: Tensor, b: Tensor): Tensor {
  const r = sub(a, mul(b, floor(div(a, b))));
  const below = where(and(ne(r, 0), ne(lt(r, 0), lt(b, 0))), add(r, b), r);
  const within = where(ge(abs(below), abs(b)), sub(below, b), below);
  const same = or(eq(a, 0), eq(lt(a, 0), lt(b, 0)));
  return where(and(eq(abs(b), Infinity), finite(a)), where(same, a, b), within);
}

/** Of int32: quotients are rounded to floats, so that three steps come ever closer. */
function wholeRest(a: Tensor, b: Tensor): Tensor {
  let r = a;
  for (let step = 0; step < 3; step++)
    r = sub(r, mul(b, cast(clamp(floor(div(r, b)), -2147483648, 2147483520), 'int32')));
  r = where(and(ne(r, 0), ne(lt(r, 0), lt(b, 0))), add(r, b), r);
  return where(and(ne(b, -2147483648), ge(abs(r), abs(b))), sub(r, b), r);
}

const remainderOp: Op<null> = defineOp<null>({
  name: 'remainder',
  shape([a, b]) {
    const dtype = promote(a!.dtype, b!.dtype);
    if (dtype === 'bool') throw new DTypeError(`remainder: expected numbers, got ${describe(a!)} and ${describe(b!)}`);
    return { shape: broadcastShapes('remainder', a!.shape, b!.shape), dtype };
  },
  forward(backend, [a, b], out) {
    if (backend.remainder !== undefined) backend.remainder(a!, b!, out);
    else
      composeInto(backend, out, () => {
        const [p, q] = [cast(a!, out.dtype), cast(b!, out.dtype)];
        return out.dtype === 'int32' ? wholeRest(p, q) : rest(p, q);
      });
  },
  backward(gy, node) {
    if (!node.needs(1)) return [gy, null];
    return [
      gy,
      neg(
        mul(
          gy,
          noGrad(() => round(div(sub(node.input(0), node.output), node.input(1)))),
        ),
      ),
    ];
  },
});

/**
 * a modulo b with the sign of b, as Python's and PyTorch's: a − b ⌊a/b⌋, exact on the CPU. They broadcast. Division by 0 gives NaN, and
 * of int32 a RangeError, which a device that is read with await tells at the next read.
 */
export function remainder(a: Tensor, b: TensorLike): Tensor {
  checkTensors('remainder', a);
  const divisor = asTensor('remainder', b, a);
  if (!isFloat(promote(a.dtype, divisor.dtype)))
    checkInRange(
      cast(eq(divisor, 0), 'int32'),
      1,
      position => new RangeError(`remainder: expected int32 divisors other than 0, got 0 at position ${position}`),
    );
  return remainderOp([a, divisor], null);
}
