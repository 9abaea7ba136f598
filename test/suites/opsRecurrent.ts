/** Entries of the list in `ops.ts` for recurrent layers. */

import { gru, type Lengths, lstm, rnn, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import { length, real } from '../arbitraries/tensor.ts';
import { build, type Dense, indices } from '../helpers/dense.ts';
import { type OpEntry, sum } from './opEntry.ts';

const sigma = (x: number) => 1 / (1 + Math.exp(-x));

/** A step of one sequence: sums p and products q by unit, for each gate; the state and the cells after it. */
type Cell = (p: number[], q: number[], h: number, c: number) => [h: number, c: number];
const CELLS: Record<string, { gates: number; step: Cell }> = {
  rnn: { gates: 1, step: ([p], [q]) => [Math.tanh(p! + q!), 0] },
  lstm: {
    gates: 4,
    step(p, q, _, c) {
      const [i, f, g, o] = p.map((x, k) => x + q[k]!) as [number, number, number, number];
      const next = sigma(f) * c + sigma(i) * Math.tanh(g);
      return [sigma(o) * Math.tanh(next), next];
    },
  },
  gru: {
    gates: 3,
    step(p, q, h) {
      const z = sigma(p[1]! + q[1]!);
      return [(1 - z) * Math.tanh(p[2]! + sigma(p[0]! + q[0]!) * q[2]!) + z * h, 0];
    },
  },
};

const sizes = fc.record({
  t: length({ maxLength: 2 }),
  b: length({ maxLength: 2 }),
  n: fc.constantFrom(1, 1, 2),
  reverse: fc.boolean(),
  given: fc.option(fc.array(fc.nat(), { minLength: 3, maxLength: 3 })),
});

function recurrent(name: 'rnn' | 'lstm' | 'gru'): OpEntry {
  const { gates, step } = CELLS[name]!;
  return {
    name,
    dtypes: ['float32', 'float64'],
    use: sizes.map(({ t, b, n, reverse, given }) => {
      const lengths = given === null ? null : given.slice(0, b).map(x => x % (t + 1));
      const inputs = [
        [t, b, gates * n],
        [gates * n, n],
        [b, n],
        [name === 'gru' ? gates * n : b, ...(name === 'gru' ? [] : [n])],
      ];
      const naive = (p: Dense, w: Dense, h0: Dense, last: Dense) => {
        const bias = (row: number) => (name === 'gru' ? last.at([row]) : 0);
        const sequences = indices([b]).map(([at]) => {
          let h = indices([n]).map(([j]) => h0.at([at!, j!]));
          let c = name === 'lstm' ? indices([n]).map(([j]) => last.at([at!, j!])) : h.map(() => 0);
          const ys: number[][] = Array.from({ length: t }, () => h.map(() => 0));
          const order = Array.from({ length: t }, (_, s) => (reverse ? t - 1 - s : s));
          for (const s of order.filter(s => lengths === null || s < lengths[at!]!)) {
            const next = h.map((state, j) => {
              const rows = Array.from({ length: gates }, (_, k) => k * n + j);
              const q = rows.map(row => bias(row) + sum(h.map((x, i) => x * w.at([row, i]))));
              return step(
                rows.map(row => p.at([s, at!, row])),
                q,
                state,
                c[j]!,
              );
            });
            [h, c] = [next.map(x => x[0]), next.map(x => x[1])];
            ys[s] = h;
          }
          return [...ys, h, c];
        });
        return build([t + (name === 'lstm' ? 2 : 1), b, n], ([s, at, j]) => sequences[at!]![s!]![j!]!);
      };
      const run = (p: Tensor, w: Tensor, h: Tensor, last: Tensor) => {
        const o: { h: Tensor; reverse: boolean; lengths: Lengths | null } = { h, reverse, lengths };
        if (name === 'lstm') return lstm(p, w, { ...o, c: last }).states;
        return (name === 'gru' ? gru(p, w, last, o) : rnn(p, w, o)).states;
      };
      const used = name === 'rnn' ? inputs.slice(0, 3) : inputs;
      return {
        inputs: used.map(shape => ({ shape, domain: real })),
        run: run as (...x: Tensor[]) => Tensor,
        naive: naive as (...x: Dense[]) => Dense,
      };
    }),
  };
}

export const recurrentEntries: OpEntry[] = (['rnn', 'lstm', 'gru'] as const).map(recurrent);
