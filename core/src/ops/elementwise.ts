/** Elementwise operations: functions of one tensor, and of two that broadcast. Every gradient stands beside its function. */

import type { BinaryKernel, UnaryGradKernel, UnaryKernel } from '../backends/backend.ts';
import { aNumber, checkArgument, checkOptions, oneOf } from '../check.ts';
import { type DType, isFloat, promote, toElement, toFloat } from '../dtype.ts';
import { DTypeError, describe } from '../errors.ts';
import { fullLike } from '../fill.ts';
import type { Node } from '../graph.ts';
import { type ComputeSpec, defineOp, notDifferentiable, type Op } from '../op.ts';
import { broadcastShapes } from '../shape.ts';
import { checkTensors, type Tensor, TensorBase } from '../tensor.ts';
import { asTensor, numberBeside, type TensorLike } from './convert.ts';

type Rule = (gy: Tensor, node: Node<null>) => readonly (Tensor | null)[];

// --- one tensor -----------------------------------------------------------------------------------------------------

const same = (dtype: DType): DType => dtype;
const bool = (): DType => 'bool';

function defineUnary(name: UnaryKernel, result: (dtype: DType) => DType, backward: Rule | null): (x: Tensor) => Tensor {
  const op: Op<null> = defineOp<null>({
    name,
    shape([x]) {
      if (x!.dtype === 'bool' && result === same)
        throw new DTypeError(`${name}: expected numbers, got ${describe(x!)}`);
      return { shape: x!.shape, dtype: result(x!.dtype) };
    },
    forward: (backend, [x], out) => backend.unary(name, x!, out),
    ...(backward === null ? { backward: notDifferentiable } : { backward }),
  });
  return x => op([x], null);
}

export const neg = defineUnary('neg', same, gy => [neg(gy)]);
export const abs = defineUnary('abs', same, (gy, node) => [mul(gy, sign(node.input(0)))]);
export const sign = defineUnary('sign', same, null);
export const floor = defineUnary('floor', same, null);
export const ceil = defineUnary('ceil', same, null);
/** Half to even. */
export const round = defineUnary('round', same, null);
export const square = defineUnary('square', same, (gy, node) => [mul(mul(gy, node.input(0)), 2)]);
export const reciprocal = defineUnary('reciprocal', toFloat, (gy, node) => [
  neg(mul(mul(gy, node.output), node.output)),
]);
export const exp = defineUnary('exp', toFloat, (gy, node) => [mul(gy, node.output)]);
// Not the result + 1, which has no digits left where x is far below 0.
export const expm1 = defineUnary('expm1', toFloat, (gy, node) => [mul(gy, exp(node.input(0)))]);
export const log = defineUnary('log', toFloat, (gy, node) => [div(gy, node.input(0))]);
export const log1p = defineUnary('log1p', toFloat, (gy, node) => [div(gy, add(node.input(0), 1))]);
export const sqrt = defineUnary('sqrt', toFloat, (gy, node) => [div(gy, mul(node.output, 2))]);
export const sin = defineUnary('sin', toFloat, (gy, node) => [mul(gy, cos(node.input(0)))]);
export const cos = defineUnary('cos', toFloat, (gy, node) => [neg(mul(gy, sin(node.input(0))))]);
export const tanh = defineUnary('tanh', toFloat, (gy, node) => [unaryGrad.tanh([gy, node.output], null)]);
export const sigmoid = defineUnary('sigmoid', toFloat, (gy, node) => [unaryGrad.sigmoid([gy, node.output], null)]);
export const relu = defineUnary('relu', same, (gy, node) => [unaryGrad.relu([gy, node.output], null)]);
const exactGelu = defineUnary('gelu', toFloat, (gy, node) => [unaryGrad.gelu([gy, node.input(0)], null)]);
const tanhGelu = defineUnary('geluTanh', toFloat, (gy, node) => [unaryGrad.geluTanh([gy, node.input(0)], null)]);
/** The error function; its derivative is 2/√π · exp(−x²). */
export const erf = defineUnary('erf', toFloat, (gy, node) => [
  mul(gy, mul(exp(neg(square(near0(node.input(0))))), 2 / Math.sqrt(Math.PI))),
]);
/** x, or 40 where |x| is larger: there the higher derivatives of erf and gelu, which are even, are 0, and x² could be ∞. */
const near0 = (x: Tensor) => where(gt(abs(x), 40), 40, x);
export const logicalNot = defineUnary('not', bool, null);
export const finite = defineUnary('isFinite', bool, null);
export const nan = defineUnary('isNaN', bool, null);

/**
 * gy · f′(x) as one kernel. The gradient by gy is the same kernel again; that by `a` (f's result, or its argument) needs
 * the derivative of f′, written as a function of `a`; null where that is 0.
 */
function defineUnaryGrad(kernel: UnaryGradKernel, secondDerivative: ((a: Tensor) => Tensor) | null): Op<null> {
  const op: Op<null> = defineOp<null>({
    name: `${kernel}Grad`,
    shape: ([, a]) => a!,
    forward: (backend, [gy, a], out) => backend.unaryGrad(kernel, gy!, a!, out),
    backward(ggx, node) {
      const a = node.input(1);
      return [
        node.needs(0) ? op([ggx, a], null) : null,
        node.needs(1) && secondDerivative !== null ? mul(mul(ggx, node.input(0)), secondDerivative(a)) : null,
      ];
    },
  });
  return op;
}

const unaryGrad: Record<UnaryGradKernel, Op<null>> = {
  relu: defineUnaryGrad('relu', null),
  tanh: defineUnaryGrad('tanh', y => mul(y, -2)),
  sigmoid: defineUnaryGrad('sigmoid', y => sub(1, mul(y, 2), y)),
  // f′ = Φ + x φ, so f″ = φ (2 − x²).
  gelu: defineUnaryGrad('gelu', far => {
    const x = near0(far);
    const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return mul(density, sub(2, square(x), x));
  }),
  // f = ½ x (1 + t), t = tanh u, so f″ = (1 − t²) (u′ + ½ x (u″ − 2 t u′²)).
  geluTanh: defineUnaryGrad('geluTanh', far => {
    const x = near0(far);
    const t = tanh(cubic(x));
    const first = mul(add(mul(square(x), 3 * CUBE), 1), ROOT);
    const second = mul(x, 6 * CUBE * ROOT);
    const curve = sub(second, mul(mul(t, square(first)), 2));
    return mul(sub(1, square(t), x), add(first, mul(mul(x, 0.5), curve)));
  }),
};

const [ROOT, CUBE] = [Math.sqrt(2 / Math.PI), 0.044715];
/** The argument u of the tanh in the approximation of gelu. */
const cubic = (x: Tensor) => mul(mul(x, add(mul(square(x), CUBE), 1)), ROOT);

// --- two tensors ----------------------------------------------------------------------------------------------------

/**
 * A function of two operands, each a tensor, a number or nested arrays. `like` gives dtype and device where neither is
 * a tensor.
 */
type Binary = (a: TensorLike, b: TensorLike, like?: Tensor) => Tensor;

function operands(name: string, a: TensorLike, b: TensorLike, like?: Tensor): [Tensor, Tensor] {
  const tensor = a instanceof TensorBase ? a : b instanceof TensorBase ? b : like;
  if (tensor === undefined) throw new DTypeError(`${name}: expected at least one tensor`);
  return [asTensor(name, a, tensor), asTensor(name, b, tensor)];
}

const noNumbers = (name: string, a: Tensor, b: Tensor) =>
  new DTypeError(`${name}: expected numbers, got ${describe(a)} and ${describe(b)}`);

/** Operand i of a binary node with the values it had: a tensor, or the number that is the node's attribute. */
type OperandOf = (node: Node<unknown>, i: 0 | 1) => Tensor | number;

const pairOf: OperandOf = (node, i) => node.input(i);
const numberFirst: OperandOf = (node, i) => (i === 0 ? (node.attrs as number) : node.input(0));
const numberSecond: OperandOf = (node, i) => (i === 0 ? node.input(0) : (node.attrs as number));

/** The gradient by one operand, which is a tensor. The other may be a number. */
type Slope = (gy: Tensor, node: Node<unknown>, of: OperandOf) => Tensor;

/** `slopes` are the gradients by a and by b. */
function defineBinary(
  kernel: BinaryKernel,
  result: (dtype: DType) => DType,
  slopes: readonly [a: Slope, b: Slope] | null,
  name: string = kernel,
): Binary {
  const pair = defineOp<null>({
    name,
    shape([a, b]) {
      const dtype = promote(a!.dtype, b!.dtype);
      if (dtype === 'bool' && result === same) throw noNumbers(name, a!, b!);
      return { shape: broadcastShapes(name, a!.shape, b!.shape), dtype: result(dtype) };
    },
    forward: (backend, [a, b], out) => backend.binary(kernel, a!, b!, out),
    ...(slopes === null
      ? { backward: notDifferentiable }
      : {
          backward: (gy: Tensor, node: Node<null>) => [
            node.needs(0) ? slopes[0](gy, node, pairOf) : null,
            node.needs(1) ? slopes[1](gy, node, pairOf) : null,
          ],
        }),
  });
  const withNumber = (forward: ComputeSpec<number>['forward'], slope: Slope | undefined, of: OperandOf) =>
    defineOp<number>({
      name,
      shape: ([x]) => ({ shape: x!.shape, dtype: result(isFloat(x!.dtype) ? x!.dtype : 'int32') }),
      forward,
      ...(slope === undefined
        ? { backward: notDifferentiable }
        : { backward: (gy: Tensor, node: Node<number>) => [slope(gy, node, of)] }),
    });
  const numberBefore = withNumber(
    (backend, [x], out, value) => backend.binary(kernel, value, x!, out),
    slopes?.[1],
    numberFirst,
  );
  const numberAfter = withNumber(
    (backend, [x], out, value) => backend.binary(kernel, x!, value, out),
    slopes?.[0],
    numberSecond,
  );
  return (a, b, like) => {
    if (a instanceof TensorBase) {
      if (b instanceof TensorBase) return pair([a, b], null);
      const value = typeof b === 'number' ? numberBeside(a.dtype, b) : null;
      if (value !== null) return numberAfter([a], value);
    } else if (b instanceof TensorBase && typeof a === 'number') {
      const value = numberBeside(b.dtype, a);
      if (value !== null) return numberBefore([b], value);
    }
    return pair(operands(name, a, b, like), null);
  };
}

const unchanged: Slope = gy => gy;

export const add = defineBinary('add', same, [unchanged, unchanged]);
export const sub = defineBinary('sub', same, [unchanged, gy => neg(gy)]);
export const mul = defineBinary('mul', same, [
  (gy, node, of) => mul(gy, of(node, 1)),
  (gy, node, of) => mul(gy, of(node, 0)),
]);
export const div = defineBinary('div', toFloat, [
  (gy, node, of) => div(gy, of(node, 1)),
  (gy, node, of) => neg(div(mul(gy, node.output), of(node, 1))),
]);
/**
 * a^b. The derivative by a is 0 wherever b is 0, whatever a is. That by b is a^b log a, at a = 0 for b ≥ 0 and at a = ∞ for
 * b < 0 its limit 0 (at a = b = 0 by convention), −∞ at a = 0 for b < 0, and NaN for a < 0.
 */
export const pow = defineBinary('pow', same, [
  (gy, node, of) => {
    const [a, b] = [of(node, 0) as Tensor, of(node, 1)];
    if (typeof b === 'number' && b !== 0) return mul(gy, mul(b, pow(a, b - 1)));
    // Where 1/a is not finite, 0 · a^−1 would not be 0. Elsewhere it is left as it is, for the sake of its own derivatives.
    const infinite = logicalNot(finite(reciprocal(a)));
    const flat = typeof b === 'number' ? infinite : and(eq(b, 0), infinite);
    const slope = pow(where(flat, 1, a), typeof b === 'number' ? -1 : sub(b, 1));
    return mul(where(flat, 0, gy), mul(b, where(flat, 0, slope)));
  },
  (gy, node, of) => {
    const [a, b] = [of(node, 0), of(node, 1)];
    const flat = or(and(eq(a, 0, gy), ge(b, 0)), and(eq(a, Infinity, gy), lt(b, 0)));
    return mul(where(flat, 0, gy), mul(node.output, log(where(flat, 1, a, gy))));
  },
]);

/** The larger operand gets the gradient; where both are equal, half each. */
const extremum = (wins: Binary): readonly [Slope, Slope] => {
  const share = (gy: Tensor, a: Tensor | number, b: Tensor | number, loses: Tensor) =>
    where(logicalNot(loses), mul(gy, where(eq(a, b), 0.5, 1, gy)), 0);
  return [
    (gy, node, of) => {
      const [a, b] = [of(node, 0), of(node, 1)];
      return share(gy, a, b, wins(b, a));
    },
    (gy, node, of) => {
      const [a, b] = [of(node, 0), of(node, 1)];
      return share(gy, a, b, wins(a, b));
    },
  ];
};
export const maximum = defineBinary(
  'maximum',
  same,
  extremum((a, b) => gt(a, b)),
);
export const minimum = defineBinary(
  'minimum',
  same,
  extremum((a, b) => lt(a, b)),
);

// Numbers beside int32 and bool are compared as what they are, in range or not.
export const eq = defineBinary('eq', bool, null);
export const ne = defineBinary('ne', bool, null);
export const lt = defineBinary('lt', bool, null);
export const le = defineBinary('le', bool, null);
export const gt = defineBinary('gt', bool, null);
export const ge = defineBinary('ge', bool, null);
export const and = defineBinary('and', bool, null, 'logicalAnd');
export const or = defineBinary('or', bool, null, 'logicalOr');

// --- choice ---------------------------------------------------------------------------------------------------------

const whereOp: Op<null> = defineOp<null>({
  name: 'where',
  shape([condition, a, b]) {
    if (condition!.dtype !== 'bool')
      throw new DTypeError(`where: expected a bool condition, got ${describe(condition!)}`);
    const shape = broadcastShapes('where', broadcastShapes('where', condition!.shape, a!.shape), b!.shape);
    return { shape, dtype: promote(a!.dtype, b!.dtype) };
  },
  forward: (backend, [condition, a, b], out) => backend.where(condition!, a!, b!, out),
  backward: (gy, node) => [
    null,
    node.needs(1) ? where(node.input(0), gy, 0) : null,
    node.needs(2) ? where(node.input(0), 0, gy) : null,
  ],
});

/** `a` where the bool condition holds, else `b`; all three broadcast. Two numbers make float32, or the dtype of `like`. */
export function where(condition: Tensor, a: TensorLike, b: TensorLike, like?: Tensor): Tensor {
  checkTensors('where', condition);
  if (like !== undefined) checkTensors('where', like);
  const plain = !(a instanceof TensorBase) && !(b instanceof TensorBase) && like === undefined;
  const beside = plain ? fullLike('where', condition, 0, [], 'float32') : like;
  return whereOp([condition, ...operands('where', a, b, beside)], null);
}

const clampOp = defineOp<{ min: number; max: number }>({
  name: 'clamp',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward(backend, [x], out, { min, max }) {
    backend.binary('maximum', x!, numberBeside(x!.dtype, min)!, out);
    backend.binary('minimum', out, numberBeside(x!.dtype, max)!, out);
  },
  backward(gy, node) {
    const x = node.input(0);
    return [where(and(ge(x, node.attrs.min), le(x, node.attrs.max)), gy, 0)];
  },
});

/** Limits `x` to [min, max]; the gradient is 1 inside, borders included, and 0 outside. */
export function clamp(x: Tensor, min = -Infinity, max = Infinity): Tensor {
  checkArgument('clamp', 'min', min, aNumber);
  checkArgument('clamp', 'max', max, aNumber);
  if (!(min <= max)) throw new RangeError(`clamp: expected min ≤ max, got ${min} and ${max}`);
  if (x.dtype === 'bool') throw new DTypeError(`clamp: expected numbers, got ${describe(x)}`);
  if (x.dtype === 'int32') {
    const bounds = [Math.max(min, -2147483648), Math.min(max, 2147483647)] as const;
    for (const bound of bounds) if (Number.isInteger(bound)) toElement('clamp', bound, 'int32');
    return minimum(maximum(x, bounds[0]), bounds[1]);
  }
  return clampOp([x], { min, max });
}

/**
 * x Φ(x), the Gaussian error linear unit (Hendrycks & Gimpel 2016): exact, or with `approximate: 'tanh'` by
 * ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).
 */
export function gelu(x: Tensor, o: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  checkOptions('gelu', o, { approximate: oneOf('none', 'tanh') });
  return o.approximate === 'tanh' ? tanhGelu(x) : exactGelu(x);
}
