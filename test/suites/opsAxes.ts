/** Entries of the list in `ops.ts` for products, changes of shape and place, and selections. */

import { concat, einsum, oneHot, type Range, stack, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import { axis, broadcasting, coarse, integers, length, real, shape } from '../arbitraries/tensor.ts';
import { broadcastShape, build, Dense, einsumLoops, pythonRange } from '../helpers/dense.ts';
import { entry, type OpEntry, rearrangement, sum, unary } from './opEntry.ts';

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
    { differentiable: false, makes: 'float64' },
  ),
  ...(['float64', 'float32', 'int32', 'bool'] as const).map(dtype => {
    const convert = { float64: Number, float32: Number, int32: Math.trunc, bool: (x: number) => Number(x !== 0) }[
      dtype
    ];
    const kind = dtype === 'float64' ? { makes: dtype } : { differentiable: false as const };
    return unary(`astype ${dtype}`, coarse, x => x.astype(dtype), convert, { result: () => dtype, ...kind });
  }),
];

export const axesEntries: readonly OpEntry[] = [...products, ...views, ...joins];
