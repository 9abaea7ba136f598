// Convolutions along one and three axes, and transposed ones, as Kronecker blocks.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor } from '@otimes/core';
import { Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, type Module, mseLoss } from '@otimes/nn';
import { KFAC, Muon, STEVE } from '@otimes/optim';
import { Side } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { dtype, random, step } from './helpers/attention.ts';
import { law, overSeeds } from './helpers/law.ts';
import { blocksOf, empiricalFisher, exampleGradients, kronecker, statistics } from './suites/exactness.ts';

/** Layers with an input; those of images are in kronecker-conv.test.ts. */
const layers: Record<string, (o: ReturnType<typeof random>) => [Module, Tensor]> = {
  Conv1d: o => [new Conv1d(2, 3, 3, { ...o, stride: 2, padding: 1, dilation: 2 }), randn([3, 2, 8], o)],
  'Conv1d in groups': o => [new Conv1d(4, 6, 2, { ...o, groups: 2, bias: false }), randn([2, 4, 5], o)],
  "Conv1d, 'same'": o => [new Conv1d(2, 3, 4, { ...o, padding: 'same' }), randn([2, 2, 5], o)],
  'Conv2d, reflecting': o => [
    new Conv2d(2, 3, 3, { ...o, padding: 1, paddingMode: 'reflect' }),
    randn([2, 2, 3, 4], o),
  ],
  Conv3d: o => [
    new Conv3d(2, 3, [2, 3, 1], { ...o, stride: [2, 1, 1], padding: [1, 1, 0] }),
    randn([2, 2, 3, 3, 2], o),
  ],
  'Conv3d in groups': o => [new Conv3d(2, 4, 2, { ...o, groups: 2 }), randn([2, 2, 3, 2, 3], o)],
  ConvTranspose1d: o => [new ConvTranspose1d(2, 3, 3, { ...o, stride: 2, outputPadding: 1 }), randn([3, 2, 4], o)],
  ConvTranspose2d: o => [new ConvTranspose2d(2, 2, [3, 2], { ...o, stride: 2, padding: 1 }), randn([2, 2, 2, 3], o)],
  'ConvTranspose2d in groups': o => [
    new ConvTranspose2d(4, 2, 2, { ...o, groups: 2, dilation: 3, outputPadding: [2, 1] }),
    randn([2, 4, 2, 2], o),
  ],
};
const targets = (model: Module, x: Tensor, o: ReturnType<typeof random>) =>
  randn(noGrad(() => model.call(x) as Tensor).shape, o);

for (const [name, make] of Object.entries(layers)) {
  law(t, `${name}: the gradient of its block is Σ g aᵀ over examples and places`, () => {
    overSeeds(3, seed => {
      const o = random(seed);
      const [model, x] = make(o);
      const y = targets(model, x, o);
      const blocks = blocksOf(new KFAC(model, { lr: 0.1 })).map(({ block }) => block);
      const out = model.call(x) as Tensor;
      let gy: Tensor | null = null;
      out.onGrad(g => {
        gy = g.clone().keep();
      });
      mseLoss(out, y).backward();
      assert.ok(blocks.length > 0);
      for (const block of blocks)
        noGrad(() => {
          const { a, g } = block.canonical(x, gy!);
          const D = g.flatten(0, 1).transpose().matmul(a.flatten(0, 1));
          assert.deepEqual(D.shape, [block.dOut, block.dIn]);
          mustBeClose(block.gradient()!, D, { atol: 1e-12 }, block.path);
        });
    });
  });

  law(t, `${name}: factors by its own Gram matrices are those of explicit rows, for every structure`, () => {
    const o = random(1);
    const [model, x] = make(o);
    const y = targets(model, x, o);
    for (const { block } of blocksOf(new KFAC(model, { lr: 0.1 }))) {
      noGrad(() => {
        const { a, gramA } = block.canonical(x, y);
        const shape = { taps: block.taps ?? 1, bias: block.hasBias ?? false };
        const sides = [
          Side.exact(block.dIn),
          Side.blocks(block.dIn, 3, shape),
          Side.identity(block.dIn),
          ...(shape.taps > 1
            ? [true, false].map(turnsTaps => Side.channels(block.dIn, shape.taps, { bias: shape.bias, turnsTaps }))
            : []),
        ];
        for (const side of sides) {
          const own = gramA?.(side) ?? side.gram(a);
          mustBeClose(own, side.gram(a), { rtol: 1e-12, atol: 1e-12 }, `${block.path} ${side.structure}`);
        }
      });
    }
  });

  law(t, `${name}: training with STEVE in every structure, and with Muon, lowers the loss`, () => {
    for (const structure of ['exact', 'taps', 'identity', 'muon'] as const) {
      const o = random(2);
      const [model, x] = make(o);
      const y = targets(model, x, o);
      const optimizer =
        structure === 'muon'
          ? new Muon(model, { lr: 0.02 })
          : new STEVE(model, { lr: 0.05, refreshEvery: 3, structure });
      const loss = () => noGrad(() => mseLoss(model.call(x) as Tensor, y).item());
      const before = loss();
      for (let k = 0; k < 8; k++) step(model, optimizer, { x, y });
      assert.ok(loss() < before, `${structure}: ${loss()} from ${before}`);
    }
  });
}

law(t, 'one example and one pixel of a transposed convolution: A ⊗ G is the empirical Fisher block', () => {
  overSeeds(4, seed => {
    const o = random(seed);
    const model = new ConvTranspose2d(3, 2, [2, 3], { ...o, bias: false });
    const x = randn([1, 3, 1, 1], o);
    const y = targets(model, x, o);
    for (const state of statistics({ model, x, y, loss: 'mse' })) {
      // The weight has the input channels first.
      const Ds = exampleGradients(model, state, x, y, 'mse').map(D => D.transpose());
      mustBeClose(kronecker(state), empiricalFisher(Ds), { atol: 1e-13 });
    }
  });
});

law(t, 'a sequence and a volume of one slice have the blocks of images', () => {
  const o = random(3);
  const flat = new Conv2d(2, 3, [1, 3], { ...o, padding: [0, 1], stride: [1, 2] });
  const line = new Conv1d(2, 3, 3, { dtype, padding: 1, stride: 2 });
  const volume = new Conv3d(2, 3, [1, 1, 3], { dtype, padding: [0, 0, 1], stride: [1, 1, 2] });
  const x = randn([3, 2, 1, 7], o);
  const y = targets(flat, x, o);
  for (const [twin, of] of [
    [line, (z: Tensor) => z.squeeze(2)],
    [volume, (z: Tensor) => z.unsqueeze(2)],
  ] as const) {
    twin.loadStateDict({ weight: of(flat.weight.detach()), bias: flat.bias!.detach() });
    for (const sharing of ['expand', 'reduce'] as const) {
      const [ours] = statistics({ model: flat, x, y, loss: 'mse' }, { sharing });
      const [theirs] = statistics({ model: twin, x: of(x), y: of(y), loss: 'mse' }, { sharing });
      for (const side of ['A', 'G'] as const) mustBeClose(theirs![side]!, ours![side]!, { atol: 1e-14 }, side);
    }
  }
});

law(t, 'the bias of a transposed convolution and a layer that is frozen belong to rest', () => {
  const layer = new ConvTranspose2d(2, 2, 2, { rng: new Generator(1) });
  const rows = new KFAC(layer, { lr: 0.1 }).describe();
  assert.match(String(rows), /convTranspose +8 × 2/);
  assert.match(String(rows), /rest/);
  layer.weight.requiresGrad = false;
  assert.doesNotMatch(String(new KFAC(layer, { lr: 0.1 }).describe()), /convTranspose/);
});
