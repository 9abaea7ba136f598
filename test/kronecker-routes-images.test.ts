// Convolutions in their basis: the ways that a gradient takes there are one optimizer, and nobody sees which one ran.

import assert from 'node:assert/strict';
import {
  Generator,
  getBackend,
  grad,
  loadSafetensors,
  noGrad,
  randn,
  type StateDict,
  saveSafetensors,
  scope,
  type Tensor,
  WasmBackend,
} from '@otimes/core';
import { Conv2d, Sequential } from '@otimes/nn';
import { clipGradNorm, KFAC, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import {
  convAt,
  type ImageActs,
  imageBatches,
  imageLoss,
  imagesMidway,
  newImageNet,
  sameImagesEverywhere,
  structures,
  trainImages,
} from './helpers/image-runs.ts';
import { law } from './helpers/law.ts';
import { family, ROUTES, TURNED, three } from './helpers/routes.ts';
import { operationOf, valuesOf } from './suites/training.ts';

const close = (x: Tensor, y: Tensor, what: string) => mustBeClose(x, y, { rtol: 1e-9, atol: 1e-11 }, what);

t.test('one optimizer, whichever way the gradient of a convolution takes', t => {
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: the same trajectory on every route, through refreshes`, () => {
      for (const [where, structure] of Object.entries(structures))
        for (const factorEvery of [1, 3]) {
          const o = { ...structure, refreshEvery: 4, factorEvery };
          const plain = trainImages(m => make(m, { ...o, route: 'gradient' }), { steps: 10 });
          assert.equal(plain.turned, 0);
          for (const route of TURNED) {
            const run = trainImages(m => make(m, { ...o, route }), { steps: 10 });
            const what = `${where}, ${route}`;
            assert.deepEqual(run.routes, [route, route, route, route], what);
            // All but the first step's, which has no basis yet, and none was given up.
            assert.equal(run.turned, 9 * 3, what);
            for (const { path } of run.optimizer.describe()) assert.equal(run.optimizer.inspect(path).misses, 0);
            mustBeClose([...run.losses], [...plain.losses], { rtol: 1e-9, atol: 1e-10 }, `${what}: losses`);
            mustBeClose([...run.values], [...plain.values], { rtol: 1e-9, atol: 1e-9 }, what);
          }
        }
    });

  law(t, 'a batch of one example', () => sameImagesEverywhere({}, { batch: 1 }));

  for (const [name, make] of Object.entries(three))
    law(t, `${name}, float32: the same trajectory within what rounding explains`, () => {
      for (const structure of Object.values(structures)) {
        const o = { ...structure, refreshEvery: 4 };
        const data = { steps: 8, float: 'float32' } as const;
        const plain = trainImages(m => make(m, { ...o, route: 'gradient' }), data);
        for (const route of TURNED) {
          const run = trainImages(m => make(m, { ...o, route }), data);
          mustBeClose([...run.values], [...plain.values], { rtol: 2e-3, atol: 2e-3 }, route);
        }
      }
    });

  law(t, 'each alone repeats bit for bit, inside a scope too', () => {
    for (const structure of Object.values(structures))
      for (const route of ROUTES) {
        const make = (m: Sequential) => new STEVE(m, { ...structure, route, refreshEvery: 3 });
        const run = trainImages(make, { steps: 7 });
        const model = newImageNet();
        const optimizer = make(model);
        for (const batch of imageBatches({ steps: 7 }))
          scope(() => {
            optimizer.zeroGrad();
            imageLoss(model, batch).backward();
            optimizer.step();
          });
        assert.deepEqual(valuesOf(model), run.values);
      }
  });

  law(t, 'with a side over channels and taps together a convolution takes its gradient', () => {
    const run = trainImages(m => new STEVE(m, { route: 'resident' }), { steps: 3 });
    assert.deepEqual(run.routes, ['gradient', 'gradient', 'resident', 'resident']);
  });
  t.end();
});

t.test('nobody sees which route ran', t => {
  for (const [where, structure] of Object.entries(structures))
    for (const route of ROUTES) {
      law(t, `${where}, ${route}: gradients and outputs are those of the plain model, however they are read`, () => {
        const { model, optimizer, twin, x, y, loss } = imagesMidway(route, structure);
        const leaf = (of: Tensor) => Object.assign(of.clone(), { requiresGrad: true });
        const [mine, theirs] = [leaf(x), leaf(x)];
        imageLoss(model, { x: mine, y }).backward();
        imageLoss(twin, { x: theirs, y }).backward();
        close(mine.grad!, theirs.grad!, 'the input');
        const gradients = [...model.namedParameters()].map(([path, p]) => {
          const expected = twin.namedParameters().get(path)!.grad!;
          assert.deepEqual([p.grad!.shape, p.grad!.dtype], [p.shape, p.dtype]);
          return { path, g: p.grad!, expected };
        });
        // Read late: after the step, and after another pass.
        optimizer.step();
        optimizer.zeroGrad();
        loss().backward();
        for (const { path, g, expected } of gradients) close(g, expected, path);
      });

      law(t, `${where}, ${route}: evaluation, noGrad, state dicts and files see the weight`, () => {
        const { model, x } = imagesMidway(route, structure);
        const loaded = (state: StateDict) => {
          const other = newImageNet({ seed: 3 });
          other.loadStateDict(state);
          return other.call(x).detach();
        };
        const z = model.call(x).detach();
        close(
          noGrad(() => model.call(x)),
          z,
          'noGrad',
        );
        close(loaded(model.stateDict()), z, 'stateDict');
        close(loaded(loadSafetensors(saveSafetensors(model.stateDict()))), z, 'safetensors');
        close(model.eval().call(x).detach(), z, 'eval');
        close(model.forward(x).detach(), z, 'forward');
      });

      law(
        t,
        `${where}, ${route}: gradients of gradients, by grad() and as a penalty, are those of the plain model`,
        () => {
          const { model, twin, loss } = imagesMidway(route, structure);
          const hvp = (m: Sequential) => {
            const ps = m.parameters();
            const rng = new Generator(4);
            const terms = grad(loss(m), ps, { createGraph: true }).map(g =>
              g.mul(randn(g.shape, { dtype: 'float64', rng })).sum(),
            );
            return grad(
              terms.reduce((sum, term) => sum.add(term)),
              ps,
            );
          };
          const expected = hvp(twin);
          for (const [i, g] of hvp(model).entries()) close(g, expected[i]!, `${i}`);
        },
      );
    }

  for (const [what, acts] of Object.entries<ImageActs>({
    'gradients clipped on some steps': {
      beforeStep: (m, step) => step % 3 === 1 && void clipGradNorm(m.parameters(), 0.05),
    },
    'a weight scaled between steps': {
      afterStep: (m, step) => step % 3 === 1 && noGrad(() => void convAt(m, '0').weight.scale_(0.9)),
    },
    'another state loaded in the middle': {
      afterStep: (m, step) => step === 5 && m.loadStateDict(newImageNet({ seed: 9 }).stateDict()),
    },
    'a hook on a weight': {
      beforeBackward: (m, _, step) => {
        const handle = convAt(m, '2').weight.onGrad(g => {
          handle.remove();
          return g.mul(1 + step / 4);
        });
      },
    },
    'a penalty on a weight': {
      loss: (m, batch) => imageLoss(m, batch).add(convAt(m, '0').weight.square().sum().mul(0.05)),
    },
    'a part of the batches in two passes': {
      loss: (m, { x, y }, step) => {
        if (step % 4 !== 2) return imageLoss(m, { x, y });
        const half = (from: number) => imageLoss(m, { x: x.narrow(0, from, 3), y: y.narrow(0, from, 3) }).mul(0.5);
        half(0).backward();
        return half(3);
      },
    },
  }))
    law(t, `${what}: has the effect that it has on the plain route`, () => {
      for (const make of Object.values(three)) sameImagesEverywhere(acts, { make });
    });

  law(t, 'reading gradients, parameters and states between steps changes no bit of what follows', () => {
    for (const structure of Object.values(structures))
      for (const route of ROUTES) {
        const make = (m: Sequential) => new STEVE(m, { ...structure, route, refreshEvery: 3 });
        const quiet = trainImages(make, { steps: 7 });
        const watched = trainImages(make, {
          steps: 7,
          beforeStep: m => void m.parameters().map(p => p.grad!.toArray()),
          afterStep: (m, _, optimizer) => void [m.stateDict(), optimizer.stateDict(), optimizer.report()],
        });
        assert.deepEqual(watched.values, quiet.values);
      }
  });

  law(t, 'a run that was saved in the middle of a period goes on bit for bit', () => {
    for (const make of Object.values(three))
      for (const structure of Object.values(structures))
        for (const route of ROUTES) {
          const begin = (seed: number) => {
            const model = newImageNet({ seed });
            return { model, optimizer: make(model, { ...structure, route, refreshEvery: 4 }) };
          };
          const batches = imageBatches({ steps: 9 });
          const go = ({ model, optimizer }: ReturnType<typeof begin>, from: number, to: number) => {
            for (const batch of batches.slice(from, to)) {
              optimizer.zeroGrad();
              imageLoss(model, batch).backward();
              optimizer.step();
            }
          };
          const [whole, second] = [begin(1), begin(2)];
          go(whole, 0, 6);
          second.optimizer.loadStateDict(loadSafetensors(saveSafetensors(whole.optimizer.stateDict())));
          second.model.loadStateDict(loadSafetensors(saveSafetensors(whole.model.stateDict())));
          for (const run of [whole, second]) go(run, 6, 9);
          assert.deepEqual(valuesOf(second.model), valuesOf(whole.model));
        }
  });

  law(t, 'a convolution that is used twice in one pass goes back to gradients', () => {
    for (const structure of Object.values(structures))
      for (const route of TURNED) {
        const layer = new Conv2d(3, 3, 3, { padding: 1, dtype: 'float64', rng: new Generator(1) });
        const model = new Sequential(layer, layer);
        const optimizer = new STEVE(model, { ...structure, route, refreshEvery: 100 });
        const x = randn([2, 3, 4, 4], { dtype: 'float64', rng: new Generator(2) });
        const routes = Array.from({ length: 4 }, () => {
          optimizer.zeroGrad();
          model.call(x).square().sum().backward();
          optimizer.step();
          return optimizer.describe()[0]!.route;
        });
        assert.deepEqual(routes, [route, route, 'gradient', 'gradient']);
      }
  });

  law(t, 'detach() leaves parameters that are right, and layers as they were', () => {
    for (const structure of Object.values(structures))
      for (const route of ROUTES) {
        const { model, optimizer, twin, x } = imagesMidway(route, structure);
        optimizer.detach();
        assert.equal(operationOf(convAt(model, '0').call(x)), 'conv2d');
        close(model.call(x).detach(), twin.call(x).detach(), route);
        new KFAC(model, { route }).detach();
      }
  });

  law(t, 'steps leave nothing behind but the few numbers that the user saw', () => {
    const backend = getBackend('cpu');
    assert.ok(backend instanceof WasmBackend);
    const { heap } = backend.kernels;
    for (const structure of Object.values(structures))
      for (const route of ROUTES) {
        const model = newImageNet();
        const optimizer = new STEVE(model, { ...structure, route, refreshEvery: 1000, factorEvery: 1000 });
        const [batch] = imageBatches({ steps: 1 });
        const step = () => {
          optimizer.zeroGrad();
          imageLoss(model, batch!).backward();
          optimizer.step();
        };
        for (let i = 0; i < 3; i++) step();
        // Too few for a collection, which would hide what is left behind. The smallest weight has 18 elements, x̃ 1440.
        const before = heap.stats.live;
        for (let i = 0; i < 20; i++) step();
        const each = (heap.stats.live - before) / 20;
        assert.ok(each < 1024, `${route}: ${each} bytes a step`);
      }
  });

  law(t, 'an input that does not fit is what it is to the layer', () => {
    for (const route of ROUTES) {
      const { model } = imagesMidway(route, structures['inputs at the identity']!);
      const layer = convAt(model, '0');
      const images = (...shape: number[]) => randn(shape, { dtype: 'float64', rng: new Generator(3) });
      assert.throws(() => layer.call(images(2, 3, 6, 6)), /Conv2d: expected an input \[N, 2, H, W\]/);
      assert.throws(() => convAt(model, '2').call(images(2, 4, 1, 1)), /conv2d/);
      assert.deepEqual(layer.call(images(0, 2, 6, 6)).shape, [0, 4, 6, 6]);
      assert.equal(layer.call(images(1, 2, 6, 6).astype('float32')).dtype, 'float64');
    }
  });
  t.end();
});
