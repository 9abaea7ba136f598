/** Three small problems that are learned in 100 steps: their models, batches made of a seed, and how they are trained. */

import { type Generator, noGrad, type Tensor, tensor } from '@otimes/core';
import type { Module } from '@otimes/nn';
import { Adam, type Optimizer, STEVE } from '@otimes/optim';
import type { Spec } from './models.ts';

export type Task = {
  readonly name: string;
  readonly spec: Spec;
  /** Learning rates: small enough that rounding does not grow to 1e-3 in 100 steps. */
  readonly lr: { readonly adam: number; readonly steve: number };
  /** Changes the initial weights. */
  prepare?(model: Module): void;
  /** A batch on the CPU. */
  batch(rng: Generator): [x: Tensor, labels: Tensor];
};

/** Images whose classes are gratings of different directions, in noise. */
function gratings(rng: Generator, batch: number, channels: number, side: number, classes: number): [Tensor, Tensor] {
  const labels = Int32Array.from({ length: batch }, () => rng.integer(0, classes));
  const pixels = new Float32Array(batch * channels * side * side);
  let at = 0;
  for (const label of labels) {
    const [angle, phase] = [(Math.PI * label) / classes, 2 * Math.PI * rng.uniform()];
    const [dx, dy] = [Math.cos(angle), Math.sin(angle)];
    for (let channel = 0; channel < channels; channel++)
      for (let y = 0; y < side; y++)
        for (let x = 0; x < side; x++)
          pixels[at++] = Math.sin((2 * Math.PI * (x * dx + y * dy)) / 6 + phase + channel) + rng.normal();
  }
  return [tensor(pixels, { shape: [batch, channels, side, side] }), tensor(labels)];
}

/** Sequences that go on by a step of their own, and the tokens that follow. */
function walks(rng: Generator, batch: number, length: number, vocabulary: number): [Tensor, Tensor] {
  const tokens = new Int32Array(batch * length);
  const next = new Int32Array(batch * length);
  for (let row = 0; row < batch; row++) {
    const [first, step] = [rng.integer(0, vocabulary), rng.integer(1, 6)];
    for (let i = 0; i < length; i++) {
      tokens[row * length + i] = (first + i * step) % vocabulary;
      next[row * length + i] = (first + (i + 1) * step) % vocabulary;
    }
  }
  const shape = [batch, length];
  return [tensor(tokens, { shape }), tensor(next, { shape })];
}

/**
 * Lets each block start as its shortcut (Goyal et al. 2017). At the usual start ResNet-18 with batch norm over few images is
 * chaotic: a change of 1e-7 in the weights has become one of 0.1 in the loss after 100 steps, on any device.
 */
function withoutBranches(model: Module): void {
  for (const [path, p] of model.namedParameters()) if (path.endsWith('.bn2.weight')) noGrad(() => p.scale_(0));
}

export function tasksOf(quick: boolean): Task[] {
  const cnn = { channels: 1, side: quick ? 12 : 28, classes: 10 };
  const colour = { channels: 3, side: quick ? 16 : 32, classes: 10 };
  const images = quick ? 8 : 64;
  const few = quick ? 4 : 16;
  const [vocabulary, length, sequences] = quick ? [16, 12, 4] : [64, 64, 16];
  return [
    {
      name: 'CNN',
      spec: { kind: 'cnn', image: cnn, channels: quick ? [4, 8] : [16, 32], batch: images },
      lr: { adam: 1e-3, steve: 1e-3 },
      batch: rng => gratings(rng, images, 1, cnn.side, 10),
    },
    {
      name: 'ResNet-18',
      spec: { kind: 'resnet', depth: 18, stem: 'cifar', width: quick ? 4 : 16, image: colour, batch: few },
      lr: { adam: 5e-4, steve: 3e-4 },
      prepare: withoutBranches,
      batch: rng => gratings(rng, few, 3, colour.side, 10),
    },
    {
      name: 'transformer',
      spec: { kind: 'gpt', vocabulary, length, dim: quick ? 16 : 128, depth: 2, heads: 4, batch: sequences },
      lr: { adam: 1e-3, steve: 1e-3 },
      batch: rng => walks(rng, sequences, length, vocabulary),
    },
  ];
}

export const optimizers: Record<string, (model: Module, task: Task) => Optimizer> = {
  adam: (model, { lr }) => new Adam(model.parameters(), { lr: lr.adam }),
  steve: (model, { lr }) => new STEVE(model, { lr: lr.steve, maxFactorDim: 256 }),
};
