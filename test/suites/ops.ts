/**
 * One list of all operations: for each, how to draw inputs, how to run it, and what plain loops make of the same
 * numbers. `opsLaws.ts` holds every entry to the same laws on any backend, so a new operation is one entry here.
 */

import { concat, type DType, einsum, oneHot, type Range, stack, type Tensor, where } from '@otimes/core';
import fc from 'fast-check';
import {
  axes,
  axis,
  bits,
  broadcasting,
  coarse,
  type Domain,
  distinct,
  integers,
  lattice,
  length,
  nonzero,
  positive,
  real,
  shape,
} from '../arbitraries/tensor.ts';
import {
  along,
  broadcastShape,
  build,
  Dense,
  einsumLoops,
  elementwise,
  pythonRange,
  reduced,
} from '../helpers/dense.ts';
import { layerEntries } from './opsLayers.ts';

/** One use of an operation: shapes and domains of its inputs, the call, and the same by plain loops. */
export type Use = {
  /** `dtype` is fixed for indices and conditions; the others are drawn from the dtypes under test. */
  inputs: readonly { shape: readonly number[]; domain: Domain; dtype?: DType }[];
  run(...x: Tensor[]): Tensor;
  naive(...x: Dense[]): Dense;
  /** dtype of the result, from the common one of the inputs that were drawn; that one itself by default. */
  result?(common: DType): DType;
};

export type OpEntry = {
  /** The method or function, and which use of it where there are several. */
  name: string;
  use: fc.Arbitrary<Use>;
  /** All that are under test, by default. */
  dtypes?: readonly DType[];
  /** Nothing flows back through integers and booleans. */
  differentiable?: false;
};

const floating = (dtype: DType): DType => (dtype === 'float64' ? dtype : 'float32');
const bool = (): DType => 'bool';

// --- how to write an entry ------------------------------------------------------------------------------------------

type Options = Pick<Use, 'result'> & Pick<OpEntry, 'dtypes' | 'differentiable'>;

function entry(name: string, use: fc.Arbitrary<Use>, { dtypes, differentiable }: Options = {}): OpEntry {
  return { name, use, ...(dtypes && { dtypes }), ...(differentiable === false && { differentiable }) };
}

/** f(x) element by element. */
function unary(
  name: string,
  domain: Domain,
  run: (x: Tensor) => Tensor,
  f: (x: number) => number,
  o: Options = {},
): OpEntry {
  const use = shape().map(s => ({ inputs: [{ shape: s, domain }], run, naive: (x: Dense) => elementwise(f, x), ...o }));
  return entry(name, use, o);
}

/** f(a, b) element by element, with broadcasting. */
function binary(
  name: string,
  [domainA, domainB]: [Domain, Domain],
  run: (a: Tensor, b: Tensor) => Tensor,
  f: (a: number, b: number) => number,
  o: Options = {},
): OpEntry {
  const use = broadcasting(2).map(([a, b]) => ({
    inputs: [
      { shape: a!, domain: domainA },
      { shape: b!, domain: domainB },
    ],
    run,
    naive: (p: Dense, q: Dense) => elementwise(f, p, q),
    ...o,
  }));
  return entry(name, use, o);
}

type Axes = number | number[] | undefined;

/** f of the values along axes, of which it takes `atLeast` (default 0). */
function reduction(
  name: string,
  domain: Domain,
  run: (x: Tensor, axes: Axes, o: { keepdim: boolean }) => Tensor,
  f: (values: number[]) => number,
  { atLeast = 0, ...o }: Options & { atLeast?: number } = {},
): OpEntry {
  const count = (s: readonly number[], over: Axes) =>
    (over === undefined ? s : [over].flat().map(a => s.at(a)!)).reduce((product, n) => product * n, 1);
  const use = shape()
    .chain(s => fc.tuple(fc.constant(s), axes(s.length), fc.boolean()))
    .filter(([s, over]) => count(s, over) >= atLeast)
    .map(([s, over, keepdim]) => ({
      inputs: [{ shape: s, domain }],
      run: (x: Tensor) => run(x, over, { keepdim }),
      naive: (x: Dense) => reduced(x, over, keepdim, f),
      ...o,
    }));
  return entry(name, use, o);
}

/** A change of shape or place. `of` gives, for an input shape, the call and the same by indices. */
function rearrangement(
  name: string,
  shapes: fc.Arbitrary<number[]>,
  of: (s: number[]) => fc.Arbitrary<Pick<Use, 'run' | 'naive'>>,
): OpEntry {
  return entry(
    name,
    shapes.chain(s => of(s).map(({ run, naive }) => ({ inputs: [{ shape: s, domain: real }], run, naive }))),
  );
}

const rows = <T>(table: readonly T[]): readonly T[] => table;

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
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

/** The product of matrices or stacks of them; vectors are rows on the left, columns on the right. */
function matmulLoops(a: Dense, b: Dense): Dense {
  const left = a.rank === 1 ? new Dense([1, ...a.shape], a.data) : a;
  const right = b.rank === 1 ? new Dense([...b.shape, 1], b.data) : b;
  const [m, k, n] = [left.shape.at(-2)!, left.shape.at(-1)!, right.shape.at(-1)!];
  const batch = broadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const product = build([...batch, m, n], index => {
    const [lead, i, j] = [index.slice(0, -2), index.at(-2)!, index.at(-1)!];
    return sum(Array.from({ length: k }, (_, p) => left.at([...lead, i, p]) * right.at([...lead, p, j])));
  });
  return new Dense([...batch, ...(a.rank === 1 ? [] : [m]), ...(b.rank === 1 ? [] : [n])], product.data);
}

function matmulCase(name: string, shapes: fc.Arbitrary<[number[], number[]]>): OpEntry {
  return entry(
    `matmul ${name}`,
    shapes.map(pair => ({
      inputs: pair.map(s => ({ shape: s, domain: real })),
      run: (a: Tensor, b: Tensor) => a.matmul(b),
      naive: matmulLoops,
    })),
  );
}

/** Sizes up to 6, so that blocks of four and their borders both occur. */
const sizes = fc.tuple(length({ maxLength: 6 }), length({ maxLength: 6 }), length({ maxLength: 6 }));
const few = { maxRank: 2, maxLength: 2 };

const products: OpEntry[] = [
  matmulCase(
    'of matrices',
    sizes.map(([m, k, n]) => [
      [m, k],
      [k, n],
    ]),
  ),
  matmulCase(
    'of vectors',
    sizes.map(([, k]) => [[k], [k]]),
  ),
  matmulCase(
    'of a vector and a matrix',
    sizes.map(([, k, n]) => [[k], [k, n]]),
  ),
  matmulCase(
    'of a matrix and a vector',
    sizes.map(([m, k]) => [[m, k], [k]]),
  ),
  matmulCase(
    'of stacks that broadcast',
    fc.tuple(broadcasting(2, few), sizes).map(([[p, q], [m, k, n]]) => [
      [...p!, m, k],
      [...q!, k, n],
    ]),
  ),
  matmulCase(
    'of a stack and a matrix',
    fc.tuple(shape(few), sizes).map(([p, [m, k, n]]) => [
      [...p, m, k],
      [k, n],
    ]),
  ),
  matmulCase(
    'of a vector and a stack',
    fc.tuple(shape(few), sizes).map(([p, [, k, n]]) => [[k], [...p, k, n]]),
  ),
  matmulCase(
    'of a stack and a vector',
    fc.tuple(shape(few), sizes).map(([p, [m, k]]) => [[...p, m, k], [k]]),
  ),
  entry(
    'einsum',
    fc
      .tuple(
        fc.constantFrom(
          'ij,jk->ik',
          'ij,jk',
          'ji,jk->ki',
          'bti,oi->bto',
          'bij,bjk->bik',
          'ii->',
          'ii',
          'ii->i',
          'iij->ji',
          'iii->i',
          'ij->ji',
          'ij->',
          'ij->j',
          'i,j->ij',
          'i,i->',
          'i,i->i',
          ',i->i',
          'ij,ij->',
          'ij,kl->',
          'ij,jk,kl->il',
          'i,ij,j->',
          'bi,ij,bj->b',
          'ii,jj->ij',
          'ab,bc,ad->cd',
        ),
        fc.array(length({ maxLength: 3 }), { minLength: 6, maxLength: 6 }),
      )
      .map(([equation, lengths]) => {
        const operands = equation.split('->')[0]!.split(',');
        const letters = [...new Set(operands.join(''))];
        return {
          inputs: operands.map(labels => ({
            shape: [...labels].map(l => lengths[letters.indexOf(l)]!),
            domain: real,
          })),
          run: (...x: Tensor[]) => einsum(equation, ...x),
          naive: (...x: Dense[]) => einsumLoops(equation, ...x),
        };
      }),
  ),
];

/** Shapes of the same size: the prime factors regrouped, with some axes of length 1. */
function reshapes(s: readonly number[]): fc.Arbitrary<number[]> {
  const size = s.reduce((a, b) => a * b, 1);
  if (size === 0) return fc.shuffledSubarray([...s, 1], { minLength: s.length + 1 });
  const factors = s.flatMap(n => (n === 4 ? [2, 2] : [n]));
  return fc
    .tuple(
      fc.shuffledSubarray([...factors, 1], { minLength: factors.length }),
      fc.array(fc.boolean(), { minLength: factors.length + 1 }),
    )
    .map(([order, joins]) => {
      const out: number[] = [];
      order.forEach((n, i) => {
        if (joins[i] && out.length > 0) out.push(out.pop()! * n);
        else out.push(n);
      });
      const rest = size / out.reduce((a, b) => a * b, 1);
      return rest === 1 ? out : [...out, rest];
    });
}

const identity = (x: Dense) => x;
const withShape = (to: readonly number[]) => (x: Dense) => new Dense(to, x.data);
const ordinary = shape();
const atLeast1 = shape({ minRank: 1 });

const views: OpEntry[] = [
  rearrangement('reshape', ordinary, s => reshapes(s).map(to => ({ run: x => x.reshape(to), naive: withShape(to) }))),
  rearrangement('reshape with one length open', shape({ minLength: 1 }), s =>
    fc.tuple(reshapes(s), fc.nat()).map(([to, i]) => {
      const open = to.length === 0 ? [-1] : to.map((n, a) => (a === i % to.length ? -1 : n));
      return { run: x => x.reshape(open), naive: withShape(to.length === 0 ? [1] : to) };
    }),
  ),
  rearrangement('permute', ordinary, s => {
    const all = s.map((_, i) => i);
    return fc.shuffledSubarray(all, { minLength: s.length }).map(order => ({
      run: x => x.permute(order),
      naive: x =>
        build(
          order.map(a => s[a]!),
          index => x.at(all.map(a => index[order.indexOf(a)]!)),
        ),
    }));
  }),
  rearrangement('transpose', shape({ minRank: 2 }), s =>
    fc.tuple(axis(s.length), axis(s.length)).map(([p, q]) => {
      const swap = <T>(items: readonly T[]): T[] => {
        const out = [...items];
        const [i, j] = [(p + s.length) % s.length, (q + s.length) % s.length];
        [out[i], out[j]] = [out[j]!, out[i]!];
        return out;
      };
      return { run: x => x.transpose(p, q), naive: x => build(swap(s), index => x.at(swap(index))) };
    }),
  ),
  entry(
    'expand',
    broadcasting(1).chain(([s]) =>
      fc
        .tuple(shape({ maxRank: 2 }), fc.array(length(), { minLength: s!.length, maxLength: s!.length }))
        .map(([lead, wide]) => {
          const to = [...lead, ...s!.map((n, i) => (n === 1 ? wide[i]! : n))];
          return {
            inputs: [{ shape: s!, domain: real }],
            run: (x: Tensor) => x.expand(to.map((n, i) => (i >= lead.length && n === s![i - lead.length] ? -1 : n))),
            naive: (x: Dense) => build(to, index => x.at(index)),
          };
        }),
    ),
  ),
  rearrangement('squeeze', ordinary, s => {
    const ones = s.flatMap((n, i) => (n === 1 ? [i] : []));
    return fc.option(fc.subarray(ones), { nil: undefined }).map(named => {
      const gone = named ?? ones;
      return {
        run: x => (gone.length === 1 && named !== undefined ? x.squeeze(gone[0]!) : x.squeeze(named)),
        naive: withShape(s.filter((_, i) => !gone.includes(i))),
      };
    });
  }),
  rearrangement('unsqueeze', ordinary, s =>
    axis(s.length + 1).map(a => ({
      run: x => x.unsqueeze(a),
      naive: withShape(s.toSpliced(a < 0 ? a + s.length + 1 : a, 0, 1)),
    })),
  ),
  rearrangement('flatten', ordinary, s => {
    if (s.length === 0) return fc.constant({ run: (x: Tensor) => x.flatten(), naive: withShape([1]) });
    return fc.tuple(fc.nat(s.length - 1), fc.nat(s.length - 1)).map(pair => {
      const [from, to] = [Math.min(...pair), Math.max(...pair)];
      const joined = s.slice(from, to + 1).reduce((a, b) => a * b, 1);
      return {
        run: x => x.flatten(from, to - s.length),
        naive: withShape([...s.slice(0, from), joined, ...s.slice(to + 1)]),
      };
    });
  }),
  rearrangement('slice', ordinary, s => {
    const bound = fc.option(fc.integer({ min: -6, max: 6 }));
    const range = (n: number): fc.Arbitrary<Range> =>
      fc.oneof(
        fc.constant(null),
        fc.tuple(bound, bound, fc.constantFrom(1, 2, 3, -1, -2)),
        ...(n > 0 ? [fc.integer({ min: -n, max: n - 1 })] : []),
      );
    return fc.tuple(fc.tuple(...s.map(range)), fc.nat(s.length)).map(([all, count]) => {
      const ranges = all.slice(0, count);
      const taken = s.map((n, i) => {
        const r = ranges[i] ?? null;
        if (typeof r === 'number') return [r < 0 ? r + n : r];
        return pythonRange(n, r?.[0] ?? null, r?.[1] ?? null, r?.[2] ?? 1);
      });
      const thin = (x: Dense) =>
        build(
          taken.map(t => t.length),
          index => x.at(taken.map((t, i) => t[index[i]!]!)),
        );
      return {
        run: x => x.slice(...ranges),
        naive: x => {
          const kept = taken.map(t => t.length).filter((_, i) => typeof ranges[i] !== 'number');
          return new Dense(kept, thin(x).data);
        },
      };
    });
  }),
  rearrangement('narrow', atLeast1, s =>
    fc.tuple(axis(s.length), fc.nat(9), fc.nat(9)).map(([a, p, q]) => {
      const at = (a + s.length) % s.length;
      const start = p % (s[at]! + 1);
      const count = q % (s[at]! - start + 1);
      return {
        run: x => x.narrow(a, start, count),
        naive: x => build(s.with(at, count), index => x.at(index.with(at, index[at]! + start))),
      };
    }),
  ),
  rearrangement('contiguous', ordinary, () => fc.constant({ run: (x: Tensor) => x.contiguous(), naive: identity })),
  rearrangement('clone', ordinary, () => fc.constant({ run: (x: Tensor) => x.clone(), naive: identity })),
];

const joins: OpEntry[] = [
  rearrangement('pad', ordinary, s =>
    fc.array(fc.tuple(fc.nat(2), fc.nat(2)), { maxLength: s.length }).map(pads => ({
      run: x => x.pad(pads, 7),
      naive: x => {
        const [before, after] = [s.map((_, i) => pads[i]?.[0] ?? 0), s.map((_, i) => pads[i]?.[1] ?? 0)];
        return build(
          s.map((n, i) => n + before[i]! + after[i]!),
          index => {
            const inner = index.map((k, i) => k - before[i]!);
            return inner.every((k, i) => k >= 0 && k < s[i]!) ? x.at(inner) : 7;
          },
        );
      },
    })),
  ),
  entry(
    'concat',
    atLeast1.chain(s =>
      fc
        .tuple(axis(s.length), fc.array(length({ maxLength: 3 }), { minLength: 1, maxLength: 3 }))
        .map(([a, lengths]) => {
          const at = (a + s.length) % s.length;
          return {
            inputs: lengths.map(n => ({ shape: s.with(at, n), domain: real })),
            run: (...x: Tensor[]) => concat(x, a),
            naive: (...x: Dense[]) =>
              build(s.with(at, sum(lengths)), index => {
                let k = index[at]!;
                let part = 0;
                while (k >= lengths[part]!) k -= lengths[part++]!;
                return x[part]!.at(index.with(at, k));
              }),
          };
        }),
    ),
  ),
  entry(
    'stack',
    fc.tuple(ordinary, fc.integer({ min: 1, max: 3 })).chain(([s, count]) =>
      axis(s.length + 1).map(a => {
        const at = a < 0 ? a + s.length + 1 : a;
        return {
          inputs: Array.from({ length: count }, () => ({ shape: s, domain: real })),
          run: (...x: Tensor[]) => stack(x, a),
          naive: (...x: Dense[]) =>
            build(s.toSpliced(at, 0, count), index => x[index[at]!]!.at(index.toSpliced(at, 1))),
        };
      }),
    ),
  ),
  entry(
    'gather',
    atLeast1.chain(s =>
      fc.tuple(axis(s.length), shape({ minRank: s.length, maxRank: s.length })).map(([a, wanted]) => {
        const at = (a + s.length) % s.length;
        const index = wanted.map((n, i) => (i !== at ? Math.min(n, s[i]!) : s[i] === 0 ? 0 : n));
        return {
          inputs: [
            { shape: s, domain: real },
            { shape: index, domain: integers(0, Math.max(1, s[at]!)), dtype: 'int32' },
          ],
          run: (x: Tensor, i: Tensor) => x.gather(a, i),
          naive: (x: Dense, i: Dense) => build(index, k => x.at(k.with(at, i.at(k)))),
        };
      }),
    ),
  ),
  entry(
    'indexSelect',
    atLeast1.chain(s =>
      fc.tuple(axis(s.length), fc.nat(5)).map(([a, wanted]) => {
        const at = (a + s.length) % s.length;
        const count = s[at] === 0 ? 0 : wanted;
        return {
          inputs: [
            { shape: s, domain: real },
            { shape: [count], domain: integers(0, Math.max(1, s[at]!)), dtype: 'int32' },
          ],
          run: (x: Tensor, i: Tensor) => x.indexSelect(a, i),
          naive: (x: Dense, i: Dense) => build(s.with(at, count), k => x.at(k.with(at, i.data[k[at]!]!))),
        };
      }),
    ),
  ),
  entry(
    'oneHot',
    fc.tuple(ordinary, fc.integer({ min: 1, max: 4 })).map(([s, classes]) => ({
      inputs: [{ shape: s, domain: integers(0, classes), dtype: 'int32' }],
      run: (labels: Tensor) => oneHot(labels, classes, { dtype: 'float64' }),
      naive: (labels: Dense) => build([...s, classes], k => Number(labels.at(k.slice(0, -1)) === k.at(-1))),
      result: () => 'float64' as const,
    })),
    { differentiable: false },
  ),
  ...(['float64', 'float32', 'int32', 'bool'] as const).map(dtype => {
    const convert = { float64: Number, float32: Number, int32: Math.trunc, bool: (x: number) => Number(x !== 0) }[
      dtype
    ];
    const differentiable = dtype === 'float64' ? {} : { differentiable: false as const };
    return unary(`astype ${dtype}`, coarse, x => x.astype(dtype), convert, { result: () => dtype, ...differentiable });
  }),
];

export const opEntries: readonly OpEntry[] = [
  ...ofOne,
  ...ofTwo,
  choice,
  ...reductions,
  ...picks,
  runningSums,
  ...softmaxes,
  ...products,
  ...views,
  ...joins,
  ...layerEntries,
];
