// Which structure sides get: by what a program says, and by the rule of 'auto', which looks at sizes alone.

import assert from 'node:assert/strict';
import { Generator, OutOfMemoryError } from '@otimes/core';
import { Conv2d, Flatten, Linear, type Module, Sequential } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import { CurvatureEstimate, type LayerBlock, type Side } from '@otimes/optim/curvature';
import fc from 'fast-check';
import t from 'tap';
import { chooseSides, RATE, type StructureOption, type Wanted } from '../optim/src/curvature/structure.ts';
import { warningsOf } from './helpers/family.ts';
import { law, property } from './helpers/law.ts';

type Size = { dOut: number; channels: number; taps: number; hasBias: boolean };

const wanted = (
  sizes: readonly Size[],
  structure: StructureOption = 'auto',
  blockDim = 512,
  maxFactorDim = Infinity,
): Wanted[] =>
  sizes.map(({ dOut, channels, taps, hasBias }, i) => {
    const block = { dOut, dIn: channels * taps + Number(hasBias), taps, hasBias } as LayerBlock;
    return { block, label: `layer '${i}'`, structure, blockDim, maxFactorDim };
  });

/** The sides, and what was said. */
function chosen(all: readonly Wanted[], budget = 2) {
  const said: string[] = [];
  const sides = chooseSides(all, budget, text => said.push(text));
  return { sides, said, flat: sides.flatMap(({ A, G }) => [A, G]) };
}
const costOf = (sides: readonly Side[]) => sides.reduce((sum, side) => sum + side.decompositionCost, 0);

const sizes = fc.array(
  fc.record<Size>({
    dOut: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 600, max: 4000 })),
    channels: fc.oneof(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 500, max: 3000 })),
    taps: fc.constantFrom(1, 1, 9, 25),
    hasBias: fc.boolean(),
  }),
  { minLength: 1, maxLength: 8 },
);

law(
  t,
  'a refresh stays within its budget, or nothing is exact that could be cheaper by more than a hundredth of that',
  () =>
    property(
      fc.tuple(sizes, fc.constantFrom(0.1, 1, 2, 30)),
      ([all, budget]) => {
        const { flat } = chosen(wanted(all), budget);
        if (costOf(flat) <= budget * RATE) return;
        for (const side of flat) {
          const { n, isExact } = side;
          const isSmall = n ** 3 <= 0.01 * budget * RATE;
          assert.ok(
            !isExact ||
              isSmall ||
              (n <= 512 &&
                all.every(({ channels, taps, hasBias }) => taps === 1 || channels * taps + Number(hasBias) !== n)),
            `${n}`,
          );
        }
      },
      300,
    ),
);

law(t, 'what does not fit the budget in blocks of 512 is cut to 256, or to 128', () => {
  const layers = (n: number, count: number) =>
    Array.from({ length: count }, () => ({ dOut: n, channels: n, taps: 1, hasBias: false }));
  const sizesOfBlocks = (n: number, count: number, budget: number) => {
    const { flat, said } = chosen(wanted(layers(n, count)), budget);
    const largest = new Set(flat.map(side => Math.max(...side.orders)));
    assert.equal(largest.size, 1);
    assert.equal(said[0]?.includes('which is less') ?? false, costOf(flat) > budget * RATE);
    return [...largest][0];
  };
  assert.equal(sizesOfBlocks(385, 1, 2), 385, 'exact where it fits');
  assert.equal(sizesOfBlocks(385, 30, 2), 193);
  assert.equal(sizesOfBlocks(385, 110, 2), 97);
  assert.equal(sizesOfBlocks(1536, 6, 2), 256);
  assert.equal(sizesOfBlocks(1536, 400, 2), 128, 'and no further');
});

law(t, 'sides up to 600, or 1200 where there are no taps, are exact where all of them fit the budget', () =>
  property(sizes, all => {
    const small = all.map(({ dOut, channels, taps, hasBias }) => ({
      dOut: Math.min(dOut, 1200),
      channels: Math.max(1, Math.min(channels, Math.floor((taps === 1 ? 1199 : 599) / taps))),
      taps,
      hasBias,
    }));
    const { flat, said } = chosen(wanted(small), 1e6);
    assert.ok(flat.every(({ isExact }) => isExact));
    assert.deepEqual(said, []);
  }),
);

law(t, 'larger ones are of taps where there are some whose channels are not as many, and else in blocks', () =>
  property(sizes, all => {
    const { sides } = chosen(wanted(all), 1e6);
    for (const [i, { A, G }] of sides.entries()) {
      const { channels, taps, dOut } = all[i]!;
      if (dOut > 1200) assert.equal(G.structure, 'blocks');
      if (taps > 1 && A.n > 600) assert.equal(A.structure, channels <= 1200 ? 'taps' : 'blocks');
      if (taps === 1 && A.n > 1200) assert.equal(A.structure, 'blocks', `${channels}`);
    }
  }),
);

law(
  t,
  'the largest sides are structured first, a larger budget leaves no more of them, and the same sizes decide alike',
  () =>
    property(sizes, all => {
      let before: Side[] | null = null;
      for (const budget of [0.05, 0.3, 1, 3]) {
        const { flat } = chosen(wanted(all), budget);
        assert.ok(chosen(wanted(all), budget).flat.every((side, i) => side.equals(flat[i]!)));
        if (before !== null) for (const [i, side] of before.entries()) assert.ok(!side.isExact || flat[i]!.isExact);
        before = flat;
      }
    }),
);

law(t, 'what a program says counts, and maxFactorDim before all of it', () =>
  property(sizes, all => {
    for (const structure of ['exact', 'blocks', 'taps', 'channels', 'diagonal', 'identity'] as const) {
      const { sides, said } = chosen(wanted(all, structure, 40), 0);
      for (const [i, { A, G }] of sides.entries()) {
        const { taps } = all[i]!;
        if (structure === 'exact' || structure === 'diagonal' || structure === 'identity')
          assert.deepEqual([A.structure, G.structure], [structure, structure]);
        else if (structure === 'blocks') assert.ok(A.n <= 40 || A.structure === 'blocks');
        else if (taps > 1) assert.equal(A.structure, structure);
        else assert.ok(A.equals(chosen(wanted(all, 'auto', 40), 0).sides[i]!.A), 'without taps it is auto');
      }
      if (structure !== 'taps' && structure !== 'channels') assert.deepEqual(said, []);
    }
    const { flat } = chosen(wanted(all, 'exact', 512, 100));
    for (const side of flat) assert.equal(side.isIdentity, side.n > 100);
  }),
);

const large = (): Module => {
  const o = { rng: new Generator(1) };
  return new Sequential(new Conv2d(70, 2, 3, o), new Flatten(), new Linear(1500, 4, o), new Linear(4, 2, o));
};

for (const [name, make] of Object.entries({
  KFAC: (o: KroneckerOptions) => new KFAC(large(), o),
  EKFAC: (o: KroneckerOptions) => new EKFAC(large(), o),
  STEVE: (o: KroneckerOptions) => new STEVE(large(), o),
})) {
  law(t, `${name}: one line says which layers are structured, what that saves, and what chooses otherwise`, () => {
    const said = warningsOf(() => make({}));
    assert.deepEqual(said, [
      `${name}: structure 'auto' assumes more of large factors, A 'taps' of conv2d '0'; A 'blocks' of linear '2': whole ones would take ` +
        "about 2.4 s to decompose at each refresh, these take 0.25 s (refreshBudget 2 s). structure: 'exact' keeps them whole, and " +
        'overrides: { path: { structure } } chooses for a layer; describe() lists all' +
        (name === 'STEVE' ? '. Statistics are taken when bases are, every 10 steps (factorEvery)' : ''),
    ]);
    for (const o of [
      { structure: 'exact' },
      { structure: 'blocks' },
      { overrides: { '0': { structure: 'channels' }, '2': { structure: { A: 'identity' } } } },
    ] as const)
      assert.deepEqual(
        warningsOf(() => make(o)),
        [],
      );
  });

  law(
    t,
    `${name}: ${name === 'STEVE' ? "statistics are taken at refreshes alone where 'auto' has structured a factor, and else" : 'statistics are taken'} at every step`,
    () => {
      const every = (o: KroneckerOptions) => {
        let found = 0;
        warningsOf(() => {
          found = make(o).factorEvery;
        });
        return found;
      };
      assert.equal(every({ refreshEvery: 7 }), name === 'STEVE' ? 7 : 1);
      assert.equal(every({ refreshEvery: 7, structure: 'blocks' }), 1);
      assert.equal(every({ refreshEvery: 7, factorEvery: 2 }), 2);
      assert.equal(warningsOf(() => make({ factorEvery: 2 }))[0]!.includes('Statistics'), false);
    },
  );

  law(t, `${name}: describe() and what it prints list the structure of each side`, () => {
    let rows = make({ structure: 'exact' }).describe();
    warningsOf(() => {
      rows = make({
        overrides: { '0': { structure: 'channels' }, '3': { structure: 'blocks', blockDim: 2 } },
      }).describe();
    });
    assert.deepEqual(
      rows.map(({ structure }) => structure),
      [
        { A: 'channels', G: 'exact' },
        { A: 'blocks', G: 'exact' },
        { A: 'blocks', G: 'exact' },
      ],
    );
    assert.match(String(rows), /gradient, A channels\n.*gradient, A blocks\n/);
    const both = make({
      structure: { A: 'taps', G: 'blocks' },
      blockDim: 1,
      overrides: { '2': { structure: 'identity' }, '3': { structure: 'exact' } },
    });
    assert.match(String(both.describe()), /gradient, A taps, G blocks\n.*gradient, A G identity\n.*gradient$/);
  });

  law(t, `${name}: options that are none are refused by name`, () => {
    const refused = (o: unknown, message: RegExp) => assert.throws(() => make(o as KroneckerOptions), { message });
    const kinds = `one of 'auto', 'exact', 'taps', 'channels', 'blocks', 'diagonal', 'identity', or \\{ A, G \\} of them`;
    refused({ structure: 'tap' }, new RegExp(`^${name}: expected structure to be ${kinds}, got 'tap'`));
    refused({ structure: { B: 'taps' } }, new RegExp(`^${name}: expected structure to be ${kinds}`));
    refused({ blockDim: 0.5 }, new RegExp(`^${name}: expected blockDim to be an integer ≥ 1, got 0.5`));
    refused({ refreshBudget: -1 }, new RegExp(`^${name}: expected refreshBudget`));
    refused(
      { overrides: { '0': { structure: 1 } } },
      new RegExp(`^${name}: overrides\\['0'\\]: expected structure to be ${kinds}`),
    );
    refused(
      { overrides: { '0': { blockDim: 0 } } },
      new RegExp(`^${name}: overrides\\['0'\\]: expected blockDim to be an integer`),
    );
  });
}

law(t, 'curvature for other uses is exact, and refuses a structure by name', () => {
  assert.throws(() => new CurvatureEstimate(large(), { structure: 'taps' } as never), {
    message: /^CurvatureEstimate: there is no option 'structure'/,
  });
});

law(t, 'a factor that no memory holds has room in blocks', () => {
  const model = () => new Sequential(new Linear(30_000, 2));
  assert.throws(() => new STEVE(model(), { structure: 'exact' }), OutOfMemoryError);
  const said = warningsOf(() => new STEVE(model()));
  assert.equal(said.length, 1);
});
