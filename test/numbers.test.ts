/** Numbers at the edges: what overflows on the way, and limits of derivatives. On all devices. */

import assert from 'node:assert/strict';
import {
  batchNorm,
  batchNormEval,
  type DType,
  Generator,
  grad,
  groupNorm,
  layerNorm,
  ones,
  randn,
  squaredError,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { bceWithLogits, mseLoss } from '@otimes/nn';
import t from 'tap';
import { law } from './helpers/law.ts';
import { list, mustBe } from './helpers/numbers.ts';

const DEVICES = ['cpu', 'reference'] as const;
const FLOATS = ['float32', 'float64'] as const;

const onEach = (title: string, holds: (device: string, dtype: 'float32' | 'float64') => void): void => {
  for (const device of DEVICES)
    for (const dtype of FLOATS) law(t, `${device} ${dtype}: ${title}`, () => holds(device, dtype));
};

// --- sums of squares --------------------------------------------------------------------------------------------------

onEach('norm, its gradient and its second derivatives are right wherever they are in range', (device, dtype) => {
  const scales = dtype === 'float32' ? [1, 1e20, 1e37, 1e-23, 1e-30] : [1, 1e150, 1e200, 1e300, 1e-170, 1e-300];
  const [bound, far] = dtype === 'float32' ? [1e-6, 1e-5] : [1e-14, 1e-13];
  for (const s of scales) {
    const x = tensor(
      [
        [3, 0, 1],
        [4, 0, 2],
        [0, 0, 2],
      ].map(row => row.map(v => v * s)),
      { dtype, device, requiresGrad: true },
    );
    const gy = tensor([1, 1, 0.5], { dtype, device });
    for (const axis of [0, 1]) {
      const view = axis === 0 ? x : x.transpose();
      const norms = view.norm(axis);
      mustBe(norms, [5 * s, 0, 3 * s], bound, `norm of ${s}`);
      const [g] = grad(norms, [x], { gy, createGraph: true });
      const wanted = [0.6, 0, 1 / 6, 0.8, 0, 1 / 3, 0, 0, 1 / 3];
      mustBe(axis === 0 ? g! : g!.transpose(), axis === 0 ? wanted : list(g!.transpose()), bound, 'gradient');
      mustBe(g!, wanted, bound, 'gradient');
      const [h] = grad(g!.slice(null, 0).sum(), [x]);
      // Σ over i of ∂²n/∂xᵢ∂xⱼ = (Σ − u (u·1))ⱼ / n for the unit vector u.
      const second = [(1 - 0.6 * 1.4) / (5 * s), (1 - 0.8 * 1.4) / (5 * s), 1 / (5 * s)];
      mustBe(h!, [second[0]!, 0, 0, second[1]!, 0, 0, second[2]!, 0, 0], far, 'second derivative');
    }
    mustBe(x.norm(), [s * Math.sqrt(34)], bound, 'whole');
    mustBe(x.slice(null, [null, null, -2]).norm(undefined, { keepdim: true }), [s * Math.sqrt(34)], bound, 'parts');
  }
  for (const [x, n] of [
    [[Infinity, 1], Infinity],
    [[Infinity, NaN], NaN],
    [[], 0],
  ] as const)
    mustBe(tensor([...x], { dtype, device, shape: [x.length] }).norm(), [n], 0, `[${x}]`);
});

onEach('mean is in range wherever the elements are', (device, dtype) => {
  const most = dtype === 'float32' ? 3e38 : 1.7e308;
  const x = tensor(
    [
      [most, 1, NaN],
      [most, 2, 1],
    ],
    { dtype, device, requiresGrad: true },
  );
  mustBe(x.mean(0), [most, 1.5, NaN]);
  mustBe(x.slice(null, [0, 2]).mean(), [most / 2]);
  mustBe(grad(x.mean(), [x])[0]!, new Array(6).fill(1 / 6));
  mustBe(zeros([0, 2], { dtype, device }).mean(0), [NaN, NaN]);
  mustBe(tensor([16777217, -16777216], { dtype: 'int32', device }).mean(), [0.5]);
  mustBe(tensor([true, false, true, true], { device }).mean(), [0.75]);
});

onEach('squares of a loss do not leave the range before they are summed', (device, dtype) => {
  const [whole, none] = [
    [70000, 3],
    [0, 3],
  ].map(v => tensor(v, { dtype: 'int32', device }));
  mustBe(mseLoss(whole!, none!), [2.45e9], 1e-7, 'int32');
  mustBe(mseLoss(whole!.astype(dtype), none!), [2.45e9], 1e-7, 'mixed');
  const s = dtype === 'float32' ? 1e20 : 1e150;
  const [a, b] = [tensor([3 * s, 0], { dtype, device }), zeros([2], { dtype, device })];
  mustBe(
    squaredError(a, b, 1e-10),
    [9e-10 * s * s].map(v => (dtype === 'float32' ? 9e30 : v)),
    1e-6,
  );
  mustBe(
    bceWithLogits(tensor([1e38, 1e38, 1e38, 1e38, 1e38], { dtype, device }), zeros([5], { dtype, device })),
    [1e38],
  );
});

law(t, 'float32 normalisation far from 0 is that of float64 on the same numbers, with gradients', () => {
  const rng = new Generator(3);
  for (const device of DEVICES)
    for (const mean of [1000, 1e5])
      for (const size of [2, 30]) {
        const [x32, gy32] = [randn([4, size, 3], { rng }).add(mean), randn([4, size, 3], { rng })];
        const all = (dtype: DType) => {
          const [x, gy] = [x32, gy32].map(v => v.astype(dtype).to(device)) as [Tensor, Tensor];
          const leaf = x.detach();
          leaf.requiresGrad = true;
          const w = tensor([1, 2, 0.5], { dtype, device });
          const wide = tensor(
            Float64Array.from({ length: size }, (_, i) => 1 + (i % 3)),
            { dtype, device },
          );
          const results = [
            layerNorm(leaf.transpose(1, 2), wide),
            batchNorm(leaf, wide).y,
            groupNorm(leaf.transpose(1, 2), 3, w),
            leaf.var(1),
          ];
          return results.flatMap(y => {
            const g =
              y.shape.length === 3 ? (y.shape[1] === 3 ? gy.transpose(1, 2) : gy) : gy.narrow(1, 0, 1).squeeze(1);
            const plain = grad(y, [leaf], { gy: g })[0]!;
            const again =
              y === results[3] ? plain : grad(batchNorm(leaf, wide).y, [leaf], { gy, createGraph: true })[0]!;
            return [y, plain, again].map(list);
          });
        };
        const [single, double] = [all('float32'), all('float64')];
        for (const [k, values] of single.entries()) {
          const largest = Math.max(...double[k]!.map(Math.abs), 1);
          for (const [i, v] of values.entries())
            assert.ok(Math.abs(v - double[k]![i]!) < 1e-5 * largest, `${device} ${mean} ${size}: ${k} at ${i}: ${v}`);
        }
      }
});

law(t, 'statistics of a batch of 1e20 are used before they are rounded', () => {
  for (const device of DEVICES) {
    const x = tensor([[1e20], [-1e20], [3e20], [1e20]], { device });
    mustBe(batchNorm(x, ones([1], { device })).y, [0, -Math.SQRT2, Math.SQRT2, 0], 1e-6);
  }
});

law(t, 'batchNormEval subtracts the mean first', () => {
  for (const device of DEVICES) {
    const [x, one] = [tensor([[1000.0625]], { device }), ones([1], { device })];
    const y = batchNormEval(x, tensor([1000], { device }), tensor([1e-6], { device }), one, one, 0);
    mustBe(y, [63.5], 1e-6);
  }
});

// --- limits of derivatives --------------------------------------------------------------------------------------------

const ENDS = [0, 1e-30, 50, -50, 1e20, -1e20, 3e38, -3e38, Infinity, -Infinity, NaN];

onEach('derivatives of functions that become flat are 0 there, of the first and the second order', (device, dtype) => {
  const step = ENDS.map(v => (Number.isNaN(v) ? NaN : Math.abs(v) < 1 ? 0.5 : v > 0 ? 1 : 0));
  const bump = (top: number) => ENDS.map(v => (Number.isNaN(v) ? NaN : Math.abs(v) < 1 ? top : 0));
  const cases: [string, (x: Tensor) => Tensor, number[], number[]][] = [
    ['gelu', x => x.gelu(), step, bump(Math.sqrt(2 / Math.PI))],
    ['gelu by tanh', x => x.gelu({ approximate: 'tanh' }), step, bump(Math.sqrt(2 / Math.PI))],
    ['erf', x => x.erf(), bump(2 / Math.sqrt(Math.PI)), []],
    ['tanh', x => x.tanh(), bump(1), []],
  ];
  for (const [name, f, first, second] of cases) {
    const x = tensor(ENDS, { dtype, device, requiresGrad: true });
    const [g] = grad(f(x), [x], { gy: ones([ENDS.length], { dtype, device }), createGraph: true });
    const [h] = grad(g!.sum(), [x]);
    mustBe(g!, first, 1e-6, name);
    if (second.length > 0) mustBe(h!, second, 1e-6, `${name}, second`);
    else
      for (const [i, v] of list(h!).entries())
        assert.ok(Math.abs(ENDS[i]!) >= 1 ? v === 0 : true, `${name}, second at ${ENDS[i]}: ${v}`);
  }
  const x = tensor([-20, 0, 1], { dtype, device, requiresGrad: true });
  mustBe(grad(x.expm1().sum(), [x])[0]!, [Math.exp(-20), 1, Math.E], 1e-6, 'expm1');
  const y = tensor([1e-10, 1e30], { dtype, device, requiresGrad: true });
  const gy = tensor([1e-20, 1], { dtype, device });
  mustBe(grad(y.reciprocal(), [y], { gy })[0]!, [-1, dtype === 'float32' ? 0 : -1e-60], 1e-6, 'reciprocal');
});

onEach(
  'powers: the derivative by the base is 0 where the exponent is, that by the exponent has its limits',
  (device, dtype) => {
    const slopes = (a: number[], b: number[]) => {
      const [x, y] = [a, b].map(v => tensor(v, { dtype, device, requiresGrad: true })) as [Tensor, Tensor];
      const gs = grad(x.pow(y), [x, y], { gy: ones([a.length], { dtype, device }), createGraph: true });
      return { gs, seconds: () => grad(gs[0]!.sum(), [x, y]) };
    };
    const ends = [0, -0, 1e-45, 1e-40, NaN, Infinity, -Infinity, 3, -3];
    const flat = slopes(ends, new Array(9).fill(0));
    mustBe(flat.gs[0]!, new Array(9).fill(0), 0, 'x⁰');
    mustBe(flat.seconds()[0]!, new Array(9).fill(0), 0, 'x⁰, second');
    // ∂²/∂a∂b a^b at b = 0 is 1/a.
    mustBe(
      flat.seconds()[1]!.slice([7, 9]),
      [1 / 3, -1 / 3].map((v, i) => (i === 0 ? v : NaN)),
      1e-6,
      'mixed',
    );
    const { gs } = slopes([0, 0, 0, 0, Infinity, Infinity, -2, 2, 1, -3], [-1, 1, 2, 0, -1, 2, 2, 3, 5, 1]);
    mustBe(gs[0]!, [-Infinity, 1, 0, 0, 0, Infinity, -4, 12, 5, 1], 1e-6, 'by the base');
    const log8 = 8 * Math.LN2;
    mustBe(gs[1]!, [-Infinity, 0, 0, 0, 0, Infinity, NaN, log8, 0, NaN], 1e-6, 'by the exponent');
    // An infinite gradient from above does not make it NaN.
    const x = tensor([0, 2], { dtype, device, requiresGrad: true });
    mustBe(grad(x.pow(0), [x], { gy: tensor([Infinity, 1], { dtype, device }) })[0]!, [0, 0]);
  },
);

onEach('sqrt, abs, reciprocal and log at 0 have PyTorch’s derivatives', (device, dtype) => {
  const at0 = (f: (x: Tensor) => Tensor) => {
    const x = tensor(0, { dtype, device, requiresGrad: true });
    return grad(f(x), [x])[0]!.item();
  };
  assert.equal(
    at0(x => x.sqrt()),
    Infinity,
  );
  assert.equal(
    at0(x => x.abs()),
    0,
  );
  assert.equal(
    at0(x => x.reciprocal()),
    -Infinity,
  );
  assert.equal(
    at0(x => x.log()),
    Infinity,
  );
  assert.equal(
    at0(x => x.norm()),
    0,
  );
});
