// A convolution in its basis is the convolution: output, gradients in the basis, and gradients of what it is made of.

import assert from 'node:assert/strict';
import { eye, Generator, grad, noGrad, type Pair, randn, type Tensor } from '@otimes/core';
import { Conv2d } from '@otimes/nn';
import fc from 'fast-check';
import t from 'tap';
import type { ConvolutionLayer } from '../optim/src/curvature/block.ts';
import { BasisGradient, basisGradient, type Frame } from '../optim/src/curvature/routes/frame.ts';
import { convolutionIn, isTurnable } from '../optim/src/curvature/routes/images.ts';
import { Side } from '../optim/src/curvature/side.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { basisOf } from './helpers/sides.ts';

type Case = {
  readonly A: 'taps' | 'channels' | 'identity';
  readonly G: 'exact' | 'blocks' | 'identity';
  readonly resident: boolean;
  readonly bias: boolean;
  readonly sizes: readonly [images: number, inputs: number, outputs: number, rows: number, columns: number];
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly padding: Pair;
  readonly dilation: Pair;
  readonly seed: number;
};

const pair = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));
const upTo = (max: number) => fc.integer({ min: 1, max });

const cases: fc.Arbitrary<Case> = fc.record({
  A: fc.constantFrom('taps' as const, 'channels' as const, 'identity' as const),
  G: fc.constantFrom('exact' as const, 'blocks' as const, 'identity' as const),
  resident: fc.boolean(),
  bias: fc.boolean(),
  sizes: fc.tuple(upTo(3), upTo(4), upTo(6), fc.integer({ min: 5, max: 8 }), fc.integer({ min: 5, max: 8 })),
  kernel: pair(1, 3),
  stride: pair(1, 3),
  padding: pair(0, 2),
  dilation: pair(1, 2),
  seed: fc.integer({ min: 0, max: 1e6 }),
});

const float64 = { dtype: 'float64' } as const;

/** It as a matrix [n, n]. */
const dense = (side: Side, U: Tensor | null): Tensor => side.turn(eye(side.n, float64), U);

/** A layer, a basis for it, an input, and what its matrix [W | b] is there. */
function made({ A, G, resident, bias, sizes, kernel, stride, padding, dilation, seed }: Case) {
  const rng = new Generator(seed);
  const [images, inputs, outputs, rows, columns] = sizes;
  const module = new Conv2d(inputs, outputs, kernel, { stride, padding, dilation, bias, ...float64, rng });
  const { weight } = module;
  const layer: ConvolutionLayer = { module, weight, bias: module.bias, window: { kernel, stride, padding, dilation } };
  const taps = kernel[0] * kernel[1];
  const n = inputs * taps + Number(bias);
  const sides = {
    // With one tap the channels' side is exact, and has the bias among the others.
    A: A === 'identity' || taps === 1 ? Side.identity(n) : Side.channels(n, taps, { bias, turnsTaps: A === 'taps' }),
    G: { exact: Side.exact(outputs), blocks: Side.blocks(outputs, 2), identity: Side.identity(outputs) }[G],
  };
  const [UA, UG] = [basisOf(sides.A, { ...float64, rng }), basisOf(sides.G, { ...float64, rng })];
  const [RA, RG] = [dense(sides.A, UA), dense(sides.G, UG)];
  const project = (D: Tensor) => RG.transpose().matmul(D).matmul(RA);
  const matrix = (ps: readonly Tensor[]) => noGrad(() => matrixOf(ps));
  const frame: Frame = { sides, UA, UG, resident: resident ? project(matrix(module.parameters())) : null };
  const x = randn([images, inputs, rows, columns], { ...float64, rng });
  const mix = (y: Tensor) =>
    y
      .mul(randn(y.shape, { ...float64, rng: new Generator(seed + 1) }))
      .sin()
      .sum();
  return { module, layer, frame, x, mix, project, matrix };
}

/** [W | b] of a weight and maybe a bias, or of gradients. */
function matrixOf([W, b]: readonly Tensor[]): Tensor {
  const I = W!.size / W!.shape[0]!;
  const units = eye(I + 1, float64);
  if (b === undefined) return W!.reshape([-1, I]);
  return W!
    .reshape([-1, I])
    .matmul(units.narrow(0, 0, I))
    .add(b.unsqueeze(1).mul(units.narrow(0, I, 1)));
}

const close = (x: Tensor, y: Tensor, what: string) => mustBeClose(x, y, { rtol: 1e-10, atol: 1e-11 }, what);
const leaf = (x: Tensor): Tensor => Object.assign(x.clone(), { requiresGrad: true });

t.test('a convolution in its basis', t => {
  const holds = (check: (one: Case) => void, numRuns = 150) =>
    fc.assert(fc.property(cases, check), { seed: 42, numRuns });

  law(t, 'is the convolution, and its gradients are that one’s: by the input, in the basis, by weight and bias', () => {
    holds(one => {
      const { module, layer, frame, x, mix, project, matrix } = made(one);
      const [mine, theirs] = [leaf(x), leaf(x)];
      const y = module.forward(theirs);
      mix(y).backward();
      const expected = module.parameters().map(p => p.grad!);
      for (const p of module.parameters()) p.grad = null;
      const z = convolutionIn(frame, layer, mine);
      close(z.detach(), y.detach(), 'output');
      mix(z).backward();
      close(mine.grad!, theirs.grad!, 'the input');
      const found = basisGradient(layer);
      assert.ok(found instanceof BasisGradient);
      close(found.D, project(matrix(expected)), 'D̃');
      for (const [i, p] of module.parameters().entries()) close(p.grad!, expected[i]!, ['weight', 'bias'][i]!);
    });
  });

  law(t, 'where the input needs no gradient nothing else changes', () => {
    holds(one => {
      const { module, layer, frame, x, mix, project, matrix } = made(one);
      mix(module.forward(x)).backward();
      const expected = project(matrix(module.parameters().map(p => p.grad!)));
      for (const p of module.parameters()) p.grad = null;
      mix(convolutionIn(frame, layer, x)).backward();
      close(basisGradient(layer)!.D, expected, 'D̃');
      assert.equal(x.grad, null);
    }, 40);
  });

  law(t, 'a gradient that keeps the graph can be had again, and is differentiable', () => {
    holds(one => {
      const { module, layer, frame, x, mix } = made(one);
      const [mine, theirs] = [leaf(x), leaf(x)];
      const second = (y: Tensor, x: Tensor) => {
        const of = [x, ...module.parameters()];
        const first = grad(mix(y), of, { createGraph: true });
        const again = grad(mix(y), of);
        for (const [i, g] of first.entries()) close(again[i]!, g.detach(), 'again');
        return grad(
          first.map(g => g.square().sum()).reduce((sum, term) => sum.add(term)),
          of,
        );
      };
      const expected = second(module.forward(theirs), theirs);
      for (const [i, g] of second(convolutionIn(frame, layer, mine), mine).entries()) close(g, expected[i]!, `${i}`);
    }, 40);
  });

  law(
    t,
    'the channels of an input turn alone: not by a side that mixes them with taps or with the homogeneous 1',
    () => {
      const layer = (kernel: number, bias: boolean): ConvolutionLayer => {
        const module = new Conv2d(4, 3, kernel, { bias });
        const [pair, one, none] = [
          [kernel, kernel],
          [1, 1],
          [0, 0],
        ] as const;
        const window = { kernel: pair, stride: one, padding: none, dilation: one };
        return { module, weight: module.weight, bias: module.bias, window };
      };
      assert.ok(isTurnable(layer(3, true), Side.channels(37, 9, { bias: true })));
      assert.ok(isTurnable(layer(3, false), Side.channels(36, 9, { turnsTaps: false })));
      assert.ok(isTurnable(layer(3, false), Side.identity(36)));
      assert.ok(isTurnable(layer(1, false), Side.exact(4)));
      assert.ok(isTurnable(layer(1, false), Side.blocks(4, 2)));
      assert.ok(!isTurnable(layer(3, false), Side.exact(36)));
      assert.ok(!isTurnable(layer(3, false), Side.blocks(36, 18, { taps: 9 })));
      assert.ok(!isTurnable(layer(1, true), Side.exact(5)));
    },
  );

  law(t, 'one tap: an exact side and blocks are maps of the channels', () => {
    for (const A of [Side.exact(4), Side.blocks(4, 2)]) {
      const o = { A: 'identity', G: 'exact', resident: true, bias: false, kernel: [1, 1], stride: [2, 1] } as const;
      const one = made({ ...o, sizes: [2, 4, 3, 5, 6], padding: [1, 0], dilation: [1, 1], seed: 3 });
      const { module, layer, x, mix, matrix } = one;
      const UA = basisOf(A, { ...float64, rng: new Generator(4) });
      const sides = { A, G: one.frame.sides.G };
      const project = (D: Tensor) => sides.G.turnColumns(A.turn(D, UA), one.frame.UG);
      const resident = project(matrix(module.parameters()));
      const y = module.forward(x);
      const z = convolutionIn({ sides, UA, UG: one.frame.UG, resident }, layer, x);
      close(z.detach(), y.detach(), 'output');
      mix(z).backward();
      const D = basisGradient(layer)!.D.clone();
      module.weight.grad = null;
      mix(y).backward();
      close(D, project(matrix([module.weight.grad!])), 'D̃');
    }
  });
  t.end();
});
