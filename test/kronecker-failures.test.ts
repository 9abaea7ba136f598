// Steps of a Kronecker optimizer that fail: numbers that are not finite, and memory that is full half way.

import assert from 'node:assert/strict';
import {
  full,
  Generator,
  OutOfMemoryError,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  type Tensor,
} from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, type Module, mlp, type Sequential } from '@otimes/nn';
import {
  Adam,
  AdamRule,
  type Eigensolver,
  KFAC,
  type KroneckerOptions,
  KroneckerPreconditioner,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { bitsOf, family, labels, type Make, nets, ROUTES } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { valuesOf } from './suites/training.ts';

t.test('a step of numbers that are not finite', t => {
  type Act = (model: Sequential, optimizer: KroneckerPreconditioner, loss: Tensor) => void;
  const set = (model: Sequential, at: number, value: number) => {
    const g = model.parameters().at(at)!.grad!;
    g.copy_(full(g.shape, value));
  };
  const spoilt: Record<string, Act> = {
    'NaN in the first gradient': (m, _, loss) => {
      loss.backward();
      set(m, 0, NaN);
    },
    'Infinity in the last weight’s gradient': (m, _, loss) => {
      loss.backward();
      set(m, -2, Infinity);
    },
    'NaN in a gradient of the rest': (m, _, loss) => {
      loss.backward();
      set(m, 2, NaN);
    },
    'factors that overflow': (_, __, loss) => loss.mul(1e30).backward(),
    'squares that overflow': (m, _, loss) => {
      loss.backward();
      for (const p of m.parameters()) p.grad!.scale_(1e25);
    },
    'weights that overflow': (_, optimizer, loss) => {
      loss.backward();
      optimizer.lr = 3e38;
    },
  };
  /** Where nothing overflows, the step is right. */
  const mayPass = new Set(['squares that overflow', 'weights that overflow']);
  const makes: Record<string, Make> = {
    ...family,
    'KFAC with momentum': (m, o) => new KFAC(m, { lr: 0.05, momentum: 0.9, ...o }),
    'STEVE, rest of the user': (m, o) => new STEVE(m, { lr: 0.05, rest: p => new Adam(p, { lr: 0.05 }), ...o }),
  };
  for (const [name, make] of Object.entries(makes))
    law(t, `${name}: is refused, changes nothing, and the next batch is as if it had not been`, () => {
      let refused = 0;
      for (const route of ROUTES)
        for (const at of [2, 3]) // between refreshes, and on one
          for (const [what, act] of Object.entries(spoilt)) {
            const play = (fails: boolean): string | null => {
              const rng = new Generator(5);
              const model = nets.linear!.make({ rng, dtype: 'float32' });
              const optimizer = make(model, { route, refreshEvery: 3 });
              for (let step = 0; step < 6; step++) {
                optimizer.zeroGrad();
                const [x, y] = [randn([12, 5], { rng }), labels(rng)];
                if (fails && step === at) {
                  const { lr } = optimizer;
                  const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
                  act(model, optimizer, crossEntropy(model.call(x), y));
                  try {
                    optimizer.step();
                    if (mayPass.has(what)) return null;
                  } catch (error) {
                    refused++;
                    assert.match(String(error), /RangeError: .*NaN or infinite elements; no parameter was changed/);
                  }
                  optimizer.lr = lr;
                  assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before, `${route}, ${what}`);
                  optimizer.zeroGrad();
                }
                crossEntropy(model.call(x), y).backward();
                optimizer.step();
              }
              return bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
            };
            const failing = play(true);
            if (failing !== null) assert.equal(failing, play(false), `${route}, ${at}, ${what}`);
          }
      assert.ok(refused >= 24, `${refused} were refused`);
    });

  law(t, 'a rest that throws is put back, and the blocks have not moved', () => {
    class Throws extends Adam {
      fails = false;
      override step(): void {
        super.step();
        if (this.fails) throw new Error('later');
      }
    }
    const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
    let rest: Throws | undefined;
    const optimizer = new STEVE(model, { rest: p => (rest = new Throws(p)) });
    const back = () => crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    back();
    optimizer.step();
    const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
    back();
    rest!.fails = true;
    assert.throws(() => optimizer.step(), /later/);
    assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
  });

  const wrong: [string, (e: ReturnType<typeof eigh>) => unknown, RegExp][] = [
    [
      'NaN in the vectors',
      e => void e.vectors.data.fill(NaN),
      /RangeError: .*factor A of linear '3' has eigenvectors that are not finite/,
    ],
    [
      'Infinity in the values',
      e => void e.values.data.fill(Infinity),
      /RangeError: .*has eigenvalues that are not finite/,
    ],
    ['vectors that are not orthonormal', e => void e.vectors.data.set([0.3, 0.7], 3), /are not orthonormal/],
    [
      'vectors that are too short',
      e => void e.vectors.data.set(Float64Array.from(e.vectors.data as Float64Array, v => 0.99 * v)),
      /are not orthonormal/,
    ],
    ['other shapes', e => Object.assign(e.vectors, { shape: [2, 2] }), /TypeError: .*vectors is \[2,2\]/],
    [
      'nothing',
      () => null,
      /TypeError: STEVE: the eigensolver must return \{ values \[7\], vectors \[7,7\] \} as ndarrays/,
    ],
  ];
  for (const [what, spoil, message] of wrong)
    law(t, `an eigensolver that returns ${what} is an error, and nothing has changed`, () => {
      const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
      let fails = false;
      const eigensolver: Eigensolver = m => {
        const e = eigh(m);
        return fails && spoil(e) === null ? JSON.parse('null') : e;
      };
      const optimizer = new STEVE(model, { eigensolver, refreshEvery: 1 });
      const back = () => crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
      back();
      optimizer.step();
      const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
      fails = true;
      back();
      assert.throws(() => optimizer.step(), message);
      assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
    });
  t.end();
});

t.test('a step that ends half way', t => {
  /** A device whose memory is full at the n-th allocation from now on. */
  class Small extends ReferenceBackend {
    left = Number.POSITIVE_INFINITY;
    override allocate(...a: Parameters<ReferenceBackend['allocate']>): ReturnType<ReferenceBackend['allocate']> {
      if (--this.left === 0) throw new OutOfMemoryError('allocate: memory is full, on purpose');
      return super.allocate(...a);
    }
  }
  const small = new Small('small');
  registerBackend(small);
  const device = 'small';
  for (const [name, make] of Object.entries(family))
    for (const route of ['gradient', 'resident'] as const)
      law(
        t,
        `${name}, ${route}: memory that ends anywhere in a refreshing step changes nothing, and training goes on`,
        () => {
          const rng = new Generator(0);
          const model = mlp([4, 5, 3], { rng }).to(device);
          const optimizer = make(model, { refreshEvery: 2, route });
          const [x, y] = [randn([8, 4], { rng, device }), randint(0, 3, [8], { rng, device })];
          const step = (memory = Number.POSITIVE_INFINITY) => {
            optimizer.zeroGrad();
            crossEntropy(model.call(x), y).backward();
            small.left = memory;
            try {
              optimizer.step();
            } finally {
              small.left = Number.POSITIVE_INFINITY;
            }
          };
          const values = () => JSON.stringify([model.stateDict(), optimizer.stateDict()]);
          step();
          step();
          const start = [model.stateDict(), optimizer.stateDict()] as const;
          const before = values();
          let places = 0;
          for (let at = 1; at < 400; at += at < 40 ? 1 : 7) {
            try {
              step(at);
              break;
            } catch (error) {
              assert.match(String(error), /on purpose/);
            }
            places++;
            assert.equal(values(), before, `allocation ${at}`);
          }
          assert.ok(places > 20, `${places} places`);
          model.loadStateDict(start[0]);
          optimizer.loadStateDict(start[1]);
          step();
          assert.notEqual(values(), before);
        },
      );

  law(t, 'code of the program in a step may throw: nothing has changed, and training goes on', () => {
    let throws = false;
    class OwnRule extends AdamRule {
      override direction(...x: Parameters<AdamRule['direction']>): Tensor {
        if (throws) throw new Error('mine');
        return super.direction(...x);
      }
    }
    class Own extends KroneckerPreconditioner {
      constructor(model: Module, o: KroneckerOptions & { nesterov: boolean }) {
        super(model, o, { rule: new OwnRule(o), lr: 0.01, rest: unclaimed => new Adam(unclaimed) });
      }
    }
    for (const route of ['gradient', 'resident'] as const) {
      const model = mlp([4, 5, 3], { rng: new Generator(1) });
      const optimizer = new Own(model, { route, nesterov: true });
      for (let step = 0; step < 5; step++) {
        throws = step === 0 || step === 3;
        const before = JSON.stringify(model.stateDict());
        optimizer.zeroGrad();
        crossEntropy(model.call(randn([8, 4])), randint(0, 3, [8])).backward();
        if (!throws) optimizer.step();
        else {
          assert.throws(() => optimizer.step(), /mine/);
          assert.equal(JSON.stringify(model.stateDict()), before);
        }
      }
      assert.equal(optimizer.steps, 3);
    }
  });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: gradients that are set to null take along what was collected with them`, () => {
      const play = (skips: boolean, bad: number, zero: (m: Sequential, o: KroneckerPreconditioner) => void) => {
        const rng = new Generator(7);
        const model = nets.linear!.make({ dtype: 'float64', rng });
        const optimizer = make(model, { refreshEvery: 2 });
        for (let i = 0; i < 6; i++) {
          const x = randn([12, 5], { rng, dtype: 'float64' });
          const y = randint(0, 3, [12], { rng });
          if (i === 2 && !skips) continue;
          zero(model, optimizer);
          crossEntropy(model.call(i === 2 ? x.mul(bad) : x), y).backward();
          if (i !== 2) optimizer.step();
        }
        return valuesOf(model);
      };
      const byHand = (model: Sequential) => {
        for (const p of model.parameters()) p.grad = null;
      };
      const expected = play(false, 1, (_, o) => o.zeroGrad());
      for (const bad of [1, Number.NaN]) assert.deepEqual(play(true, bad, byHand), expected);
    });
  t.end();
});
