/**
 * One list of all operations: for each, how to draw inputs, how to run it, and what plain loops make of the same
 * numbers. `opsLaws.ts` holds every entry to the same laws on any backend, so a new operation is one entry here.
 */

import { type Tensor, where } from '@otimes/core';
import fc from 'fast-check';
import {
  axis,
  bits,
  broadcasting,
  coarse,
  type Domain,
  distinct,
  integers,
  lattice,
  nonzero,
  positive,
  real,
  shape,
} from '../arbitraries/tensor.ts';
import { along, type Dense, elementwise, reduced } from '../helpers/dense.ts';
import { binary, bool, entry, floating, type OpEntry, type Options, reduction, rows, sum, unary } from './opEntry.ts';
import { axesEntries } from './opsAxes.ts';
import { convEntries } from './opsConvs.ts';
import { layerEntries } from './opsLayers.ts';
import { linalgEntries } from './opsLinalg.ts';
import { mathEntries } from './opsMath.ts';
import { orderEntries } from './opsOrder.ts';
import { padEntries } from './opsPad.ts';
import { poolEntries } from './opsPools.ts';
import { recurrentEntries } from './opsRecurrent.ts';
import { shapeEntries } from './opsShape.ts';
import { vectorEntries } from './opsVectors.ts';

const mean = (values: number[]) => sum(values) / values.length;
const variance = (values: number[], correction: number) =>
  sum(values.map(x => (x - mean(values)) ** 2)) / Math.max(0, values.length - correction);
const softmaxOf = (row: number[]) => row.map(x => Math.exp(x) / sum(row.map(Math.exp)));
const roundHalfEven = (x: number) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** erf by Simpson's rule, which the library does not use. */
function erf(x: number): number {
  const n = 400;
  const h = x / n;
  let total = 0;
  for (let i = 0; i <= n; i++) total += (i === 0 || i === n ? 1 : i % 2 === 1 ? 4 : 2) * Math.exp(-((i * h) ** 2));
  return ((2 / Math.sqrt(Math.PI)) * total * h) / 3;
}

const gelu = (x: number) => (x / 2) * (1 + erf(x / Math.SQRT2));
const geluByTanh = (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

// --- the entries ----------------------------------------------------------------------------------------------------

const toFloat = { result: floating };
const comparison: Options = { result: bool, differentiable: false };
const steps: Options = { differentiable: false };
const away = lattice(1 / 8);

const ofOne: OpEntry[] = rows<Parameters<typeof unary>>([
  ['neg', real, x => x.neg(), x => -x],
  ['abs', away, x => x.abs(), Math.abs],
  ['sign', coarse, x => x.sign(), Math.sign, steps],
  ['floor', real, x => x.floor(), Math.floor, steps],
  ['ceil', real, x => x.ceil(), Math.ceil, steps],
  ['round', coarse, x => x.round(), roundHalfEven, steps],
  ['square', real, x => x.square(), x => x * x],
  ['reciprocal', nonzero, x => x.reciprocal(), x => 1 / x, toFloat],
  ['exp', real, x => x.exp(), Math.exp, toFloat],
  ['expm1', real, x => x.expm1(), Math.expm1, toFloat],
  ['log', positive, x => x.log(), Math.log, toFloat],
  ['log1p', positive, x => x.log1p(), Math.log1p, toFloat],
  ['sqrt', positive, x => x.sqrt(), Math.sqrt, toFloat],
  ['sin', real, x => x.sin(), Math.sin, toFloat],
  ['cos', real, x => x.cos(), Math.cos, toFloat],
  ['tanh', real, x => x.tanh(), Math.tanh, toFloat],
  ['sigmoid', real, x => x.sigmoid(), x => 1 / (1 + Math.exp(-x)), toFloat],
  ['relu', away, x => x.relu(), x => Math.max(0, x)],
  ['erf', real, x => x.erf(), erf, toFloat],
  ['gelu', real, x => x.gelu(), gelu, toFloat],
  ['gelu by tanh', real, x => x.gelu({ approximate: 'tanh' }), geluByTanh, toFloat],
  ['clamp', away, x => x.clamp(-1, 1), x => Math.min(1, Math.max(-1, x))],
  ['clamp from below', away, x => x.clamp(1), x => Math.max(1, x)],
  ['isNaN', real, x => x.isNaN(), () => 0, comparison],
  ['isFinite', real, x => x.isFinite(), () => 1, comparison],
  ['logicalNot', coarse, x => x.logicalNot(), x => Number(x === 0), comparison],
  // A number beside a tensor takes its dtype, if it can.
  ['add a number', real, x => x.add(2), x => x + 2],
  ['sub a number', real, x => x.sub(2), x => x - 2],
  ['mul by a fraction', real, x => x.mul(0.5), x => x * 0.5, toFloat],
  ['div by a number', real, x => x.div(4), x => x / 4, toFloat],
  ['maximum with a number', away, x => x.maximum(0), x => Math.max(x, 0)],
  ['pow of 2', real, x => x.pow(2), x => x * x],
  ['pow of 3', real, x => x.pow(3), x => x ** 3],
  ['pow of 0', real, x => x.pow(0), () => 1],
  ['pow of 1', real, x => x.pow(1), x => x],
  ['pow of ½', positive, x => x.pow(0.5), Math.sqrt, toFloat],
  ['pow of −1.5', positive, x => x.pow(-1.5), x => x ** -1.5, toFloat],
]).map(row => unary(...row));

const exponents: Domain = (size, whole) => (whole ? integers(0, 4) : real)(size, whole);

const ofTwo: OpEntry[] = rows<Parameters<typeof binary>>([
  ['add', [real, real], (a, b) => a.add(b), (a, b) => a + b],
  ['sub', [real, real], (a, b) => a.sub(b), (a, b) => a - b],
  ['mul', [real, real], (a, b) => a.mul(b), (a, b) => a * b],
  ['div', [real, nonzero], (a, b) => a.div(b), (a, b) => a / b, toFloat],
  ['pow', [positive, exponents], (a, b) => a.pow(b), Math.pow],
  ['maximum', [lattice(0), away], (a, b) => a.maximum(b), Math.max],
  ['minimum', [lattice(0), away], (a, b) => a.minimum(b), Math.min],
  ['eq', [coarse, coarse], (a, b) => a.eq(b), (a, b) => Number(a === b), comparison],
  ['ne', [coarse, coarse], (a, b) => a.ne(b), (a, b) => Number(a !== b), comparison],
  ['lt', [coarse, coarse], (a, b) => a.lt(b), (a, b) => Number(a < b), comparison],
  ['le', [coarse, coarse], (a, b) => a.le(b), (a, b) => Number(a <= b), comparison],
  ['gt', [coarse, coarse], (a, b) => a.gt(b), (a, b) => Number(a > b), comparison],
  ['ge', [coarse, coarse], (a, b) => a.ge(b), (a, b) => Number(a >= b), comparison],
  ['logicalAnd', [coarse, coarse], (a, b) => a.logicalAnd(b), (a, b) => Number(a !== 0 && b !== 0), comparison],
  ['logicalOr', [coarse, coarse], (a, b) => a.logicalOr(b), (a, b) => Number(a !== 0 || b !== 0), comparison],
]).map(row => binary(...row));

const choice = entry(
  'where',
  broadcasting(3).map(([c, a, b]) => ({
    inputs: [
      { shape: c!, domain: bits, dtype: 'bool' },
      { shape: a!, domain: real },
      { shape: b!, domain: real },
    ],
    run: where,
    naive: (...x: Dense[]) => elementwise((p, q, r) => (p !== 0 ? q! : r!), ...x),
  })),
);

const some = { ...toFloat, atLeast: 1 };
const ofPopulation = { correction: 0 };

const reductions: OpEntry[] = rows<Parameters<typeof reduction>>([
  ['sum', real, (x, a, o) => x.sum(a, o), sum],
  ['mean', real, (x, a, o) => x.mean(a, o), mean, some],
  ['max', distinct, (x, a, o) => x.max(a, o), v => Math.max(...v), { atLeast: 1 }],
  ['min', distinct, (x, a, o) => x.min(a, o), v => Math.min(...v), { atLeast: 1 }],
  ['var', real, (x, a, o) => x.var(a, o), v => variance(v, 1), { ...toFloat, atLeast: 2 }],
  ['var of a population', real, (x, a, o) => x.var(a, { ...o, ...ofPopulation }), v => variance(v, 0), some],
  ['norm', nonzero, (x, a, o) => x.norm(a, o), v => Math.hypot(...v), toFloat],
  ['any', coarse, (x, a, o) => x.any(a, o), v => Number(v.some(x => x !== 0)), comparison],
  ['all', coarse, (x, a, o) => x.all(a, o), v => Number(v.every(x => x !== 0)), comparison],
]).map(row => reduction(...row));

const picks = (['argmax', 'argmin'] as const).map(name => {
  const best = name === 'argmax' ? Math.max : Math.min;
  const use = shape({ minLength: 1 }).chain(s =>
    (s.length === 0 ? fc.constant(undefined) : fc.option(axis(s.length), { nil: undefined })).map(a => ({
      inputs: [{ shape: s, domain: coarse }],
      run: (x: Tensor) => x[name](a),
      naive: (x: Dense) => reduced(x, a, false, v => v.indexOf(best(...v))),
      result: () => 'int32' as const,
    })),
  );
  return entry(name, use, { differentiable: false });
});

const runningSums = entry(
  'cumsum',
  shape({ minRank: 1 }).chain(s =>
    axis(s.length).map(a => ({
      inputs: [{ shape: s, domain: real }],
      run: (x: Tensor) => x.cumsum(a),
      naive: (x: Dense) => along(x, a, row => row.map((_, i) => sum(row.slice(0, i + 1)))),
    })),
  ),
);

const softmaxes = (['softmax', 'logSoftmax'] as const).map(name => {
  const f = name === 'softmax' ? softmaxOf : (row: number[]) => softmaxOf(row).map(Math.log);
  const use = shape({ minRank: 1 }).chain(s =>
    axis(s.length).map(a => ({
      inputs: [{ shape: s, domain: real }],
      run: (x: Tensor) => x[name](a),
      naive: (x: Dense) => along(x, a, f),
    })),
  );
  return entry(name, use, { dtypes: ['float32', 'float64'] });
});

export const opEntries: readonly OpEntry[] = [
  ...ofOne,
  ...ofTwo,
  choice,
  ...reductions,
  ...picks,
  runningSums,
  ...softmaxes,
  ...axesEntries,
  ...layerEntries,
  ...convEntries,
  ...poolEntries,
  ...padEntries,
  ...shapeEntries,
  ...mathEntries,
  ...orderEntries,
  ...recurrentEntries,
  ...vectorEntries,
  ...linalgEntries,
];
