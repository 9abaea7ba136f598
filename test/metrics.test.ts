/** Metrics: what they say over many batches is what their definitions say of all positions together. */

import assert from 'node:assert/strict';
import {
  Generator,
  ones,
  packCheckpoint,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  type Tensor,
  tensor,
  unpackCheckpoint,
} from '@otimes/core';
import { metrics } from '@otimes/nn';
import t from 'tap';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law, overSeeds } from './helpers/law.ts';

laterDevice();
const {
  Accuracy,
  ConfusionMatrix,
  F1Score,
  Mean,
  MeanAbsoluteError,
  MeanSquaredError,
  Perplexity,
  Precision,
  R2Score,
  Recall,
} = metrics;

const near = (actual: number, expected: number, tolerance = 1e-12) =>
  assert.ok(
    Object.is(actual, expected) || Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)),
    `${actual}, expected ${expected}`,
  );

/** Scores [n, classes] with equal ones among them, and labels, in batches of different sizes. */
function batches(seed: number, classes: number, device = 'cpu'): [Tensor, Tensor][] {
  const rng = new Generator(seed);
  return [3, 1, 7, 4, 4].map(n => [
    randint(0, 5, [n, classes], { rng, device }).astype('float32'),
    randint(0, classes, [n], { rng, device }),
  ]);
}

const all = (given: readonly [Tensor, Tensor][]) =>
  given.flatMap(([scores, labels]) => {
    const known = labels.toArray() as number[];
    return (scores.toArray() as number[][]).map((row, i) => ({ row, label: known[i]! }));
  });

/** Classes by score, the largest first; of equal ones the lower index. */
const ranked = (row: readonly number[]) => row.map((_, i) => i).sort((a, b) => row[b]! - row[a]! || a - b);

law(
  t,
  'accuracy is the fraction of labels among the k classes of the largest scores, the lower index of equal ones',
  () =>
    overSeeds(20, seed => {
      for (const topK of [1, 2, 5, 9])
        for (const ignoreIndex of [undefined, 1]) {
          const metric = new Accuracy({ topK, ...(ignoreIndex !== undefined && { ignoreIndex }) });
          const given = batches(seed, 5);
          for (const [scores, labels] of given) metric.update(scores, labels);
          const counted = all(given).filter(({ label }) => label !== ignoreIndex);
          near(
            metric.value(),
            counted.filter(({ row, label }) => ranked(row).slice(0, topK).includes(label)).length / counted.length,
          );
        }
    }),
);

law(t, 'the confusion matrix counts labels by rows and predictions by columns', () =>
  overSeeds(10, seed => {
    const metric = new ConfusionMatrix({ classes: 3, ignoreIndex: 2 });
    const given = batches(seed, 3);
    const expected = [0, 1, 2].map(() => [0, 0, 0]);
    for (const [scores, labels] of given) metric.update(scores, labels);
    for (const { row, label } of all(given)) if (label !== 2) expected[label]![ranked(row)[0]!]!++;
    assert.deepEqual(metric.value(), expected);
  }),
);

/** Precision, recall and F1 of each class by sets of positions. */
function byDefinition(pairs: readonly { predicted: number; label: number }[], c: number) {
  const [hits, shown, real] = [
    pairs.filter(p => p.predicted === c && p.label === c).length,
    pairs.filter(p => p.predicted === c).length,
    pairs.filter(p => p.label === c).length,
  ];
  const [precision, recall] = [shown === 0 ? 0 : hits / shown, real === 0 ? 0 : hits / real];
  const f1 = precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
  return { precision, recall, f1, real, present: shown + real > 0 };
}

law(t, 'precision, recall and F1 are those of each class by definition, and their averages', () =>
  overSeeds(20, seed => {
    const [given, classes] = [batches(seed, 4), 6];
    const pairs = all(given).map(({ row, label }) => ({ predicted: ranked(row)[0]!, label }));
    const each = Array.from({ length: classes }, (_, c) => byDefinition(pairs, c));
    const of = [
      ['precision', Precision],
      ['recall', Recall],
      ['f1', F1Score],
    ] as const;
    for (const [name, Ratio] of of) {
      const run = <A extends metrics.Average>(average: A) => {
        const metric = new Ratio({ classes, average });
        for (const [scores, labels] of given) metric.update(scores.argmax(1), labels);
        return metric.value();
      };
      const list = run('none') as number[];
      for (const [c, one] of each.entries()) near(list[c]!, one[name]);
      const present = each.filter(one => one.present);
      near(run('macro') as number, present.reduce((sum, one) => sum + one[name], 0) / present.length);
      near(run('weighted') as number, each.reduce((sum, one) => sum + one[name] * one.real, 0) / pairs.length);
      near(run('micro') as number, pairs.filter(p => p.predicted === p.label).length / pairs.length);
    }
  }),
);

law(t, 'scores of one class count as it from the threshold on', () => {
  const [logits, labels] = [tensor([-1, 0, 2, 0.5]), tensor([0, 1, 1, 0], { dtype: 'int32' })];
  const accuracy = new Accuracy({ threshold: 0 });
  const precision = new Precision({ classes: 2, threshold: 0, average: 'binary' });
  for (const metric of [accuracy, precision]) metric.update(logits, labels);
  assert.deepEqual([accuracy.value(), precision.value()], [3 / 4, 2 / 3]);
});

law(t, 'perplexity is exp of the mean cross-entropy over the positions that count', () => {
  const rng = new Generator(2);
  const metric = new Perplexity({ ignoreIndex: -100 });
  let [sum, count] = [0, 0];
  for (const n of [2, 3]) {
    const logits = randn([n, 4, 5], { rng, dtype: 'float64' });
    const labels = tensor(
      Array.from({ length: n * 5 }, (_, i) => (i % 4 === 3 ? -100 : i % 4)),
      { dtype: 'int32' },
    ).reshape(n, 5);
    metric.update(logits, labels);
    const [z, y] = [logits.toArray() as number[][][], labels.toArray() as number[][]];
    for (let i = 0; i < n; i++)
      for (let j = 0; j < 5; j++) {
        const label = y[i]![j]!;
        if (label < 0) continue;
        const scores = z[i]!.map(row => row[j]!);
        sum += Math.log(scores.reduce((s, x) => s + Math.exp(x), 0)) - scores[label]!;
        count++;
      }
  }
  near(metric.value(), Math.exp(sum / count));
});

law(t, 'R² is 1 − Σ(y − p)² / Σ(y − ȳ)² of all batches together, also far from 0, for one and several outputs', () => {
  const rng = new Generator(4);
  for (const outputs of [[], [3]])
    for (const offset of [0, 1e6]) {
      const given = [5, 1, 8].map(n => {
        const y = randn([n, ...outputs], { rng, dtype: 'float64' }).add(offset);
        return [y.add(randn([n, ...outputs], { rng, dtype: 'float64' }).mul(0.3)), y] as const;
      });
      const metric = new R2Score();
      for (const [p, y] of given) metric.update(p, y);
      const columns = outputs[0] ?? 1;
      const flat = (x: Tensor) => [...x.dataSync()];
      const [p, y] = [given.flatMap(([one]) => flat(one)), given.flatMap(([, one]) => flat(one))];
      let r2 = 0;
      for (let c = 0; c < columns; c++) {
        const own = (x: number[]) => x.filter((_, i) => i % columns === c);
        const [a, b] = [own(p), own(y)];
        const mean = b.reduce((s, x) => s + x, 0) / b.length;
        const rest = b.reduce((s, x, i) => s + (x - a[i]!) ** 2, 0);
        r2 += (1 - rest / b.reduce((s, x) => s + (x - mean) ** 2, 0)) / columns;
      }
      near(metric.value(), r2, 1e-9);
    }
  const right = new R2Score();
  right.update(ones([3]), ones([3]));
  const wrong = new R2Score();
  wrong.update(ones([3]).mul(2), ones([3]));
  assert.deepEqual([right.value(), wrong.value()], [1, -Infinity]);
});

law(t, 'means weigh, and errors are means over elements', () => {
  const mean = new Mean();
  mean.update(2, 3);
  mean.update(tensor([1, 4]));
  near(mean.value(), (2 * 3 + 5) / 5);
  for (const [Metric, expected] of [
    [MeanAbsoluteError, 1.5],
    [MeanSquaredError, 2.5],
  ] as const) {
    const metric = new Metric();
    metric.update(tensor([1, 2]), tensor([2, 4]));
    assert.equal(metric.value(), expected);
  }
});

law(t, 'rounding of sums grows with the logarithm of the number of batches, on devices without float64', () => {
  class Narrow extends ReferenceBackend {
    override readonly dtypes = ['bool', 'int32', 'float32'] as const;
  }
  registerBackend(new Narrow('narrow'));
  const mean = new Mean();
  const x = tensor(0.1, { device: 'narrow' });
  for (let i = 0; i < 4097; i++) mean.update(x);
  assert.match(String(mean), /4097 batches/);
  near(mean.value(), 0.1, 13 * 2 ** -24);
  let oneByOne = 0;
  for (let i = 0; i < 4097; i++) oneByOne = Math.fround(oneByOne + Math.fround(0.1));
  assert.ok(Math.abs(oneByOne / 4097 - 0.1) > 100 * Math.abs(mean.value() - 0.1));
});

law(t, "no batch is read: on 'later' an update reads nothing, and compute gives what the CPU gives", async () => {
  const make = () => [
    new Accuracy({ topK: 2 }),
    new ConfusionMatrix({ classes: 4 }),
    new F1Score({ classes: 4, average: 'none' }),
    new Perplexity(),
  ];
  const [host, there] = [make(), make()];
  for (const [scores, labels] of batches(3, 4)) for (const metric of host) metric.update(scores, labels);
  const reads = await instantReadsIn(() => {
    for (const [scores, labels] of batches(3, 4, 'later')) for (const metric of there) metric.update(scores, labels);
  });
  assert.equal(reads, 0);
  for (const [i, metric] of there.entries()) assert.deepEqual(await metric.compute(), await host[i]!.compute());
});

law(
  t,
  'a label out of range is an error, here at once and on a device that is read with await at compute',
  async () => {
    const wrong = (device: string) => tensor([0, 4], { dtype: 'int32', device });
    assert.throws(() => new Accuracy().update(ones([2, 3]), wrong('cpu')), /^RangeError: Accuracy: .*4/);
    const metric = new Accuracy();
    metric.update(ones([2, 3], { device: 'later' }), wrong('later'));
    await assert.rejects(metric.compute(), /^RangeError: Accuracy: .*4/);
  },
);

law(t, 'a state goes on as the metric, through a checkpoint too, and reset forgets', async () => {
  const [whole, first, second] = [1, 2, 3].map(() => new Precision({ classes: 4 }));
  const given = batches(6, 4);
  for (const [i, [scores, labels]] of given.entries()) {
    whole!.update(scores, labels);
    (i < 3 ? first! : second!).update(scores, labels);
    if (i === 2) await unpackCheckpoint(await packCheckpoint({ metric: first! }), { metric: second! });
  }
  assert.equal(second!.value(), whole!.value());
  assert.throws(
    () => second!.loadStateDict(new Mean().stateDict() && { levels: ones([2]) }),
    /expected a state of a Precision/,
  );
  second!.reset();
  assert.ok(Number.isNaN(second!.value()));
});

law(t, 'without any position a value is NaN, and a matrix is zero', () => {
  for (const metric of [new Accuracy(), new Mean(), new Perplexity(), new R2Score(), new Recall({ classes: 2 })])
    assert.ok(Number.isNaN(metric.value()), String(metric));
  assert.deepEqual(new ConfusionMatrix({ classes: 2 }).value(), [
    [0, 0],
    [0, 0],
  ]);
});

law(t, 'wrong calls say what was expected', () => {
  const y = tensor([0, 1], { dtype: 'int32' });
  const cases: [() => unknown, RegExp][] = [
    [() => new Accuracy().update(ones([2]), y), /Accuracy: expected int32 classes or scores .* say the threshold/],
    [() => new Accuracy().update(ones([2, 3]), ones([2])), /Accuracy: expected int32 labels, got float32\[2\]/],
    [() => new Accuracy().update(ones([3, 2]), y), /the classes on axis 1, for labels int32\[2\], got float32\[3,2\]/],
    [() => new Accuracy({ topk: 2 } as never), /there is no option 'topk'.*did you mean 'topK'/],
    [() => new ConfusionMatrix({} as never), /expected classes to be an integer ≥ 1, got undefined/],
    [
      () => new ConfusionMatrix(10 as never),
      /expected options to be an object of options, got 10; write \{ classes: 10 \}$/,
    ],
    [() => new Precision({ classes: 3, average: 'binary' }), /expected classes 2 for average 'binary', got 3/],
    [() => new F1Score({ classes: 3, threshold: 0 }), /expected classes 2 with a threshold.* got 3; of several labels/],
    [() => new Precision({ classes: 2, average: 'mean' as never }), /expected average to be 'macro' or/],
    [() => new R2Score().update(ones([2]), ones([3])), /R2Score: expected targets like float32\[2\], got float32\[3\]/],
    [() => new Mean().update('1' as never), /Mean: expected value to be a number or a tensor, got '1'/],
  ];
  for (const [call, message] of cases) assert.throws(call, message);
});
