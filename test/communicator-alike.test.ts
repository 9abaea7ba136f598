// Processes that were made with different options.

import assert from 'node:assert/strict';
import { Generator, randn } from '@otimes/core';
import { crossEntropy, mlp } from '@otimes/nn';
import {
  Adam,
  EKFAC,
  type EKFACOptions,
  KFAC,
  type KFACOptions,
  type KroneckerOptions,
  SGD,
  STEVE,
  type STEVEOptions,
} from '@otimes/optim';
import { CurvatureEstimate, type CurvatureOptions } from '@otimes/optim/curvature';
import t from 'tap';
import { bitsOf, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { Ranks, RanksRun } from './helpers/ranks.ts';

const modelOf = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) });
type Model = ReturnType<typeof modelOf>;

function backward(model: Model, rank: number): void {
  const rng = new Generator(100 + rank);
  crossEntropy(model.call(randn([6, 5], { dtype: 'float64', rng })), labels(rng, 6)).backward();
}

/** What both say where process 1 has these options beside those of all. */
async function errors<O extends KroneckerOptions>(
  Kind: new (m: Model, o: O) => KFAC | STEVE,
  all: O,
  own: Partial<O>,
): Promise<string[]> {
  const run = new RanksRun(2, modelOf, (m, communicator) => {
    const { rank } = communicator;
    return new Kind(m, { ...all, ...(rank === 1 && own), communicator });
  });
  const told = await run.step(backward);
  const before = bitsOf(modelOf().stateDict());
  if (told.length > 0) for (const { model } of run.processes) assert.equal(bitsOf(model.stateDict()), before);
  return told;
}

const refused = async (found: Promise<string[]>, name: string, what: string) => {
  const message =
    `Error: ${name}: processes must be alike, and ${what} of process 1 is another than that of process 0: make model and ` +
    'optimizer with the same options in all';
  assert.deepEqual(await found, [message, message]);
};

const ofAll: [own: KroneckerOptions, what: string][] = [
  [{ lossReduction: 'sum' }, 'lossReduction'],
  [{ fisher: 'ggn', loss: 'crossEntropy' }, 'fisher'],
  [{ route: 'resident' }, 'route'],
  [{ stagger: true }, 'stagger'],
  [{ sharing: 'reduce' }, 'sharing'],
  [{ maxFactorDim: 5 }, 'maxFactorDim'],
  [{ structure: 'blocks', blockDim: 3 }, 'structure'],
  [{ overrides: { '0': { structure: { G: 'identity' } } } }, 'maxFactorDim'],
  [{ overrides: { '0': { lr: 0.5 } } }, 'lr in overrides'],
  [{ overrides: { '0': { sharing: 'reduce' } } }, 'sharing'],
  [{ rest: unclaimed => new SGD(unclaimed, { lr: 0.01, momentum: 0.5 }) }, "the rest's optimizer"],
];
for (const [own, what] of ofAll)
  law(t, `${JSON.stringify(own)} in one process is an error in all, which names ${what}`, async () => {
    await refused(errors<KFACOptions>(KFAC, {}, own), 'KFAC', what);
    await refused(errors<EKFACOptions>(EKFAC, {}, own), 'EKFAC', what);
    await refused(errors<STEVEOptions>(STEVE, {}, own), 'STEVE', what);
  });

law(t, 'so are options of one optimizer alone', async () => {
  for (const own of [{ dampingSplit: 'pi' }, { klClip: 0.1 }, { trust: false }, { momentum: 0.5 }] as const)
    await refused(
      errors<KFACOptions>(KFAC, { rest: unclaimed => new SGD(unclaimed, { lr: 0.01 }) }, own),
      'KFAC',
      Object.keys(own)[0]!,
    );
  for (const own of [{ averageNull: false }, { secondMoment: 'batch' }, { klClip: false }] as const)
    await refused(errors<EKFACOptions>(EKFAC, {}, own), 'EKFAC', Object.keys(own)[0]!);
  const all: STEVEOptions = { rest: unclaimed => new Adam(unclaimed, { lr: 0.01 }) };
  for (const own of [
    { betas: [0.8, 0.999] },
    { secondMoment: 'example' },
    { onRefresh: 'zero' },
    { nesterov: true },
    { graft: false },
    { nullRule: 'none' },
  ] as const)
    await refused(errors<STEVEOptions>(STEVE, all, own as STEVEOptions), 'STEVE', Object.keys(own)[0]!);
});

law(t, 'a rate of the rest and a rate between steps are told by their values', async () => {
  const [first, second] = await errors<KFACOptions>(KFAC, {}, { rest: unclaimed => new SGD(unclaimed, { lr: 0.5 }) });
  assert.match(
    first!,
    /processes must be alike, and lr of the rest's optimizer is 0\.01 in process 0 and 0\.5 in process 1/,
  );
  assert.equal(second, first);
  assert.match(
    (await errors<KFACOptions>(KFAC, {}, { factorDecay: 0.5 }))[0]!,
    /factorDecay is 0\.9 in process 0 and 0\.5/,
  );
});

law(t, 'another class, or blocks of other sizes, are an error in all', async () => {
  const make = [KFAC, EKFAC] as const;
  const run = new RanksRun(2, modelOf, (m, communicator) => new make[communicator.rank]!(m, { communicator }));
  // Each names itself.
  const found = await run.step(backward);
  assert.match(found[0]!, /^Error: KFAC: processes must be alike, and the class of process 1/);
  assert.match(found[1]!, /^Error: EKFAC: processes must be alike, and the class of process 1/);
  const widths = [6, 7];
  const wide = new RanksRun(
    2,
    () => mlp([5, widths.shift()!, 3], { rng: new Generator(3) }),
    (m, communicator) => new KFAC(m, { communicator }),
  );
  const step = wide.step((model, rank) => {
    const rng = new Generator(rank);
    crossEntropy(model.call(randn([6, 5], { rng })), labels(rng, 6)).backward();
  });
  await refused(step, 'KFAC', 'the list of blocks, with their sizes,');
});

law(t, 'defaults that are given by name, and eigensolvers, may differ', async () => {
  const { eigh } = await import('@otimes/linalg');
  assert.deepEqual(
    await errors<KFACOptions>(
      KFAC,
      {},
      {
        lr: 0.01,
        factorDecay: 0.9,
        lossReduction: 'mean',
        trust: 0.1,
        klClip: false,
        loss: 'mse',
        eigensolver: a => eigh(a),
      },
    ),
    [],
  );
  assert.deepEqual(await errors<EKFACOptions>(EKFAC, {}, { klClip: 3e-3, trust: false, stagger: false }), []);
  assert.deepEqual(await errors<STEVEOptions>(STEVE, {}, { betas: [0.9, 0.999], refresh: 'sync' }), []);
});

law(t, 'CurvatureEstimate: options of one process alone are an error in all, and defaults none', async () => {
  const add = async (own: CurvatureOptions) => {
    const all = new Ranks(2).communicators.map(async communicator => {
      const { rank } = communicator;
      const model = modelOf();
      const curvature = new CurvatureEstimate(model, { ...(rank === 1 && own), communicator });
      backward(model, rank);
      await curvature.add();
    });
    return (await Promise.allSettled(all)).flatMap(one => (one.status === 'rejected' ? [String(one.reason)] : []));
  };
  for (const [own, what] of [
    [{ lossReduction: 'sum' }, 'lossReduction'],
    [{ fisher: 'ggn', loss: 'crossEntropy' }, 'fisher'],
    [{ sharing: 'reduce' }, 'sharing'],
    [{ maxFactorDim: 5 }, 'maxFactorDim'],
  ] as const)
    await refused(add(own), 'CurvatureEstimate.add', what);
  assert.deepEqual(await add({ lossReduction: 'mean', fisher: 'empirical', loss: 'mse', maxFactorDim: 100 }), []);
});
