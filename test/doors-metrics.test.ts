/** Every metric and the functions of checkpoints, called with wrong arguments: it works, or an error of the library says what is wrong. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as core from '@otimes/core';
import { Generator, ones, packCheckpoint, type Tensor, tensor } from '@otimes/core';
import * as node from '@otimes/core/node';
import { Linear, metrics } from '@otimes/nn';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const labels = () => tensor([1, 0], { dtype: 'int32' });
const scores = () => ones([2, 3]);
const made = (Class: new (...args: never[]) => unknown, args: Door['args']): Door => ({
  call: (...given) => new Class(...given),
  args,
});
const options = { ignoreIndex: -1, threshold: 0.5 };
const counts = { classes: 2, ...options };
const averaged = { ...counts, average: 'macro' };
const metric = {
  Accuracy: made(metrics.Accuracy, () => [{ topK: 1, ...options }]),
  ConfusionMatrix: made(metrics.ConfusionMatrix, () => [counts]),
  Precision: made(metrics.Precision, () => [averaged]),
  Recall: made(metrics.Recall, () => [averaged]),
  F1Score: made(metrics.F1Score, () => [averaged]),
  Perplexity: made(metrics.Perplexity, () => [{ ignoreIndex: -1 }]),
  Mean: made(metrics.Mean, () => []),
  MeanAbsoluteError: made(metrics.MeanAbsoluteError, () => []),
  MeanSquaredError: made(metrics.MeanSquaredError, () => []),
  R2Score: made(metrics.R2Score, () => []),
};
checkDoors(t, 'nn.metrics', Object.keys(metrics), metric, { Metric: 'abstract; its methods are below' });

/** Methods of a metric that has seen a batch. */
const method = (
  name: 'update' | 'loadStateDict' | 'compute' | 'value' | 'reset' | 'stateDict',
  args: Door['args'],
): Door => ({
  call: (...given) => {
    const accuracy = new metrics.Accuracy({ ignoreIndex: 5 });
    accuracy.update(scores(), labels());
    return (accuracy[name] as (...all: never[]) => unknown)(...given);
  },
  args,
  says: ['Accuracy', 'Accuracy.loadStateDict', 'Accuracy.compute', 'Accuracy.value', 'Accuracy.reset'],
});
const state = () => {
  const accuracy = new metrics.Accuracy();
  accuracy.update(scores(), labels());
  return accuracy.stateDict();
};
const methods = {
  update: method('update', () => [scores(), labels()]),
  compute: method('compute', () => []),
  value: method('value', () => []),
  reset: method('reset', () => []),
  loadStateDict: method('loadStateDict', () => [state()]),
};
checkDoors(t, 'methods of metrics', Object.keys(methods), methods);

const pairs: [string, metrics.Metric & { update(a: Tensor, b: Tensor): void }, () => Tensor, () => Tensor][] = [
  ['Perplexity', new metrics.Perplexity(), scores, labels],
  ['R2Score', new metrics.R2Score(), scores, scores],
  ['MeanSquaredError', new metrics.MeanSquaredError(), scores, scores],
  ['Recall', new metrics.Recall({ classes: 3 }), scores, labels],
];
for (const [name, one, a, b] of pairs)
  checkDoors(t, `${name}.update`, [name], {
    [name]: { call: (...given: [Tensor, Tensor]) => one.update(...given), args: () => [a(), b()] },
  });
checkDoors(t, 'Mean.update', ['Mean'], {
  Mean: { call: (...given: [Tensor, number]) => new metrics.Mean().update(...given), args: () => [ones([2]), 3] },
});

const folder = mkdtempSync(join(tmpdir(), 'otimes-doors-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'file');
const model = new Linear(2, 3);
const bytes = await packCheckpoint({ model });
await node.saveCheckpoint(path, { model });
const says = ['packCheckpoint', 'unpackCheckpoint', 'checkpoint', 'safetensors', 'saveCheckpoint', 'loadCheckpoint'];
checkDoors(t, 'checkpoints', ['packCheckpoint', 'unpackCheckpoint', 'saveCheckpoint', 'loadCheckpoint'], {
  packCheckpoint: {
    call: core.packCheckpoint,
    args: () => [{ model, rng: new Generator(1), epoch: 3 }],
    says,
    skip: { 0: 'parts have any names; test/checkpoint.test.ts has wrong ones' },
  },
  unpackCheckpoint: {
    call: core.unpackCheckpoint,
    args: () => [bytes, { model }],
    says,
    skip: { 1: 'parts have any names' },
  },
  saveCheckpoint: {
    call: node.saveCheckpoint,
    args: () => [path, { model }],
    says,
    skip: { 0: 'a name is a file', 1: 'parts have any names' },
  },
  loadCheckpoint: {
    call: node.loadCheckpoint,
    args: () => [path, { model }],
    says,
    skip: { 0: 'a name is a file', 1: 'parts have any names' },
  },
});
