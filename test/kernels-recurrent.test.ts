// Recurrent layers as one kernel: any sizes give what the reference's loops give, in both variants and between guards.

import assert from 'node:assert/strict';
import type { RecurrentCell } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import * as reference from '../core/src/backends/reference/layers/recurrent.ts';
import {
  type Bench,
  blank,
  check,
  EPS,
  FLOATS,
  lawsOfBoth,
  mustBeWithin,
  operand,
  randoms,
} from './helpers/kernels.ts';

const lawOfBoth = lawsOfBoth(t);

/** By the number that kernels know a cell by: name, rows of the weight and saved numbers for each unit. */
const CELLS: [RecurrentCell, number, number][] = [
  ['relu', 1, 1],
  ['tanh', 1, 1],
  ['lstm', 4, 6],
  ['gru', 3, 4],
];

const cases = fc.record({
  cell: fc.nat(3),
  type: fc.constantFrom(...FLOATS),
  steps: fc.nat(5),
  batch: fc.oneof(fc.nat(4), fc.constantFrom(6, 7, 13)),
  // One beyond the parts of a long sum, too.
  hidden: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 20 }) },
    { weight: 1, arbitrary: fc.constant(93) },
  ),
  reverse: fc.boolean(),
  bias: fc.boolean(),
  packed: fc.boolean(),
  lengths: fc.option(fc.array(fc.nat(5), { minLength: 13, maxLength: 13 })),
  records: fc.boolean(),
});

type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

/** The kernels' states and gradients, and those of the reference. */
function both(bench: Bench, one: Case): [name: string, actual: ArrayLike<number>, expected: ArrayLike<number>][] {
  const { cell: code, type, steps, batch, hidden, reverse, packed, records } = one;
  const [cell, gates, numbers] = CELLS[code]!;
  const n = gates * hidden;
  const rows = steps + (cell === 'lstm' ? 2 : 1);
  const places = records ? steps : 1;
  const lengths = one.lengths === null ? null : one.lengths.slice(0, batch).map(x => x % (steps + 1));
  const values = (seed: number, ...shape: number[]) => {
    const data = randoms(
      shape.reduce((a, b) => a * b, 1),
      seed,
    );
    return { data, shape, as: () => operand(type, data, shape) };
  };
  const [p, h, c, dy] = [
    values(1, steps, batch, n),
    values(2, batch, hidden),
    values(3, batch, hidden),
    values(4, rows, batch, hidden),
  ];
  const weight = values(5, n, hidden);
  weight.data = weight.data.map(x => x / Math.sqrt(hidden));
  const bias = cell === 'gru' && one.bias ? values(6, n) : null;
  const out = blank(type, [rows, batch, hidden]);
  const [saved, before] = [blank(type, [places, batch, numbers * hidden]), blank(type, [places, batch, hidden])];
  const pass = { cell, reverse };
  const ends = lengths && operand('i32', lengths, [batch]);
  const w = operand(type, weight.data, weight.shape);
  reference.recur(
    p.as(),
    w,
    bias === null ? null : bias.as(),
    h.as(),
    cell === 'lstm' ? c.as() : null,
    ends,
    saved,
    before,
    pass,
    out,
  );
  const dp = blank(type, p.shape);
  const [dq, dh, dc] = [blank(type, p.shape), blank(type, h.shape), blank(type, c.shape)];
  if (records)
    reference.recurGrad(
      dy.as(),
      w,
      ends,
      saved,
      before,
      pass,
      dp,
      cell === 'gru' ? dq : null,
      dh,
      cell === 'lstm' ? dc : null,
    );
  return bench.with(0, () => {
    const put = ({ data }: { data: number[] }) => bench.put(type, data);
    const [pp, pw, ph, pc, pg] = [put(p), put(weight), put(h), put(c), put(dy)];
    const pb = bias === null ? 0 : put(bias);
    const pl = lengths === null ? 0 : bench.put('i32', lengths);
    const line = type === 'f64' ? 4 : 8;
    const work = (columns: number, k: number) => (packed ? bench.room(type, Math.ceil(columns / line) * line * k) : 0);
    const [ps, pq] = [saved, before].map(x => bench.room(type, x.storage.size)) as [number, number];
    const po = bench.room(type, out.storage.size);
    const [sStep, qStep] = records ? [batch * numbers * hidden, batch * hidden] : [0, 0];
    const { scratch } = bench;
    const flags = [code, reverse ? 1 : 0, steps, batch, hidden] as const;
    bench.call[`recur_${type}`](...flags, pp, pw, pb, ph, pc, pl, ps, sStep, pq, qStep, po, work(n, hidden), scratch);
    const [pdp, pdq, pdh, pdc] = [dp, dq, dh, dc].map(x => bench.room(type, x.storage.size)) as [
      number,
      number,
      number,
      number,
    ];
    const results: [string, number, typeof out][] = [['states', po, out]];
    if (records) {
      const to = [pdp, cell === 'gru' ? pdq : 0, pdh, pdc] as const;
      bench.call[`recurBackward_${type}`](...flags, pg, pw, pl, ps, pq, ...to, work(hidden, n), scratch);
      results.push(['by p', pdp, dp], ['by h', pdh, dh], ['before', pq, before]);
      if (cell === 'gru') results.push(['by q', pdq, dq]);
      if (cell === 'lstm') results.push(['by c', pdc, dc]);
    }
    return results.map(([name, at, x]) => [`${cell}: ${name}`, bench.read(type, at, x.storage.size), x.storage.array]);
  });
}

lawOfBoth('a recurrent layer and its gradients are those of plain loops', bench => {
  check(
    fc.property(cases, one => {
      for (const [name, actual, expected] of both(bench, one)) {
        const most = Array.from(expected).reduce((a, x) => Math.max(a, Math.abs(x)), 1);
        mustBeWithin(actual, expected, () => 200 * most * (one.steps + 1) * EPS[one.type], name);
      }
    }),
    80,
  );
  check(
    fc.property(cases, one => {
      const large = { ...one, hidden: 271, batch: 3, steps: 2, records: true };
      for (const [name, actual, expected] of both(bench, large)) {
        const most = Array.from(expected).reduce((a, x) => Math.max(a, Math.abs(x)), 1);
        mustBeWithin(actual, expected, () => 400 * most * EPS[one.type], name);
      }
    }),
    6,
  );
  assert.deepEqual(bench.uncalled('recurrent'), []);
});
