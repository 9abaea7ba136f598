/** The entries of functions that are imported by name: elementwise ones, activations, products and scans. */

import {
  atan2,
  cosh,
  cumprod,
  elu,
  isClose,
  isInf,
  leakyRelu,
  log2,
  log10,
  logSigmoid,
  logsumexp,
  maskedFill,
  mish,
  prod,
  remainder,
  selu,
  silu,
  sinh,
  softplus,
  std,
  type Tensor,
  tan,
} from '@otimes/core';
import fc from 'fast-check';
import {
  axis,
  bits,
  broadcasting,
  coarse,
  type Domain,
  distinct,
  lattice,
  nonzero,
  positive,
  real,
  shape,
} from '../arbitraries/tensor.ts';
import { along, type Dense, elementwise } from '../helpers/dense.ts';
import { binary, bool, entry, floating, type OpEntry, type Options, reduction, rows, sum, unary } from './opEntry.ts';

const toFloat = { result: floating };
const comparison: Options = { result: bool, differentiable: false };
const away = lattice(1 / 8);

/** Multiples of ¼ other than 0, of which no multiple is one of ¼ plus ⅛; whole ±1 … ±5. */
const divisors: Domain = (size, whole) => {
  const each = whole ? fc.integer({ min: 1, max: 5 }) : fc.integer({ min: 1, max: 8 }).map(k => k / 4);
  const signed = fc.tuple(each, fc.boolean()).map(([x, minus]) => (minus ? -x : x));
  return fc.array(signed, { minLength: size, maxLength: size, size: 'max' });
};

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const softplusOf = (x: number) => Math.log(1 + Math.exp(x));
const eluOf = (x: number, alpha: number) => (x > 0 ? x : alpha * (Math.exp(x) - 1));

const ofOne: OpEntry[] = rows<Parameters<typeof unary>>([
  ['log2', positive, log2, Math.log2, toFloat],
  ['log10', positive, log10, Math.log10, toFloat],
  ['tan', lattice(0), tan, Math.tan, toFloat],
  ['sinh', real, sinh, Math.sinh, toFloat],
  ['cosh', real, cosh, Math.cosh, toFloat],
  ['silu', real, silu, x => x * sigmoid(x), toFloat],
  ['mish', real, mish, x => x * Math.tanh(softplusOf(x)), toFloat],
  ['logSigmoid', real, logSigmoid, x => Math.log(sigmoid(x)), toFloat],
  ['softplus', real, x => softplus(x), softplusOf, toFloat],
  [
    'softplus of another β, with a threshold',
    away,
    x => softplus(x, { beta: 2, threshold: 2 }),
    x => (2 * x > 2 ? x : softplusOf(2 * x) / 2),
    // At the threshold the function jumps.
    { ...toFloat, dtypes: ['float32', 'float64'] },
  ],
  ['elu', away, x => elu(x), x => eluOf(x, 1), toFloat],
  ['elu of another α', away, x => elu(x, 0.3), x => eluOf(x, 0.3), toFloat],
  ['selu', away, selu, x => 1.0507009873554805 * eluOf(x, 1.6732632423543772), toFloat],
  ['leakyRelu', away, x => leakyRelu(x), x => (x > 0 ? x : 0.01 * x), toFloat],
  ['leakyRelu of another slope', away, x => leakyRelu(x, 0.3), x => (x > 0 ? x : 0.3 * x), toFloat],
  ['isInf', real, isInf, () => 0, comparison],
]).map(row => unary(...row));

const ofTwo: OpEntry[] = rows<Parameters<typeof binary>>([
  ['atan2', [nonzero, real], atan2, Math.atan2, toFloat],
  ['remainder', [away, divisors], remainder, (a, b) => a - b * Math.floor(a / b)],
  ['isClose', [coarse, coarse], isClose, (a, b) => Number(a === b), comparison],
]).map(row => binary(...row));

const filling = entry(
  'maskedFill',
  broadcasting(2).map(([x, mask]) => ({
    inputs: [
      { shape: x!, domain: real },
      { shape: mask!, domain: bits, dtype: 'bool' },
    ],
    run: (a: Tensor, m: Tensor) => maskedFill(a, m, 3),
    naive: (a: Dense, m: Dense) => elementwise((p, q) => (q !== 0 ? 3 : p!), a, m),
  })),
);

const product = (values: readonly number[]) => values.reduce((a, b) => a * b, 1);
const deviation = (values: readonly number[], correction: number) => {
  const mean = sum(values) / values.length;
  return Math.sqrt(sum(values.map(x => (x - mean) ** 2)) / (values.length - correction));
};

// Of coarse numbers many are 0.
const reductions: OpEntry[] = rows<Parameters<typeof reduction>>([
  ['prod', coarse, prod, product],
  ['prod of other numbers', real, prod, product],
  ['logsumexp', real, logsumexp, v => Math.log(sum(v.map(Math.exp))), toFloat],
  ['std', distinct, std, v => deviation(v, 1), { ...toFloat, atLeast: 2 }],
  [
    'std of a population',
    distinct,
    (x, a, o) => std(x, a, { ...o, correction: 0 }),
    v => deviation(v, 0),
    { ...toFloat, atLeast: 2 },
  ],
]).map(row => reduction(...row));

const runningProducts = [coarse, real].map((domain, i) =>
  entry(
    i === 0 ? 'cumprod' : 'cumprod of other numbers',
    shape({ minRank: 1 }).chain(s =>
      axis(s.length).map(a => ({
        inputs: [{ shape: s, domain }],
        run: (x: Tensor) => cumprod(x, a),
        naive: (x: Dense) => along(x, a, row => row.map((_, i) => product(row.slice(0, i + 1)))),
      })),
    ),
  ),
);

export const mathEntries: readonly OpEntry[] = [...ofOne, ...ofTwo, filling, ...reductions, ...runningProducts];
