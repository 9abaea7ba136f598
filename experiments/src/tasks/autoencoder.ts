/**
 * A deep autoencoder on digits, the classic test of second-order methods (Hinton & Salakhutdinov 2006; Martens 2010): each half has four
 * layers, with the code between them.
 */

import { Generator, type Tensor } from '@otimes/core';
import { bceWithLogits, init, isLayer, type Module, mlp, Parameter } from '@otimes/nn';
import type { OpenTask, Task } from '../experiment.ts';
import { batchesOf, checkBatch, onDevice, type Splits, samplesOf } from './classification.ts';
import { digitSplits } from './digits.ts';
import { evaluated } from './evaluate.ts';
import { averaged } from './images.ts';
import { aCount, oneOf, optionsFor, someSizes } from './options.ts';

type Options = {
  size: number;
  train: number;
  validation: number;
  test: number;
  batchSize: number;
  /** Units of the layers of the encoder, the code last; the decoder has them backwards. */
  hidden: readonly number[];
  activation: 'relu' | 'gelu' | 'tanh' | 'sigmoid';
};

const DEFAULTS: Options = {
  size: 14,
  train: 7000,
  validation: 1000,
  test: 2000,
  batchSize: 128,
  hidden: [128, 64, 32, 10],
  activation: 'tanh',
};

const KINDS = {
  size: aCount,
  train: aCount,
  validation: aCount,
  test: aCount,
  batchSize: aCount,
  hidden: someSizes,
  activation: oneOf('relu', 'gelu', 'tanh', 'sigmoid'),
};

/** Weights as Glorot & Bengio (2010) draw them: with smaller ones a signal fades in so many layers. */
function network(sizes: readonly number[], activation: Options['activation'], rng: Generator): Module {
  const model = mlp(sizes, { activation, rng });
  for (const module of model.namedModules().values())
    if (isLayer(module, 'Linear')) module.weight = new Parameter(init.xavierUniform(module.weight.shape, { rng }));
  return model;
}

export const autoencoder: Task = {
  name: 'autoencoder',
  about:
    'A deep autoencoder of handwritten digits, averaged to 14×14, with pixels in [0, 1]; the cross-entropy of an image, summed over its ' +
    'pixels, and for the metric the squared error of a pixel.',
  metric: { name: 'squared error', unit: 'number', better: 'lower' },
  data: null,
  async open({ device, options }): Promise<OpenTask<[Tensor, Tensor]>> {
    const o = optionsFor<Options>('autoencoder', options, DEFAULTS, KINDS);
    const raw = digitSplits('autoencoder', o);
    const flat = ({ images }: { images: Tensor }) => {
      const inputs = averaged('autoencoder', images, o.size).flatten(1);
      return { inputs, labels: inputs };
    };
    const onHost: Splits = { train: flat(raw.train), validation: flat(raw.validation), test: flat(raw.test) };
    checkBatch('autoencoder', o.batchSize, onHost);
    const splits = onDevice(onHost, device);
    const pixels = o.size ** 2;
    const widths = [pixels, ...o.hidden];
    const sizes = [...widths, ...widths.slice(0, -1).reverse()];
    return {
      samples: samplesOf(splits),
      model: seed => network(sizes, o.activation, new Generator(seed)).to(device),
      batches: seed => batchesOf(splits.train, o.batchSize, seed),
      // Of an image, the sum over its pixels, as in the papers: the mean would be a curvature of a 40,000th.
      loss: (model, [inputs, wanted]) => bceWithLogits(model.call(inputs), wanted).mul(pixels),
      evaluate(model, split) {
        const { inputs } = splits[split];
        return evaluated(model, inputs.shape[0]!, (from, count) => {
          const wanted = inputs.narrow(0, from, count);
          const logits: Tensor = model.call(wanted);
          return {
            loss: bceWithLogits(logits, wanted, { reduction: 'sum' }),
            metric: logits.sigmoid().sub(wanted).square().sum().div(pixels),
          };
        });
      },
    };
  },
};
