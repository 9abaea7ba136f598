// The initialisers of @otimes/nn.

import assert from 'node:assert/strict';
import { Generator, type Shape, type Tensor } from '@otimes/core';
import { Embedding, init, LayerNorm, Linear } from '@otimes/nn';
import t from 'tap';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;

/** [mean, standard deviation, least, largest] */
const moments = (values: Tensor) => {
  const wide = values.astype('float64');
  return [wide.mean(), wide.var().sqrt(), wide.min(), wide.max()].map(m => m.item()) as [
    number,
    number,
    number,
    number,
  ];
};

/** Each with a weight [60, 40, 3, 3]: fan-in 360, fan-out 540. */
const initialisers: {
  name: string;
  make: (shape: Shape, o: init.InitOptions) => Tensor;
  std: number;
  bound: number;
}[] = [
  { name: 'uniform', make: (s, o) => init.uniform(s, -1, 3, o), std: 4 / Math.sqrt(12), bound: 3 },
  { name: 'normal', make: (s, o) => init.normal(s, 2, { ...o, mean: 1 }), std: 2, bound: Infinity },
  { name: 'truncatedNormal', make: (s, o) => init.truncatedNormal(s, 0.5, o), std: 0.5 * 0.87963, bound: 1 },
  {
    name: 'truncatedNormal, cut 1',
    make: (s, o) => init.truncatedNormal(s, 1, { ...o, cut: 1 }),
    std: 0.53956,
    bound: 1,
  },
  { name: 'xavierUniform', make: init.xavierUniform, std: Math.sqrt(2 / 900), bound: Math.sqrt(6 / 900) },
  {
    name: 'xavierNormal',
    make: (s, o) => init.xavierNormal(s, { ...o, gain: 2 }),
    std: 2 * Math.sqrt(2 / 900),
    bound: Infinity,
  },
  { name: 'kaimingUniform', make: init.kaimingUniform, std: Math.sqrt(2 / 360), bound: Math.sqrt(6 / 360) },
  { name: 'kaimingNormal', make: init.kaimingNormal, std: Math.sqrt(2 / 360), bound: Infinity },
];
for (const { name, make, std, bound } of initialisers)
  law(t, `init.${name}: mean, standard deviation, bounds, dtype and seed`, () => {
    const shape = [60, 40, 3, 3];
    const of = (o: init.InitOptions = {}) => make(shape, { rng: new Generator(11), ...o });
    const values = of();
    const centre = name === 'uniform' || name === 'normal' ? 1 : 0;
    const [mean, deviation, least, largest] = moments(values);
    // Standard errors: σ/√n of the mean, at most σ/√(2n) of the deviation of these distributions.
    assert.ok(Math.abs(mean - centre) < (4 * std) / Math.sqrt(values.size), `mean ${mean}`);
    assert.ok(
      Math.abs(deviation / std - 1) < 4 / Math.sqrt(2 * values.size),
      `deviation ${deviation}, expected ${std}`,
    );
    assert.ok(largest <= bound * (1 + 1e-6) && least >= (name === 'uniform' ? -1 : -bound) * (1 + 1e-6));
    assert.deepEqual([values.shape, values.dtype], [shape, 'float32']);
    assert.equal(of(float64).dtype, 'float64');
    assert.deepEqual(of().toArray(), values.toArray());
    assert.notDeepEqual(of({ rng: new Generator(12) }).toArray(), values.toArray());
  });

law(t, 'Linear starts uniform in ±1/√dIn, LayerNorm at 1 and 0, Embedding standard normal', () => {
  const o = { rng: new Generator(1) };
  const linear = new Linear(100, 200, o);
  for (const p of [linear.weight, linear.bias!]) {
    const [mean, deviation, least, largest] = moments(p);
    assert.ok(Math.abs(mean) < 0.01 && Math.abs(deviation - 0.1 / Math.sqrt(3)) < 0.005);
    assert.ok(least >= -0.1 && least < -0.095 && largest <= 0.1 && largest > 0.095);
  }
  const norm = new LayerNorm([2]);
  assert.deepEqual(
    [norm.weight.toArray(), norm.bias!.toArray()],
    [
      [1, 1],
      [0, 0],
    ],
  );
  const [mean, deviation] = moments(new Embedding(200, 100, o).weight);
  assert.ok(Math.abs(mean) < 0.03 && Math.abs(deviation - 1) < 0.03);
});

law(t, 'initialisers refuse what has no fans, and bad options', () => {
  assert.throws(() => init.xavierNormal([3]), /^ShapeError: xavierNormal: fans need a weight of rank ≥ 2, got \[3\]/);
  assert.throws(() => init.kaimingUniform([]), /kaimingUniform: .* got \[\]/);
  assert.throws(() => init.truncatedNormal([3], 1, { cut: 0 }), {
    name: 'RangeError',
    message: 'truncatedNormal: expected cut to be a number above 0, got 0',
  });
});

law(t, 'initialisers name themselves, what they expected and what came', () => {
  const js = (value: unknown) => value as never;
  const says = (run: () => unknown, message: string) => assert.throws(run, { message });
  says(() => init.normal([2], js('1')), "normal: expected std to be a finite number ≥ 0, got '1'");
  says(() => init.normal([2], js({ std: 1 })), 'normal: expected std to be a finite number ≥ 0, got { std }');
  says(() => init.normal([2], -1), 'normal: expected std to be a finite number ≥ 0, got -1');
  says(() => init.normal([2], 1, { mean: NaN }), 'normal: expected mean to be a finite number, got NaN');
  says(() => init.normal([2, -3], 1), 'normal: a shape is made of integers ≥ 0, got [2,-3]');
  says(() => init.normal(js(['2', 3]), 1), "normal: a shape is made of integers ≥ 0, got ['2',3]");
  says(() => init.uniform([2], js(undefined), 1), 'uniform: expected low to be a finite number, got undefined');
  says(() => init.uniform([2], 1, -1), 'uniform: expected low ≤ high, got 1 and -1');
  for (const dtype of ['int32', 'bool'] as const)
    for (const [name, run] of Object.entries({
      uniform: () => init.uniform([2, 3], 0, 1, { dtype }),
      normal: () => init.normal([2, 3], 1, { dtype }),
      truncatedNormal: () => init.truncatedNormal([2, 3], 1, { dtype }),
      xavierUniform: () => init.xavierUniform([2, 3], { dtype }),
      xavierNormal: () => init.xavierNormal([2, 3], { dtype }),
      kaimingUniform: () => init.kaimingUniform([2, 3], { dtype }),
      kaimingNormal: () => init.kaimingNormal([2, 3], { dtype }),
    }))
      says(run, `${name}: expected a floating dtype, got ${dtype}`);
  says(
    () => init.kaimingNormal([2, 3], { gain: NaN }),
    'kaimingNormal: expected gain to be a finite number ≥ 0, got NaN',
  );
  says(() => init.kaimingNormal([2, 2.5]), 'kaimingNormal: a shape is made of integers ≥ 0, got [2,2.5]');
});
