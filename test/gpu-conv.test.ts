/** Convolutions of the device 'gpu': any geometry gives what the CPU gives, and so do the gradients of its gradients. */

import assert from 'node:assert/strict';
import { conv2d, Generator, grad, type Operand, patchGram, randn, type Storage, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { type Context, temporary } from '../gpu/src/context.ts';
import { convForward, convInputGrad, convWeightGrad } from '../gpu/src/conv.ts';
import { fetchElements, store } from '../gpu/src/memory.ts';
import { TILES } from '../gpu/src/product-plan.ts';
import { gpuContext } from './helpers/gpu.ts';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');

type Pair = [number, number];
type Geometry = { kernel: Pair; stride: Pair; padding: Pair; dilation: Pair; groups: number };
type Case = Geometry & { images: number; share: number; perGroup: number; size: Pair; bias: boolean };

/** Relative to the largest element, as sums cancel. */
async function near(what: string, found: Tensor, expected: Tensor, tolerance = 3e-6): Promise<void> {
  const [a, e] = await Promise.all([found.data(), expected.data()]);
  assert.deepEqual(found.shape, expected.shape);
  const scale = Math.max(1e-3, ...Array.from(e, Math.abs));
  for (let i = 0; i < e.length; i++)
    assert.ok(Math.abs(a[i]! - e[i]!) <= tolerance * scale, `${what} ${i}: ${a[i]}, expected ${e[i]}`);
}

const DEVICES = ['gpu', 'cpu'] as const;
/** The same numbers on both devices. */
const both = (shape: number[], seed: number) =>
  DEVICES.map(device => randn(shape, { rng: new Generator(seed), device, requiresGrad: true })) as [Tensor, Tensor];

/** Holds value, gradients and gradients of gradients to those of the CPU. */
async function check(c: Case): Promise<void> {
  const { images, share, perGroup, size, groups, kernel, bias, ...window } = c;
  const inputs = [
    both([images, share * groups, ...size], 1),
    both([perGroup * groups, share, ...kernel], 2),
    ...(bias ? [both([perGroup * groups], 3)] : []),
  ];
  const [found, expected] = DEVICES.map((_, d) => {
    const all = inputs.map(pair => pair[d]!);
    const [x, w, b] = all as [Tensor, Tensor, Tensor | undefined];
    const y = conv2d(x, w, { ...window, groups, bias: b ?? null });
    const first = grad(y.square().sum().mul(0.5), all, { createGraph: true });
    // A form of both gradients whose own gradients meet every kernel again.
    const again = grad(first[0]!.square().sum().add(first[1]!.square().sum()).mul(1e-2), [x, w]);
    return [y, ...first, ...again];
  }) as [Tensor[], Tensor[]];
  const names = ['y', 'by x', 'by w', ...(bias ? ['by bias'] : []), 'again by x', 'again by w'];
  for (const [i, name] of names.entries()) await near(`${name} of ${JSON.stringify(c)}`, found[i]!, expected[i]!);
}

const axis = (most: number, least = 1) => fc.integer({ min: least, max: most });
const drawn: fc.Arbitrary<Case> = fc
  .record({
    kernel: fc.tuple(axis(3), axis(3)),
    stride: fc.tuple(axis(4), axis(4)),
    padding: fc.tuple(axis(2, 0), axis(2, 0)),
    dilation: fc.tuple(axis(3), axis(3)),
    groups: fc.constantFrom(1, 1, 3),
    images: axis(3),
    share: axis(9),
    perGroup: axis(20, 5),
    more: fc.tuple(axis(8, 0), axis(8, 0)),
    bias: fc.boolean(),
  })
  .map(({ more, ...c }) => {
    // The smallest plane into which the kernel fits, and some more.
    const along = (i: 0 | 1) => Math.max(1, c.dilation[i] * (c.kernel[i] - 1) + 1 - 2 * c.padding[i]) + more[i];
    return { ...c, size: [along(0), along(1)] as Pair };
  });

law(
  'any kernel, stride, padding, dilation and groups: values, gradients and their gradients are those of the CPU',
  () => fc.assert(fc.asyncProperty(drawn, check), { seed: 5, numRuns: 14 }),
);

const plain: Case = {
  ...{ kernel: [3, 3], stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 },
  ...{ images: 2, share: 8, perGroup: 16, size: [8, 8], bias: true },
};
const named: Record<string, Case> = {
  'a layer of a residual network': { ...plain, images: 3, share: 12, perGroup: 40, size: [7, 7] },
  'one with stride 2': { ...plain, stride: [2, 2], size: [9, 8] },
  'a kernel of one tap': { ...plain, kernel: [1, 1], padding: [0, 0] },
  'one with stride 2, which leaves pixels out': { ...plain, kernel: [1, 1], padding: [0, 0], stride: [2, 2] },
  'a kernel of more taps than a word has bits': { ...plain, share: 3, kernel: [7, 6], padding: [3, 2], stride: [2, 1] },
  'a depthwise kernel': { ...plain, groups: 12, share: 1, perGroup: 1, stride: [2, 1] },
  'few outputs': { ...plain, perGroup: 3 },
  'a stride beyond the kernel': { ...plain, kernel: [2, 1], stride: [3, 4], padding: [0, 0] },
  'dilation and stride with a common divisor': { ...plain, dilation: [2, 3], stride: [4, 3], size: [13, 13] },
};
for (const [name, c] of Object.entries(named)) law(`${name} is that of the CPU`, () => check(c));

law('the Gram matrix of patches is that of the CPU and exactly symmetric, with ones and without', async () => {
  for (const [shape, kernel, o, ones] of [
    [[2, 5, 9, 7], [3, 2], { padding: [1, 0], stride: 2 }, true],
    [[3, 12, 6, 6], [2, 2], { dilation: 2 }, false],
    [[2, 2, 12, 12], [6, 6], { padding: 3 }, true],
  ] as const) {
    const [x, y] = both([...shape], 4);
    const values = [x, y].map(z => patchGram(z.detach(), [...kernel], o as never, { ones })) as [Tensor, Tensor];
    await near(`patchGram ${shape}`, values[0], values[1]);
    const [n, g] = [values[0].shape[0]!, await values[0].data()];
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) assert.equal(g[i * n + j], g[j * n + i]);
  }
});

/** Whole numbers from −3 to 3, so that sums are exact. */
function whole(c: Context, shape: number[], seed: number): { x: Operand; values: Float32Array } {
  const x = temporary(c, 'float32', shape);
  let state = seed;
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 16) % 7) - 3;
  });
  return { x: { ...x, storage: { memory: store(c, values) } as unknown as Storage }, values };
}

law('every tile that is not symmetric, terms in parts and a copy of the weights give the same sums', async () => {
  const c = await gpuContext();
  const geometry = { kernel: [3, 3], stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  const [n, channels, outputs, side] = [3, 20, 24, 9];
  const [x, w, gy] = [
    whole(c, [n, channels, side, side], 1),
    whole(c, [outputs, channels, 3, 3], 2),
    whole(c, [n, outputs, side, side], 3),
  ];
  const forms = {
    forward: (y: Operand, choice: object) => convForward(c, x.x, w.x, null, y, geometry, choice),
    input: (y: Operand, choice: object) => convInputGrad(c, gy.x, w.x, y, geometry, choice),
    weight: (y: Operand, choice: object) => convWeightGrad(c, x.x, gy.x, y, geometry, choice),
  };
  const shapes = { forward: gy.x.shape, input: x.x.shape, weight: w.x.shape };
  for (const [name, form] of Object.entries(forms) as [keyof typeof forms, (typeof forms)['forward']][]) {
    const run = async (choice: object) => {
      const y = temporary(c, 'float32', shapes[name]);
      form(y, choice);
      return fetchElements(c, y, false);
    };
    const expected = await run({});
    const large = TILES.find(({ tile }) => tile.m === 128)!.tile;
    for (const choice of [
      { plan: { tile: large, splits: 1 } },
      { plan: { tile: TILES.find(({ tile }) => tile.m === 32)!.tile, splits: 3 }, copy: true },
      { plan: { tile: TILES.find(({ tile }) => tile.m === 64)!.tile, splits: 2 }, copy: false },
    ])
      assert.deepEqual(await run(choice), expected, `${name} by ${JSON.stringify(choice)}`);
  }
});

law('the gradient by weights, a sum in parts, has the same bits again', async () => {
  const [x, w] = [both([8, 9, 16, 16], 1)[0], both([8, 9, 3, 3], 2)[0]];
  const bits = () => grad(conv2d(x, w, { padding: 1 }).square().sum(), [w])[0]!.data();
  assert.deepEqual(await bits(), await bits());
});
