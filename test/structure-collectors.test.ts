// Factors of convolutions in a structure: from images, as from the patches that nobody makes then.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor } from '@otimes/core';
import { Conv2d, Linear, Sequential } from '@otimes/nn';
import { KFAC } from '@otimes/optim';
import { collectBlocks, defaultCollectors, type LayerBlock, Side } from '@otimes/optim/curvature';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law, property } from './helpers/law.ts';
import { type SideCase, sideOf } from './helpers/sides.ts';

const upTo = (max: number, min = 1) => fc.integer({ min, max });
const pair = (max: number, min = 1) => fc.tuple(upTo(max, min), upTo(max, min));
const geometries = fc.record({
  batch: upTo(3),
  groups: upTo(2),
  channels: upTo(4),
  kernel: pair(3),
  stride: pair(3),
  padding: pair(2, 0),
  dilation: pair(2),
  size: pair(9, 5),
  bias: fc.boolean(),
  structure: fc.constantFrom<SideCase['structure']>('exact', 'taps', 'channels', 'blocks', 'diagonal', 'identity'),
  blockDim: upTo(30),
  dtype: fc.constantFrom('float32' as const, 'float64' as const),
  seed: upTo(1e6),
});

const blocksOf = (model: Sequential): LayerBlock[] =>
  collectBlocks('test', model, defaultCollectors, { sharing: undefined });

law(t, 'what images give is what their patches give, for every stride, padding, dilation, groups and structure', () =>
  property(
    geometries,
    ({ batch, groups, channels, kernel, size, bias, structure, blockDim, dtype, seed, ...window }) => {
      const o = { rng: new Generator(seed), dtype };
      const conv = new Conv2d(channels * groups, 2 * groups, kernel, { ...window, groups, bias, ...o });
      const x = randn([batch, channels * groups, ...size], o);
      const gy: Tensor = noGrad(() => conv.forward(x));
      for (const block of blocksOf(new Sequential(conv))) {
        assert.equal(block.taps, kernel[0] * kernel[1]);
        assert.equal(block.hasBias, bias);
        const side = sideOf({ channels, taps: block.taps!, bias, structure, blockDim });
        assert.equal(side.n, block.dIn);
        const { a, gramA } = block.canonical(x, gy);
        const [fromImages, fromPatches] = [gramA!(side), side.gram(a)];
        assert.deepEqual(fromImages.shape, side.shape);
        mustBeClose(
          fromImages,
          fromPatches,
          dtype === 'float32' ? { rtol: 1e-4, atol: 1e-3 } : { rtol: 1e-11, atol: 1e-11 },
        );
      }
    },
    200,
  ),
);

law(t, 'an empty batch adds nothing, in every structure', () => {
  const conv = new Conv2d(2, 3, 3, { padding: 1, rng: new Generator(1) });
  const [block] = blocksOf(new Sequential(conv));
  for (const side of [
    Side.exact(19),
    Side.identity(19),
    Side.diagonal(19),
    Side.channels(19, 9, { bias: true }),
    Side.blocks(19, 10, { taps: 9, bias: true }),
  ]) {
    const { gramA } = block!.canonical(randn([0, 2, 4, 4]), randn([0, 3, 4, 4]));
    assert.ok(
      gramA!(side)
        .reshape([-1])
        .dataSync()
        .every(value => value === 0),
      side.structure,
    );
  }
});

law(t, 'a linear layer says that its channels have one tap, and whether the last coordinate is the bias', () => {
  const [first, second] = blocksOf(new Sequential(new Linear(2, 3), new Linear(3, 2, { bias: false })));
  assert.deepEqual([first!.taps ?? 1, first!.hasBias, second!.taps ?? 1, second!.hasBias], [1, true, 1, false]);
});

law(t, 'a collector whose gramA does not look at the side is an error that names the layer and the structure', () => {
  const model = new Sequential(new Linear(4, 2));
  const stubborn = {
    name: 'stubborn',
    collect: (...[module, path, o]: Parameters<(typeof defaultCollectors)[0]['collect']>) => {
      const blocks = defaultCollectors.at(-1)!.collect(module, path, o);
      for (const block of blocks ?? []) {
        const { canonical } = block;
        Object.assign(block, {
          canonical: (x: Tensor, gy: Tensor) => {
            const { a, g } = canonical.call(block, x, gy);
            return { a, g, gramA: () => a.squeeze(1).transpose().matmul(a.squeeze(1)) };
          },
        });
      }
      return blocks;
    },
  };
  const optimizer = new KFAC(model, { collectors: [stubborn], structure: { A: 'blocks' }, blockDim: 3 });
  assert.throws(
    () =>
      model
        .call(randn([3, 4]))
        .sum()
        .backward(),
    {
      message:
        "KFAC: linear '0': expected gramA(side) to return [13], as side.gram(a) does for a side of 5 coordinates of structure " +
        "'blocks', got [5,5]",
    },
  );
  optimizer.detach();
});

law(t, 'a block whose size does not count its channels is refused, with collector and path', () => {
  const wrong = {
    name: 'wrong',
    collect: (...[module, path, o]: Parameters<(typeof defaultCollectors)[0]['collect']>) =>
      defaultCollectors
        .at(-1)!
        .collect(module, path, o)
        ?.map(block => Object.assign(block, { taps: 3 })) ?? null,
  };
  assert.throws(() => new KFAC(new Sequential(new Linear(4, 2)), { collectors: [wrong] }), {
    message:
      "KFAC: collector 'wrong' at '0': expected block 0's dIn to count channels of 3 taps each, and a bias, got 5",
  });
});
