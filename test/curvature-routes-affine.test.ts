// An affine layer in a basis of any structure is the affine layer; and what each route costs.

import assert from 'node:assert/strict';
import { eye, Generator, grad, noGrad, randn, type Tensor } from '@otimes/core';
import { Linear } from '@otimes/nn';
import fc from 'fast-check';
import t from 'tap';
import type { AffineLayer } from '../optim/src/curvature/block.ts';
import { affineIn, type TurnedRows, type TurnedSink } from '../optim/src/curvature/routes/affine.ts';
import { basisGradient, type Frame } from '../optim/src/curvature/routes/frame.ts';
import { cheapestRoute, routeCosts } from '../optim/src/curvature/routes/route.ts';
import { Side } from '../optim/src/curvature/side.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { basisOf } from './helpers/sides.ts';

const structure = fc.constantFrom('exact' as const, 'blocks' as const, 'identity' as const);
const upTo = (max: number) => fc.integer({ min: 1, max });
const cases = fc.record({
  A: structure,
  G: structure,
  resident: fc.boolean(),
  bias: fc.boolean(),
  takes: fc.boolean(),
  inputs: upTo(9),
  outputs: upTo(7),
  lead: fc.constantFrom([1], [4], [2, 3]),
  seed: fc.integer({ min: 0, max: 1e6 }),
});
type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

const float64 = { dtype: 'float64' } as const;
const sideOf = (of: 'exact' | 'blocks' | 'identity', n: number, bias = false): Side =>
  ({ exact: Side.exact(n), blocks: Side.blocks(n, 3, { bias }), identity: Side.identity(n) })[of];

/** Takes the rows, or leaves them. */
class Sink implements TurnedSink {
  rows: TurnedRows | null = null;
  readonly takes: boolean;
  constructor(takes: boolean) {
    this.takes = takes;
  }
  takeTurned(_: Frame, rows: () => TurnedRows): void {
    if (this.takes) this.rows = rows();
  }
}

function made({ A, G, resident, bias, takes, inputs, outputs, lead, seed }: Case) {
  const rng = new Generator(seed);
  const o = { ...float64, rng };
  const module = new Linear(inputs, outputs, { bias, ...o });
  const layer: AffineLayer = { module, weight: module.weight, bias: module.bias };
  const sides = { A: sideOf(A, inputs + Number(bias), bias), G: sideOf(G, outputs) };
  const [UA, UG] = [basisOf(sides.A, o), basisOf(sides.G, o)];
  const project = (D: Tensor) => sides.A.turn(sides.G.turnColumns(D, UG), UA).clone();
  const matrix = (ps: readonly Tensor[]) => noGrad(() => matrixOf(ps));
  const frame: Frame = { sides, UA, UG, resident: resident ? project(matrix(module.parameters())) : null };
  const x = randn([...lead, inputs], o);
  const mix = (y: Tensor) =>
    y
      .mul(randn(y.shape, { ...float64, rng: new Generator(seed + 1) }))
      .sin()
      .sum();
  return { module, layer, frame, x, mix, project, matrix, sink: new Sink(takes) };
}

/** [W | b] of a weight and maybe a bias, or of gradients. */
function matrixOf([W, b]: readonly Tensor[]): Tensor {
  if (b === undefined) return W!;
  const I = W!.shape[1]!;
  const units = eye(I + 1, float64);
  return W!.matmul(units.narrow(0, 0, I)).add(b.unsqueeze(1).mul(units.narrow(0, I, 1)));
}

const close = (x: Tensor, y: Tensor, what: string) => mustBeClose(x, y, { rtol: 1e-10, atol: 1e-11 }, what);
const leaf = (x: Tensor): Tensor => Object.assign(x.clone(), { requiresGrad: true });

t.test('an affine layer in a basis of any structure', t => {
  const holds = (check: (one: Case) => void, numRuns = 200) =>
    fc.assert(fc.property(cases, check), { seed: 42, numRuns });

  law(t, 'is the layer, and its gradients are that one’s: by the input, in the basis, by weight and bias', () => {
    holds(one => {
      const { module, layer, frame, x, mix, project, matrix, sink } = made(one);
      const [mine, theirs] = [leaf(x), leaf(x)];
      const y = module.forward(theirs);
      mix(y).backward();
      const expected = module.parameters().map(p => p.grad!);
      for (const p of module.parameters()) p.grad = null;
      const z = affineIn(frame, layer, mine, sink);
      close(z.detach(), y.detach(), 'output');
      mix(z).backward();
      close(mine.grad!, theirs.grad!, 'the input');
      close(basisGradient(layer)!.D, project(matrix(expected)), 'D̃');
      for (const [i, p] of module.parameters().entries()) close(p.grad!, expected[i]!, ['weight', 'bias'][i]!);
    });
  });

  law(t, 'rows that a sink takes are its own, and D̃ is their product; the input stays what it was', () => {
    holds(one => {
      const { layer, frame, x, mix, sink } = made({ ...one, takes: true });
      const before = x.clone();
      mix(affineIn(frame, layer, x, sink)).backward();
      const { inputs, grads } = sink.rows!;
      close(basisGradient(layer)!.D, grads.transpose().matmul(inputs), 'D̃');
      for (const rows of [inputs, grads]) rows.storage.release();
      close(x, before, 'the input');
    });
  });

  law(t, 'a gradient that keeps the graph is differentiable', () => {
    holds(one => {
      const { module, layer, frame, x, mix, sink } = made(one);
      const [mine, theirs] = [leaf(x), leaf(x)];
      const second = (y: Tensor, of: readonly Tensor[]) =>
        grad(
          grad(mix(y), of, { createGraph: true })
            .map(g => g.square().sum())
            .reduce((sum, term) => sum.add(term)),
          of,
        );
      const expected = second(module.forward(theirs), [theirs, ...module.parameters()]);
      const found = second(affineIn(frame, layer, mine, sink), [mine, ...module.parameters()]);
      for (const [i, g] of found.entries()) close(g, expected[i]!, `${i}`);
    }, 40);
  });
  t.end();
});

t.test('what a route costs', t => {
  law(t, 'a side at the identity costs nothing; blocks cost what their rows take', () => {
    const [exact, blocks, none] = [Side.exact(6), Side.blocks(6, 2), Side.identity(6)];
    const of = (A: Side, G: Side) => routeCosts({ A, G, rows: 5, needsInputGrad: true });
    assert.deepEqual(of(none, none), { gradient: 0, activations: 0, resident: 0 });
    assert.deepEqual(of(exact, none), {
      gradient: 4 * 6 * 36,
      activations: 2 * 5 * 36 + 2 * 6 * 36,
      resident: 4 * 5 * 36,
    });
    assert.deepEqual(of(blocks, none), {
      gradient: 4 * 6 * 12,
      activations: 2 * 5 * 12 + 2 * 6 * 12,
      resident: 4 * 5 * 12,
    });
    assert.equal(cheapestRoute({ A: none, G: none, rows: 5, needsInputGrad: true }), 'gradient');
  });

  law(t, 'a convolution is resident where its channels are many and its pixels few', () => {
    // The layers of a ResNet-18 for 32 × 32 images, a batch of 32: [inputs, outputs, pixels of the output, stride].
    const layer = (C: number, O: number, places: number, stride: number) => {
      const o = { A: Side.channels(9 * C, 9), G: Side.exact(O), rows: 32 * places, needsInputGrad: true };
      return { ...o, images: { taps: 9, pixels: o.rows * stride ** 2 } };
    };
    assert.equal(cheapestRoute(layer(64, 64, 32 ** 2, 1)), 'gradient');
    assert.equal(cheapestRoute(layer(128, 128, 16 ** 2, 1)), 'gradient');
    assert.equal(cheapestRoute(layer(256, 512, 4 ** 2, 2)), 'resident');
    assert.equal(cheapestRoute(layer(512, 512, 4 ** 2, 1)), 'resident');
    const { gradient, activations, resident } = routeCosts(layer(3, 2, 4, 1));
    const [turned, taps] = [128 * (9 + 4), 2 * 27 * 9];
    assert.deepEqual([gradient, resident], [4 * (2 * 27 * 12 + 27 * 4), 4 * turned + 4 * taps]);
    assert.equal(activations, (gradient + resident) / 2);
  });
  t.end();
});
