/** Entries of the list in `ops.ts` for parts of tensors, repetitions, triangles and diagonals. */

import {
  broadcastTo,
  chunk,
  diag,
  diagEmbed,
  diagonal,
  flip,
  movedim,
  repeatInterleave,
  roll,
  split,
  swapaxes,
  type Tensor,
  tile,
  trace,
  tril,
  triu,
  unbind,
} from '@otimes/core';
import fc from 'fast-check';
import { axes, axis, broadcasting, real, shape } from '../arbitraries/tensor.ts';
import { broadcastShape, build, Dense } from '../helpers/dense.ts';
import { entry, type OpEntry, rearrangement, sum } from './opEntry.ts';

const ordinary = shape();
const atLeast1 = shape({ minRank: 1 });
const matrices = shape({ minRank: 2 });
const positive = (a: number, rank: number) => (a < 0 ? a + rank : a);
const modulo = (a: number, n: number) => ((a % n) + n) % n;

/** The slices along an axis that are listed, in their order. */
const picked = (x: Dense, at: number, places: readonly number[]) =>
  build(x.shape.with(at, places.length), index => x.at(index.with(at, places[index[at]!]!)));
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

const parts: OpEntry[] = [
  rearrangement('T', shape({ minRank: 2, maxRank: 2 }), s =>
    fc.constant({ run: x => x.T, naive: x => build([s[1]!, s[0]!], ([i, j]) => x.at([j!, i!])) }),
  ),
  rearrangement('at', shape({ minRank: 1, minLength: 1 }), s =>
    fc.tuple(...s.map(n => fc.integer({ min: -n, max: n - 1 }))).chain(all =>
      fc.integer({ min: 1, max: s.length }).map(count => {
        const index = all.slice(0, count);
        return {
          run: x => x.at(index[0]!, ...index.slice(1)),
          naive: x => build(s.slice(count), rest => x.at([...index.map((k, i) => modulo(k, s[i]!)), ...rest])),
        };
      }),
    ),
  ),
  rearrangement('split', atLeast1, s =>
    fc.tuple(axis(s.length), fc.nat(3), fc.nat(3), fc.boolean()).map(([a, p, q, byArray]) => {
      const at = positive(a, s.length);
      const n = s[at]!;
      const [first, size] = [Math.min(p, n), q + 1];
      const which = byArray ? q % 2 : p % Math.max(1, Math.ceil(n / size));
      const [from, to] = byArray
        ? [which * first, which === 0 ? first : n]
        : [which * size, Math.min(n, (which + 1) * size)];
      return {
        run: x => split(x, byArray ? [first, n - first] : size, a)[which]!,
        naive: x =>
          picked(
            x,
            at,
            upTo(to - from).map(i => i + from),
          ),
      };
    }),
  ),
  rearrangement('chunk', atLeast1, s =>
    fc.tuple(axis(s.length), fc.integer({ min: 1, max: 5 })).map(([a, count]) => {
      const at = positive(a, s.length);
      const size = Math.ceil(s[at]! / count);
      return { run: x => chunk(x, count, a)[0]!, naive: x => picked(x, at, upTo(Math.min(size, s[at]!))) };
    }),
  ),
  rearrangement('unbind', shape({ minRank: 1, minLength: 1 }), s =>
    fc.tuple(axis(s.length), fc.nat(9)).map(([a, p]) => {
      const at = positive(a, s.length);
      return {
        run: x => unbind(x, a)[p % s[at]!]!,
        naive: x => build(s.toSpliced(at, 1), index => x.at(index.toSpliced(at, 0, p % s[at]!))),
      };
    }),
  ),
  rearrangement('flip', ordinary, s =>
    axes(s.length).map(given => {
      const over = given === undefined ? [] : [given].flat();
      return {
        run: x => flip(x, typeof given === 'number' ? given : over),
        naive: x => over.map(a => positive(a, s.length)).reduce((y, at) => picked(y, at, upTo(s[at]!).reverse()), x),
      };
    }),
  ),
  rearrangement('roll', atLeast1, s =>
    fc.array(fc.tuple(fc.integer({ min: -7, max: 7 }), axis(s.length)), { minLength: 1, maxLength: 3 }).map(moves => ({
      run: x =>
        moves.length === 1
          ? roll(x, moves[0]![0], moves[0]![1])
          : roll(
              x,
              moves.map(m => m[0]),
              moves.map(m => m[1]),
            ),
      naive: x =>
        moves.reduce((y, [by, a]) => {
          const at = positive(a, s.length);
          return picked(
            y,
            at,
            upTo(s[at]!).map(i => modulo(i - by, s[at]!)),
          );
        }, x),
    })),
  ),
  rearrangement('roll of all elements', ordinary, s =>
    fc.integer({ min: -20, max: 20 }).map(by => ({
      run: x => roll(x, by),
      naive: x => {
        const size = s.reduce((a, b) => a * b, 1);
        const flat = build(s, index => x.at(index)).data;
        return new Dense(
          s,
          upTo(size).map(i => flat[modulo(i - by, size)]!),
        );
      },
    })),
  ),
  rearrangement('tile', ordinary, s =>
    fc.array(fc.nat(3), { maxLength: 3 }).map(repeats => {
      const rank = Math.max(s.length, repeats.length);
      const full = [...new Array<number>(rank - s.length).fill(1), ...s];
      const times = [...new Array<number>(rank - repeats.length).fill(1), ...repeats];
      return {
        run: x => tile(x, repeats),
        naive: x =>
          build(
            full.map((n, i) => n * times[i]!),
            index => x.at(index.map((k, i) => k % full[i]!)),
          ),
      };
    }),
  ),
  rearrangement('repeatInterleave', ordinary, s =>
    fc
      .tuple(s.length === 0 ? fc.constant(undefined) : fc.option(axis(s.length), { nil: undefined }), fc.nat(3))
      .map(([a, times]) => ({
        run: x => repeatInterleave(x, times, a),
        naive: x => {
          const at = a === undefined ? 0 : positive(a, s.length);
          const y = a === undefined ? new Dense([s.reduce((p, q) => p * q, 1)], x.data) : x;
          return picked(
            y,
            at,
            upTo(y.shape[at]! * times).map(i => Math.floor(i / times)),
          );
        },
      })),
  ),
  rearrangement('repeatInterleave by counts', atLeast1, s =>
    axis(s.length).chain(a => {
      const at = positive(a, s.length);
      return fc.array(fc.nat(3), { minLength: s[at]!, maxLength: s[at]! }).map(counts => ({
        run: x => repeatInterleave(x, counts, a),
        naive: x =>
          picked(
            x,
            at,
            counts.flatMap((n, i) => new Array<number>(n).fill(i)),
          ),
      }));
    }),
  ),
  rearrangement('swapaxes', atLeast1, s =>
    fc.tuple(axis(s.length), axis(s.length)).map(([p, q]) => {
      const swap = <T>(items: readonly T[]): T[] => {
        const out = [...items];
        const [i, j] = [positive(p, s.length), positive(q, s.length)];
        [out[i], out[j]] = [out[j]!, out[i]!];
        return out;
      };
      return { run: x => swapaxes(x, p, q), naive: x => build(swap(s), index => x.at(swap(index))) };
    }),
  ),
  rearrangement('movedim', atLeast1, s =>
    fc
      .tuple(
        fc.shuffledSubarray(upTo(s.length), { minLength: s.length }),
        fc.shuffledSubarray(upTo(s.length), { minLength: s.length }),
        fc.integer({ min: 1, max: s.length }),
      )
      .map(([p, q, count]) => {
        const [from, to] = [p.slice(0, count), q.slice(0, count)];
        // Removed and put back, as words would have it.
        const order = upTo(s.length).filter(i => !from.includes(i));
        for (const place of [...to].sort((i, j) => i - j)) order.splice(place, 0, from[to.indexOf(place)]!);
        return {
          run: x => (count === 1 ? movedim(x, from[0]!, to[0]! - s.length) : movedim(x, from, to)),
          naive: x =>
            build(
              order.map(i => s[i]!),
              index => x.at(s.map((_, i) => index[order.indexOf(i)]!)),
            ),
        };
      }),
  ),
  entry(
    'broadcastTo',
    broadcasting(2).map(([p, q]) => {
      const to = broadcastShape(p!, q!);
      return {
        inputs: [{ shape: p!, domain: real }],
        run: (x: Tensor) => broadcastTo(x, to),
        naive: (x: Dense) => build(to, index => x.at(index)),
      };
    }),
  ),
];

const offsets = fc.integer({ min: -5, max: 5 });

const triangles: OpEntry[] = [
  ...(['tril', 'triu'] as const).map(name =>
    rearrangement(name, matrices, s =>
      offsets.map(k => ({
        run: x => (name === 'tril' ? tril : triu)(x, k),
        naive: x =>
          build(s, index => {
            const place = index.at(-1)! - index.at(-2)!;
            return (name === 'tril' ? place <= k : place >= k) ? x.at(index) : 0;
          }),
      })),
    ),
  ),
  rearrangement('diagonal', matrices, s =>
    fc.tuple(offsets, fc.shuffledSubarray(upTo(s.length), { minLength: 2 })).map(([k, [a, b]]) => ({
      run: x => diagonal(x, k, a! - s.length, b),
      naive: x => {
        const others = upTo(s.length).filter(i => i !== a && i !== b);
        const count = upTo(s[a!]!).filter(i => i + k >= 0 && i + k < s[b!]!);
        return build([...others.map(i => s[i]!), count.length], index => {
          const i = count[index.at(-1)!]!;
          return x.at(upTo(s.length).map(j => (j === a ? i : j === b ? i + k : index[others.indexOf(j)]!)));
        });
      },
    })),
  ),
  rearrangement('diagEmbed', atLeast1, s =>
    fc.tuple(offsets, fc.shuffledSubarray(upTo(s.length + 1), { minLength: 2 })).map(([k, [a, b]]) => ({
      run: x => diagEmbed(x, k, a, b! - s.length - 1),
      naive: x => {
        const side = s.at(-1)! + Math.abs(k);
        const others = upTo(s.length + 1).filter(i => i !== a && i !== b);
        return build(
          upTo(s.length + 1).map(i => (i === a || i === b ? side : s[others.indexOf(i)]!)),
          index =>
            index[b!]! - index[a!]! === k ? x.at([...others.map(i => index[i]!), Math.min(index[a!]!, index[b!]!)]) : 0,
        );
      },
    })),
  ),
  rearrangement('diag', shape({ minRank: 1, maxRank: 2 }), s =>
    offsets.map(k => ({
      run: x => diag(x, k),
      naive: x => {
        if (s.length === 1) {
          const side = s[0]! + Math.abs(k);
          return build([side, side], ([i, j]) => (j! - i! === k ? x.at([Math.min(i!, j!)]) : 0));
        }
        const rows = upTo(s[0]!).filter(i => i + k >= 0 && i + k < s[1]!);
        return build([rows.length], ([i]) => x.at([rows[i!]!, rows[i!]! + k]));
      },
    })),
  ),
  rearrangement('trace', shape({ minRank: 2, maxRank: 2 }), s =>
    fc.constant({ run: trace, naive: x => build([], () => sum(upTo(Math.min(...s)).map(i => x.at([i, i])))) }),
  ),
];

export const shapeEntries: readonly OpEntry[] = [...parts, ...triangles];
