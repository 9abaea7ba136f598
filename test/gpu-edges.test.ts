/** Functions of the device 'gpu' at the edges of their domain, and their accuracy: JavaScript's numbers on every adapter. */

import assert from 'node:assert/strict';
import { grad, type Tensor, tensor } from '@otimes/core';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');
const on = { device: 'gpu' };

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const edges = [0, 1, 0.5, 2, 3, 8, 40, 88.7, 89, 104, 1e-30, 1e4, 1e10, 3e38, inf].flatMap(x => [x, -x]).concat(nan);
/** n numbers from a to b. */
const sweep = (n: number, a: number, b: number) => Array.from({ length: n }, (_, i) => a + ((b - a) * (i + 0.37)) / n);
const wide = [
  ...edges,
  ...[...sweep(400, -10, 10), ...sweep(100, -1, 1), ...sweep(60, -90, 90), ...sweep(40, -1e5, 1e5)],
  ...sweep(60, -20, 0).flatMap(x => [2 ** x, -(2 ** x)]),
].map(Math.fround);

/** Numbers below the smallest with a leading 1 may be 0. */
function assertNear(title: string, found: ArrayLike<number>, expected: ArrayLike<number>, scale = 1.2e-38): void {
  const wrong: string[] = [];
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [found[i]!, Math.fround(expected[i]!)];
    const near = Math.abs(a - b) <= 2e-6 * (Math.abs(b) + scale) || Math.abs(a - b) <= 1.2e-38;
    if (!Object.is(a + 0, b + 0) && !near) wrong.push(`${i}: ${a}, expected ${b}`);
  }
  assert.equal(found.length, expected.length);
  assert.equal(wrong.length, 0, `${title}: ${wrong.length} wrong\n${wrong.slice(0, 12).join('\n')}`);
}

/** Of values that `f` and the CPU make of them in float64. */
async function same(title: string, f: (...x: Tensor[]) => Tensor, x: number[][], scale?: number): Promise<void> {
  const found = await f(...x.map(values => tensor(values, on))).data();
  const expected = await f(...x.map(values => tensor(values, { dtype: 'float64' }))).data();
  const at = (i: number) => `${title}(${x.map(values => values[i])})`;
  const first = [...found].findIndex((value, i) => Number.isNaN(value) !== Number.isNaN(expected[i]!));
  assertNear(first < 0 ? title : `NaN at ${at(first)}`, found, expected, scale);
}

const unary: Record<string, (x: Tensor) => Tensor> = {
  neg: x => x.neg(),
  abs: x => x.abs(),
  sign: x => x.sign(),
  square: x => x.square(),
  sqrt: x => x.sqrt(),
  reciprocal: x => x.reciprocal(),
  exp: x => x.exp(),
  expm1: x => x.expm1(),
  log: x => x.log(),
  log1p: x => x.log1p(),
  sin: x => x.sin(),
  cos: x => x.cos(),
  tanh: x => x.tanh(),
  sigmoid: x => x.sigmoid(),
  relu: x => x.relu(),
  erf: x => x.erf(),
  gelu: x => x.gelu(),
  'gelu by tanh': x => x.gelu({ approximate: 'tanh' }),
  floor: x => x.floor(),
  ceil: x => x.ceil(),
  round: x => x.round(),
  logicalNot: x => x.logicalNot(),
  isNaN: x => x.isNaN(),
  isFinite: x => x.isFinite(),
  clamp: x => x.clamp(-1, 2),
};
// Both are x times what vanishes far below 0, and there the CPU's float64 has no digits left.
const scales: Record<string, number> = { gelu: 1e-4, 'gelu by tanh': 0.1 };

for (const [name, f] of Object.entries(unary))
  law(`${name} is that of the CPU, at the edges and between them`, () => same(name, f, [wide], scales[name]));

const slopes = ['tanh', 'sigmoid', 'relu', 'gelu', 'gelu by tanh', 'erf', 'log', 'sqrt', 'log1p', 'abs', 'clamp'];
law('gradients are those of the CPU, at the edges and between them', async () => {
  for (const name of slopes) {
    const slope = (x: Tensor) => {
      x.requiresGrad = true;
      return grad(unary[name]!(x).sum(), [x])[0]!;
    };
    await same(`gradient of ${name}`, slope, [wide], 0.1);
  }
});

const binary: Record<string, (a: Tensor, b: Tensor) => Tensor> = {
  add: (a, b) => a.add(b),
  mul: (a, b) => a.mul(b),
  div: (a, b) => a.div(b),
  pow: (a, b) => a.pow(b),
  maximum: (a, b) => a.maximum(b),
  minimum: (a, b) => a.minimum(b),
  eq: (a, b) => a.eq(b),
  ne: (a, b) => a.ne(b),
  lt: (a, b) => a.lt(b),
  le: (a, b) => a.le(b),
  gt: (a, b) => a.gt(b),
  ge: (a, b) => a.ge(b),
  logicalAnd: (a, b) => a.logicalAnd(b),
  logicalOr: (a, b) => a.logicalOr(b),
};
const far = [0, 1, 2, 3, 0.5, 1.7, 31, 1e-30, 1e30, 3e38, inf]
  .flatMap(x => [x, -x])
  .concat(nan)
  .map(Math.fround);
const pairs = far.flatMap(a => far.map(b => [a, b] as const));
const between = sweep(30, 0.01, 30).flatMap(a =>
  sweep(30, -25, 25).map(b => [Math.fround(a), Math.fround(b)] as const),
);
for (const [name, f] of Object.entries(binary)) {
  const of = name === 'pow' ? [...pairs, ...between] : pairs;
  law(`${name} of two is that of the CPU`, () => same(name, f, [of.map(p => p[0]), of.map(p => p[1])]));
}
