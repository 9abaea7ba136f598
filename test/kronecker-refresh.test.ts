// When statistics are collected and bases refreshed, and what report() says of it.

import assert from 'node:assert/strict';
import { noGrad, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { Linear } from '@otimes/nn';
import { EKFAC, type EKFACOptions, KFAC, type Kfe, type KroneckerOptions, SGD, STEVE } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { effectiveRank } from '../optim/src/kronecker/report.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { family } from './helpers/damped.ts';
import { law } from './helpers/law.ts';
import { optimizerLaws } from './suites/optimizers.ts';
import { newNet, train } from './suites/training.ts';

t.test('when statistics are collected and bases refreshed', t => {
  const sizes = [5, 4, 4, 4, 3];
  /** Which blocks got a new basis in each step. */
  const refreshes = (o: KroneckerOptions, steps: number): string[] => {
    const seen = new Map<string, Kfe | null>();
    const log: string[] = [];
    train(m => new STEVE(m, o), {
      sizes,
      steps,
      afterStep: (_, step, optimizer) => {
        log[step] = '';
        for (const { path } of optimizer.describe()) {
          const { kfe } = optimizer.inspect(path);
          if (kfe !== (seen.get(path) ?? null)) log[step] += path;
          seen.set(path, kfe);
        }
      },
    });
    return log;
  };

  law(t, 'without stagger all blocks refresh together', () => {
    assert.deepEqual(refreshes({ refreshEvery: 3 }, 7), ['0246', '', '', '0246', '', '', '0246']);
  });

  law(t, 'with stagger each block refreshes once a period, and after the first step never all of them', () => {
    assert.deepEqual(refreshes({ refreshEvery: 4, stagger: true }, 9), [
      '0246',
      '2',
      '4',
      '6',
      '0',
      '2',
      '4',
      '6',
      '0',
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 9 }), refreshEvery => {
        const log = refreshes({ refreshEvery, stagger: true, route: 'resident' }, 3 * refreshEvery + 1);
        for (let step = 1; step < log.length; step++) assert.notEqual(log[step], '0246');
        for (const period of [1, 2]) {
          const inPeriod = log.slice(period * refreshEvery, (period + 1) * refreshEvery).join('');
          assert.deepEqual([...inPeriod].sort().join(''), '0246');
        }
        const most = Math.max(...log.slice(1).map(paths => paths.length));
        assert.equal(most, Math.ceil(4 / refreshEvery));
      }),
      { seed: 42, numRuns: 6 },
    );
  });

  for (const [name, make] of Object.entries(family))
    t.test(`${name}, staggered`, t => {
      optimizerLaws(t, { name, make: m => make(m, { stagger: true, refreshEvery: 3, factorEvery: 2, lr: 0.05 }) });
      t.end();
    });

  law(t, 'factorEvery: factors change on those steps and where a basis is refreshed, on no other', () => {
    for (const [refreshEvery, factorEvery, expected] of [
      [4, 3, [0, 3, 4, 6, 8, 9]],
      [5, 2, [0, 2, 4, 5, 6, 8]],
      [100, 100, [0]],
    ] as const) {
      const changes: number[] = [];
      let before: number[] = [];
      train(m => new STEVE(m, { refreshEvery, factorEvery }), {
        steps: 10,
        afterStep: (_, step, optimizer) => {
          const { A, G } = optimizer.inspect('2');
          const now = [...A!.dataSync(), ...G!.dataSync()];
          if (now.join() !== before.join()) changes.push(step);
          before = now;
        },
      });
      assert.deepEqual(changes, expected);
    }
  });

  law(t, "EKFAC 'example' measures S on the same steps; 'batch', which costs nothing, on every step", () => {
    const changes = (o: EKFACOptions) => {
      const steps: number[] = [];
      let before = '';
      train(m => new EKFAC(m, { refreshEvery: 4, factorEvery: 3, damping: 0.1, ...o }), {
        steps: 10,
        afterStep: (_, step, optimizer) => {
          const state = optimizer.inspect('0');
          const now = state.slots.get('S')!.dataSync().join();
          if (now !== before) steps.push(step);
          before = now;
          // A refreshing step measures too, so that S is not the product of eigenvalues alone.
          if (step % 4 === 0)
            assert.notEqual(
              now,
              noGrad(() => state.kfe!.eigenvalues())
                .dataSync()
                .join(),
            );
        },
      });
      return steps;
    };
    assert.deepEqual(changes({}), [0, 3, 4, 6, 8, 9]);
    assert.deepEqual(changes({ secondMoment: 'batch' }), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  law(t, 'a step that needs no statistics puts no hook on any output', () => {
    for (const route of ['gradient', 'resident'] as const) {
      const hooked: boolean[] = [];
      train(
        m => {
          for (const layer of m.layers)
            if (layer instanceof Linear)
              layer.onForward((_, __, y) => {
                hooked.push((y as Tensor).hasGradHooks);
              });
          const optimizer = new STEVE(m, { route, refreshEvery: 4, factorEvery: 4 });
          for (const layer of m.layers)
            if (layer instanceof Linear)
              layer.onForward((_, __, y) => {
                hooked[hooked.length - 1] = (y as Tensor).hasGradHooks;
              });
          return optimizer;
        },
        { steps: 5 },
      );
      assert.deepEqual(hooked, [true, true, false, false, false, false, false, false, true, true]);
    }
  });

  law(t, 'at a refresh the first moment of null directions of the new basis is dropped', () => {
    // Three examples a batch, so that each batch's A has rank 3 of 7.
    const { optimizer } = train(m => new STEVE(m, { lr: 0, factorDecay: 0, refreshEvery: 3 }), {
      batch: 3,
      steps: 4,
    });
    const { kfe, slots } = optimizer.inspect('0');
    const [m, sA] = [slots.get('m')!, kfe!.sA.dataSync()];
    const nulls = Array.from(sA.keys()).filter(j => sA[j]! < 1e-12 * sA.at(-1)!);
    assert.equal(nulls.length, 4);
    for (const j of nulls) mustBeClose(m.narrow(1, j, 1), m.narrow(1, j, 1).mul(0), { rtol: 0, atol: 0 });
    assert.ok(m.abs().max().item() > 0);
  });
  t.end();
});

t.test('report()', t => {
  law(t, 'before the first step there is nothing, and after it the spectra are the factors’ eigenvalues', () => {
    const empty = new KFAC(newNet()).report();
    assert.deepEqual(
      empty.blocks.map(({ path, spectrum, effectiveRank, cosine }) => ({ path, spectrum, effectiveRank, cosine })),
      ['0', '2'].map(path => ({ path, spectrum: null, effectiveRank: null, cosine: null })),
    );
    assert.deepEqual(empty.refreshes, { mode: 'sync', skipped: 0, done: 0, failed: 0, lastError: null, inFlight: 0 });
    const { optimizer } = train(m => new KFAC(m, { refreshEvery: 1, damping: 0.3 }), { steps: 4 });
    for (const { path, spectrum, effectiveRank: rank, relativeDamping } of optimizer.report().blocks) {
      const { A, G } = optimizer.inspect(path);
      const [a, g] = [A!, G!].map(factor => Float64Array.from(eigh(factor.ndarray()).values.data as Float64Array));
      mustBeClose(spectrum!.A, a!, { rtol: 1e-9, atol: 1e-14 });
      mustBeClose(spectrum!.G, g!, { rtol: 1e-9, atol: 1e-14 });
      assert.deepEqual(spectrum!.A, spectrum!.A.slice().sort());
      assert.deepEqual(rank, { A: effectiveRank(spectrum!.A), G: effectiveRank(spectrum!.G) });
      // The mean of sG sAᵀ is the product of the means.
      const mean = (x: Float64Array) => x.reduce((sum, s) => sum + s, 0) / x.length;
      mustBeClose(relativeDamping!, 0.3 / (mean(a!) * mean(g!)), { rtol: 1e-9 });
    }
  });

  law(t, 'JSON has a report with its spectra as lists, and the spectra are typed arrays all the same', () => {
    const { optimizer } = train(m => new KFAC(m, { damping: 0.3 }), { steps: 2 });
    const report = optimizer.report();
    type Read = { steps: number; blocks: { spectrum: { A: number[]; G: number[] } }[] };
    const read = JSON.parse(JSON.stringify(report)) as Read;
    assert.deepEqual(
      read.blocks.map(({ spectrum }) => spectrum),
      report.blocks.map(({ spectrum }) => ({ A: Array.from(spectrum!.A), G: Array.from(spectrum!.G) })),
    );
    const { spectrum } = report.blocks[0]!;
    assert.ok(spectrum!.A instanceof Float64Array && read.blocks[0]!.spectrum.A.length > 1);
    assert.deepEqual(JSON.parse(JSON.stringify(spectrum)), read.blocks[0]!.spectrum);
    assert.deepEqual(spectrum!.A, Float64Array.from(read.blocks[0]!.spectrum.A), 'nothing more is to be seen in them');
    assert.deepEqual(structuredClone(report), report);
  });

  law(t, 'the effective rank is n for the identity, 1 for rank one, and between them for the rest', () => {
    for (const n of [1, 2, 7, 30]) {
      mustBeClose(effectiveRank(new Float64Array(n).fill(0.3)), n, { rtol: 1e-12 });
      mustBeClose(effectiveRank(Float64Array.from({ length: n }, (_, i) => (i === 0 ? 5 : 0))), 1, { rtol: 1e-12 });
    }
    assert.equal(effectiveRank([0, 0]), 0);
    fc.assert(
      fc.property(fc.array(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), { minLength: 1 }), values => {
        const rank = effectiveRank(values);
        assert.ok(rank >= 1 - 1e-9 && rank <= values.length + 1e-9);
        mustBeClose(effectiveRank(values.map(x => x * 8)), rank, { rtol: 1e-9 });
      }),
      { seed: 42 },
    );
  });

  law(t, "EKFAC's relative damping is that of its own second moments; STEVE has none", () => {
    const { optimizer } = train(m => new EKFAC(m, { damping: 0.3 }), { steps: 3 });
    const S = optimizer.inspect('0').slots.get('S')!;
    mustBeClose(optimizer.report().blocks[0]!.relativeDamping!, 0.3 / S.mean().item());
    assert.equal(train(m => new STEVE(m), { steps: 2 }).optimizer.report().blocks[0]!.relativeDamping, null);
  });

  law(t, 'the cosine between gradient and update is in (0, 1] for KFAC and EKFAC, once it is observed', () => {
    for (const route of ['gradient', 'activations', 'resident'] as const)
      for (const make of [family.KFAC!, family.EKFAC!]) {
        train(m => make(m, { route, refreshEvery: 3 }), {
          steps: 8,
          afterStep: (_, step, optimizer) => {
            for (const { cosine } of optimizer.report().blocks)
              if (step < 3) assert.equal(cosine, null);
              else assert.ok(cosine! > 0 && cosine! <= 1 + 1e-12, `${cosine}`);
            if (step === 2) optimizer.observe();
          },
        });
      }
    // With a large damping KFAC is gradient descent.
    const { optimizer } = train(
      m => {
        const kfac = new KFAC(m, { damping: 1e9 });
        kfac.observe();
        return kfac;
      },
      { steps: 2 },
    );
    for (const { cosine } of optimizer.report().blocks) mustBeClose(cosine!, 1, { rtol: 1e-9 });
  });

  law(t, 'observing changes no step', () => {
    for (const make of Object.values(family))
      for (const route of ['gradient', 'resident'] as const) {
        const run = (observes: boolean) =>
          train(
            m => {
              const optimizer = make(m, { route, refreshEvery: 4 });
              if (observes) optimizer.observe();
              return optimizer;
            },
            { steps: 10 },
          );
        mustBeClose([...run(true).values], [...run(false).values], { rtol: 1e-10, atol: 1e-11 });
      }
  });

  law(t, 'steps, refreshes and times add up', () => {
    const { optimizer } = train(m => new KFAC(m, { refreshEvery: 4, rest: ps => new SGD(ps) }), { steps: 9 });
    const { steps, refreshes, milliseconds } = optimizer.report();
    assert.equal(steps, 9);
    assert.deepEqual(refreshes, { mode: 'sync', skipped: 0, done: 3 * 2, failed: 0, lastError: null, inFlight: 0 });
    for (const phase of ['statistics', 'refresh', 'precondition'] as const) assert.ok(milliseconds[phase] > 0, phase);
    assert.ok(milliseconds.rest >= 0);
    assert.doesNotThrow(() => JSON.stringify(optimizer.report()));
  });
  t.end();
});
