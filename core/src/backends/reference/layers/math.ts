/** Functions of one element that come with their operations, on the reference backend: by Math, in float64. */

import type { MathGradKernel, MathKernel, Operand } from '../../backend.ts';
import { lastStride, pathTo, rowMajor, walkRows } from '../../walk.ts';

const softplusOf = (z: number) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
const sigmoidOf = (x: number) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
/** The nearest integer to a logarithm that is the exponent of a power of the base, else the logarithm. */
const whole = (y: number, base: number, x: number) => (base ** Math.round(y) === x ? Math.round(y) : y);

const MATH: Record<MathKernel, (x: number, p: number, q: number) => number> = {
  log2: x => whole(Math.log2(x), 2, x),
  log10: x => whole(Math.log10(x), 10, x),
  tan: Math.tan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  silu: x => x * sigmoidOf(x),
  mish: x => x * Math.tanh(softplusOf(x)),
  logSigmoid: x => -softplusOf(-x),
  softplus: (x, p, q) => (p * x > q ? x : softplusOf(p * x) / p),
  elu: (x, p, q) => q * (x > 0 ? x : p * Math.expm1(x)),
  leakyRelu: (x, p) => (x > 0 ? x : p * x),
};

const SLOPES: Record<MathGradKernel, (x: number, p: number, q: number) => number> = {
  silu: x => sigmoidOf(x) * (1 + x * sigmoidOf(-x)),
  mish(x) {
    const t = Math.tanh(softplusOf(x));
    return t + x * (1 - t * t) * sigmoidOf(x);
  },
  logSigmoid: x => sigmoidOf(-x),
  softplus: (x, p, q) => (p * x > q ? 1 : sigmoidOf(p * x)),
  elu: (x, p, q) => q * (x > 0 ? 1 : p * Math.exp(x)),
  leakyRelu: (x, p) => (x > 0 ? 1 : p),
};

export function math(kernel: MathKernel, x: Operand, p: number, q: number, out: Operand): void {
  const [data, target, f] = [rowMajor(x), out.storage.array, MATH[kernel]];
  for (let i = 0; i < data.length; i++) target[i] = f(data[i]!, p, q);
}

export function mathGrad(kernel: MathGradKernel, gy: Operand, x: Operand, p: number, q: number, out: Operand): void {
  const [grads, data, target, f] = [rowMajor(gy), rowMajor(x), out.storage.array, SLOPES[kernel]];
  for (let i = 0; i < data.length; i++) target[i] = grads[i]! * f(data[i]!, p, q);
}

export function atan2(y: Operand, x: Operand, out: Operand): void {
  pairs(y, x, out, Math.atan2);
}

export function remainder(a: Operand, b: Operand, out: Operand): void {
  pairs(a, b, out, (p, q) => {
    const rest = p % q;
    return rest !== 0 && rest < 0 !== q < 0 ? rest + q : rest;
  });
}

/** out ← f(a, b), both broadcast. */
function pairs(a: Operand, b: Operand, out: Operand, f: (a: number, b: number) => number): void {
  const [p, q, target] = [a.storage.array, b.storage.array, out.storage.array];
  const paths = [pathTo(a, out.shape), pathTo(b, out.shape)];
  const [stepA, stepB] = paths.map(path => lastStride(path.strides)) as [number, number];
  const length = out.shape.at(-1) ?? 1;
  walkRows(out.shape, paths, (start, [i, j]) => {
    for (let k = 0; k < length; k++) target[start + k] = f(p[i! + k * stepA]!, q[j! + k * stepB]!);
  });
}
