// Functions of @otimes/optim/curvature with wrong arguments, as they come from plain JavaScript.
import assert from 'node:assert/strict';
import { Generator, ones, randn } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { exampleSquares, factors, Kfe, KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import { checkDoor, type Door } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const o = () => ({ dtype: 'float64', rng: new Generator(5) }) as const;
const sample = () => ({ a: randn([9, 2, 3], o()), gs: [randn([9, 2, 2], o())] });
const { A, G } = factors(sample(), 'expand');
const { UA, UG } = Kfe.of(A, G, eigh, [2, 3]);

const doors: Record<string, Door> = {
  factors: { call: (...args: Parameters<typeof factors>) => factors(...args), args: () => [sample(), 'reduce'] },
  exampleSquares: {
    call: (...args: Parameters<typeof exampleSquares>) => exampleSquares(...args),
    args: () => [sample(), UA, UG],
  },
  'Kfe.of': { call: (...args: Parameters<typeof Kfe.of>) => Kfe.of(...args), args: () => [A, G, eigh, [2, 3]] },
};

for (const [name, door] of Object.entries(doors))
  t.test(`${name} works or says what is wrong`, () => checkDoor(name, door));

law(t, 'a sample that is none is refused with what came', () => {
  const { a, gs } = sample();
  const [g] = gs as [typeof a];
  const got = (text: string) =>
    `factors: expected a [batch, shared, dIn] and gs of one shape [batch, shared, dOut], got ${text}`;
  for (const [wrong, message] of [
    [{ a: a.flatten(1), gs }, got('a float64[9,6], gs float64[9,2,2]')],
    [{ a, gs: [g.slice([0, 8])] }, got('a float64[9,2,3], gs float64[8,2,2]')],
    [{ a, gs: [g, ones([9, 2, 4], { dtype: 'float64' })] }, got('a float64[9,2,3], gs float64[9,2,2], float64[9,2,4]')],
    [
      { a, gs: [g.astype('float32')] },
      "factors: expected a and gs of one dtype, 'float32' or 'float64', got a float64[9,2,3], gs float32[9,2,2]",
    ],
    [
      { a, gs: [] },
      'factors: expected sample to be a sample { a, gs } of a tensor and a list of one tensor or more, got { a, gs }; a is float64[9,2,3], gs []',
    ],
  ] as const)
    assert.throws(() => factors(wrong as never, 'expand'), { message });
  assert.throws(() => exampleSquares({ a, gs }, UG!, UA!), {
    message: 'exampleSquares: expected bases UA [3,3] and UG [2,2], got [2,2] and [3,3]',
  });
});

law(t, 'a basis is that of factors of the sizes that are given', () => {
  for (const [sizes, side] of [
    [[3, 3], 'G'],
    [[2, 4], 'A'],
  ] as const)
    assert.throws(() => Kfe.of(A, G, eigh, sizes), {
      name: 'ShapeError',
      message: new RegExp(`^Kfe.of: expected factor ${side} \\[\\d,\\d\\], got \\[\\d,\\d\\]$`),
    });
});

law(t, 'a basis needs both sides, and one of another copy of the package is told as that', () => {
  const Made = Kfe as unknown as new (...given: unknown[]) => Kfe;
  for (const given of [[], [{ U: null }], [{ U: 1, s: A, n: A }]])
    assert.throws(
      () => new Made(...given),
      /^TypeError: Kfe: expected A to be \{ U, s, n \}, tensors of which U may be null; /,
    );
  const copy = {
    Kfe: class Kfe {
      UA = null;
      sA = A;
    },
  }.Kfe;
  const fromBasis = KroneckerOperator.fromBasis as (basis: unknown) => unknown;
  assert.throws(
    () => fromBasis(new copy()),
    /expected basis to be a Kfe, got a Kfe; .* another copy of @otimes\/optim: the program has two$/,
  );
});
