/** Products of the device 'gpu': every tile, in any layout, at the edges of tiles and parts, and what follows a product. */

import assert from 'node:assert/strict';
import {
  Generator,
  gram as gramOf,
  linear,
  type Operand,
  randn,
  type Storage,
  type Tensor,
  type TypedArray,
} from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import type { Context } from '../gpu/src/context.ts';
import { temporary } from '../gpu/src/context.ts';
import { binary, unary } from '../gpu/src/elementwise.ts';
import { fetchElements, store } from '../gpu/src/memory.ts';
import { gram, multiply, type ProductOptions } from '../gpu/src/product.ts';
import { planOf, planWith, TILES } from '../gpu/src/product-plan.ts';
import { bytesOf, nameOf, type Tile } from '../gpu/src/product-tile.ts';
import { gpuContext } from './helpers/gpu.ts';
import { property } from './helpers/law.ts';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');
let opened: Promise<Context> | null = null;
const context = () => {
  opened ??= gpuContext();
  return opened;
};

/** How a matrix lies in memory: its rows, its columns, both with gaps and off any multiple of four. */
const LIES = ['rows', 'columns', 'gaps'] as const;
type Lie = (typeof LIES)[number];
const stepsOf = (lie: Lie, rows: number, columns: number) =>
  ({ rows: [columns, 1], columns: [1, rows], gaps: [2 * columns + 1, 2] })[lie];

type Matrix = { readonly x: Operand; readonly at: (z: number, i: number, j: number) => number };

/** [batch, rows, columns] of seeded whole numbers from −4 to 4, so that every sum is exact; gaps hold NaN. */
function matrix(c: Context, batch: number, rows: number, columns: number, lie: Lie, seed: number): Matrix {
  const [row, column] = stepsOf(lie, rows, columns) as [number, number];
  const [offset, plane] = [lie === 'gaps' ? 3 : 8, lie === 'gaps' ? rows * row + 1 : rows * columns];
  const memory = new Float32Array(offset + batch * plane + 4).fill(Number.NaN);
  let state = seed;
  const place = (z: number, i: number, j: number) => offset + z * plane + i * row + j * column;
  for (let z = 0; z < batch; z++)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        memory[place(z, i, j)] = ((state >>> 16) % 9) - 4;
      }
  const storage = { memory: store(c, memory) } as unknown as Storage;
  const x: Operand = {
    storage,
    dtype: 'float32',
    shape: [batch, rows, columns],
    strides: [plane, row, column],
    offset,
  };
  return { x, at: (z, i, j) => memory[place(z, i, j)]! };
}

type Sizes = { readonly m: number; readonly n: number; readonly k: number; readonly batch?: number };

/** Holds a product by that tile to plain loops, exactly. Gives its bits. */
async function check(
  c: Context,
  { m, n, k, batch = 1 }: Sizes,
  [lieA, lieB]: readonly [Lie, Lie],
  o: ProductOptions,
  dtype: 'float32' | 'int32' = 'float32',
): Promise<TypedArray> {
  const [a, b] = [matrix(c, batch, m, k, lieA, 1), matrix(c, batch, k, n, lieB, 2)];
  const y = temporary(c, dtype, [batch, m, n]);
  multiply(c, a.x, b.x, y, o);
  const found = await fetchElements(c, y, false);
  for (let at = 0; at < found.length; at++) {
    const [z, i, j] = [Math.floor(at / (m * n)), Math.floor(at / n) % m, at % n];
    let sum = 0;
    for (let q = 0; q < k; q++) sum += a.at(z, i, q) * b.at(z, q, j);
    assert.equal(
      found[at],
      sum,
      `(${z}, ${i}, ${j}) of [${m},${k}]·[${k},${n}], ${lieA} and ${lieB}, in ${nameOf(o.plan!.tile)}`,
    );
  }
  return found;
}

/** Tiles of the table, and forms that it may come to have. */
const all: readonly Tile[] = [
  ...TILES.map(({ tile }) => tile),
  { m: 128, n: 64, k: 8, x: 8, y: 16, buffers: 2, unroll: 8 },
  { m: 32, n: 32, k: 64, x: 8, y: 8, slices: 4, buffers: 1, unroll: 4 },
  { m: 16, n: 32, k: 64, x: 8, y: 4, slices: 8, buffers: 1, unroll: 4 },
];
const tiles = all.filter((one, i) => all.findIndex(other => nameOf(other) === nameOf(one)) === i);

for (const tile of tiles)
  law(
    `the tile ${nameOf(tile)} gives the sums of plain loops: around its edges, in any layout, and in parts`,
    async () => {
      const c = await context();
      if (bytesOf(tile) > c.commands.device.limits.maxComputeWorkgroupStorageSize) return;
      const { m, n, k } = tile;
      const cases: readonly [Sizes, readonly [Lie, Lie], splits: number][] = [
        [{ m: m + 4, n: n + 8, k: 2 * k + 4 }, ['rows', 'rows'], 1],
        [{ m: m + 4, n: n - 4, k: k + 1 }, ['columns', 'columns'], 2],
        [{ m: 1, n: n + 1, k: 3 * k + 3 }, ['gaps', 'gaps'], 3],
      ];
      for (const [sizes, lies, splits] of cases) await check(c, sizes, lies, { plan: planWith(tile, sizes.k, splits) });
    },
  );

const small = TILES.find(({ tile }) => tile.m === 32)!.tile;

law(
  'shapes that are drawn, batches and sums of thousands of terms give the sums of plain loops, of int32 too',
  async () => {
    const c = await context();
    const run = fc.asyncProperty(
      fc.record({
        sizes: fc.record({
          m: fc.integer({ min: 1, max: 70 }),
          n: fc.integer({ min: 1, max: 70 }),
          k: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 100, 3000)),
          batch: fc.integer({ min: 1, max: 3 }),
        }),
        lies: fc.tuple(fc.constantFrom(...LIES), fc.constantFrom(...LIES)),
        splits: fc.constantFrom(1, 1, 4),
        dtype: fc.constantFrom('float32' as const, 'float32' as const, 'int32' as const),
      }),
      async ({ sizes, lies, splits, dtype }) => {
        await check(c, sizes, lies, { plan: planWith(small, sizes.k, splits) }, dtype);
      },
    );
    await fc.assert(run, { seed: 3, numRuns: 20 });
  },
);

const normal = (shape: number[], seed: number, device = 'gpu') => randn(shape, { rng: new Generator(seed), device });

/** Relative to the largest element, or to that of a sum of so many terms. */
async function near(found: Tensor, expected: Tensor, terms: number): Promise<void> {
  const [a, e] = await Promise.all([found.data(), expected.data()]);
  assert.deepEqual(found.shape, expected.shape);
  const scale = Math.max(Math.sqrt(terms), ...Array.from(e, Math.abs));
  for (let i = 0; i < e.length; i++)
    assert.ok(Math.abs(a[i]! - e[i]!) <= 2e-6 * scale, `${i}: ${a[i]}, expected ${e[i]}`);
}

law('products of attention, batches over two axes in any order and broadcast ones, are those of the CPU', async () => {
  const [q, k] = ['gpu', 'cpu'].map(device => normal([2, 10, 3, 8], 1, device)) as [Tensor, Tensor];
  const heads = (x: Tensor) => x.permute([0, 2, 1, 3]);
  const attend = (x: Tensor) => heads(x).matmul(heads(x).transpose(2, 3));
  await near(attend(q), attend(k), 8);
  const [a, b] = ['gpu', 'cpu'].map(device => normal([3, 1, 5, 7], 2, device)) as [Tensor, Tensor];
  const over = (x: Tensor) => x.expand([3, 4, 5, 7]).matmul(x.reshape([1, 3, 7, 5]).narrow(1, 1, 1));
  await near(over(a), over(b), 7);
});

law('a Gram matrix is exactly symmetric, and that of the CPU, in one tile, in several and in parts', async () => {
  for (const [rows, columns] of [
    [40, 20],
    [9, 150],
    [3000, 70],
  ] as const) {
    const [x, y] = ['gpu', 'cpu'].map(device => normal([rows, columns], rows, device)) as [Tensor, Tensor];
    const g = gramOf(x);
    await near(g, gramOf(y), rows);
    const values = await g.data();
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < i; j++) assert.equal(values[i * columns + j], values[j * columns + i]);
  }
  const c = await context();
  const x = matrix(c, 1, 500, 70, 'rows', 3);
  const y = temporary(c, 'float32', [70, 70]);
  gram(c, { ...x.x, shape: [500, 70], strides: x.x.strides.slice(1) }, y);
  const exact = await fetchElements(c, y, false);
  for (const [i, j] of [
    [0, 0],
    [69, 3],
    [3, 69],
    [33, 34],
  ] as const) {
    let sum = 0;
    for (let r = 0; r < 500; r++) sum += x.at(0, r, i) * x.at(0, r, j);
    assert.equal(exact[i * 70 + j], sum);
  }
});

law('the same product gives the same bits again', async () => {
  const [a, b] = [normal([64, 5000], 1), normal([5000, 40], 2)];
  const [first, second] = [await a.matmul(b).data(), await a.matmul(b).data()];
  assert.deepEqual(first, second);
});

law(
  'an activation in the epilogue gives the bits of one in a kernel of its own, with one part and with several',
  async () => {
    const c = await context();
    const [a, b] = [matrix(c, 1, 37, 129, 'rows', 1), matrix(c, 1, 129, 18, 'columns', 2)];
    // Sums of many terms are large, where activations are flat.
    const scaled: Operand = temporary(c, 'float32', b.x.shape);
    binary(c, 'mul', b.x, 1 / 64, scaled);
    const empty = () => temporary(c, 'float32', [1, 37, 18]);
    for (const splits of [1, 3])
      for (const activation of ['relu', 'gelu', 'geluTanh', 'tanh', 'sigmoid', 'silu'] as const) {
        const [joined, plain, apart] = [empty(), empty(), empty()];
        const plan = planWith(small, 129, splits);
        multiply(c, a.x, scaled, joined, { activation, plan });
        multiply(c, a.x, scaled, plain, { plan });
        unary(c, activation === 'silu' ? 'sigmoid' : activation, plain, apart);
        let expected = apart;
        if (activation === 'silu') {
          expected = empty();
          binary(c, 'mul', plain, apart, expected);
        }
        assert.deepEqual(await fetchElements(c, joined, false), await fetchElements(c, expected, false), activation);
      }
  },
);

law('a bias goes along columns or rows, and a product of no terms is the bias', async () => {
  const c = await context();
  const [a, b] = [matrix(c, 2, 5, 3, 'rows', 1), matrix(c, 2, 3, 6, 'rows', 2)];
  for (const [biasOf, size] of [
    ['columns', 6],
    ['rows', 5],
  ] as const)
    for (const k of [0, 3]) {
      const bias = matrix(c, 1, 1, size, 'gaps', 5);
      const y = temporary(c, 'float32', [2, 5, 6]);
      const own: Operand = { ...bias.x, shape: [size], strides: [bias.x.strides[2]!] };
      const left: Operand = { ...a.x, shape: [2, 5, k] };
      multiply(c, left, { ...b.x, shape: [2, k, 6] }, y, { bias: own, biasOf });
      const found = await fetchElements(c, y, false);
      for (let at = 0; at < 60; at++) {
        const [z, i, j] = [Math.floor(at / 30), Math.floor(at / 6) % 5, at % 6];
        let sum = bias.at(0, 0, biasOf === 'rows' ? i : j);
        for (let q = 0; q < k; q++) sum += a.at(z, i, q) * b.at(z, q, j);
        assert.equal(found[at], sum, `${biasOf} ${k}: (${z}, ${i}, ${j})`);
      }
    }
  const bits = await linear(normal([4, 6], 1), normal([3, 6], 2), normal([3], 3)).data();
  assert.equal(bits.length, 12);
  assert.equal(
    (
      await normal([0, 3], 1)
        .matmul(normal([3, 2], 2))
        .data()
    ).length,
    0,
  );
  assert.deepEqual(
    [
      ...(await normal([2, 0], 1)
        .matmul(normal([0, 2], 2))
        .data()),
    ],
    [0, 0, 0, 0],
  );
});

t.test('the parts of a plan cover all terms, none is empty, and its tile has room', async inner => {
  const any = fc.integer({ min: 1, max: 20 }).map(e => Math.round(1.9 ** e));
  property(
    fc.record({ m: any, n: any, k: any, batch: fc.integer({ min: 1, max: 100 }), symmetric: fc.boolean() }),
    sizes => {
      const { tile, span, splits } = planOf({ ...sizes, n: sizes.symmetric ? sizes.m : sizes.n }, 16384);
      assert.equal(span % tile.k, 0);
      assert.ok(span * splits >= sizes.k && span * (splits - 1) < sizes.k);
      assert.ok(bytesOf(tile) <= 16384 && (!sizes.symmetric || tile.m === tile.n));
    },
    300,
  );
  inner.pass('holds');
});
