/**
 * A small DCGAN (Radford et al. 2016): a generator of transposed convolutions draws digits, a discriminator tells them from handwritten ones, and
 * each learns from the other. PyTorch's example dcgan, small. A classifier that has learnt from handwritten digits says in the end how many of the
 * drawings are plainly digits, and whether all ten occur; exit code 1 if that misses the target.
 *
 *   npm run example dcgan                          npm run example dcgan -- --help
 */

import { Generator, nextTask, noGrad, ones, randn, type Tensor, zeros } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import {
  type AnyModule,
  BatchNorm2d,
  bceWithLogits,
  Conv2d,
  ConvTranspose2d,
  crossEntropy,
  Flatten,
  init,
  LeakyReLU,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { bold, clock, command, dim, say } from '../shared/command.ts';
import { picture, smallDigits } from '../shared/images.ts';
import { percent } from '../shared/run.ts';

const [LATENT, BATCH, SAMPLES] = [32, 64, 500];
/** The classifier's confidence from which on a drawing is plainly a digit. */
const PLAIN = 0.8;

/** Noise [B, LATENT, 1, 1] → images [B, 1, 14, 14] of −1 (paper) … 1 (ink). */
const generatorOf = (rng: Generator) =>
  new Sequential(
    new ConvTranspose2d(LATENT, 64, 4, { bias: false, rng }),
    ...[new BatchNorm2d(64), new ReLU()],
    new ConvTranspose2d(64, 32, 3, { stride: 2, padding: 1, bias: false, rng }),
    ...[new BatchNorm2d(32), new ReLU()],
    new ConvTranspose2d(32, 1, 4, { stride: 2, padding: 1, bias: false, rng }),
    new Tanh(),
  );

/** Such images → the logit of each that it is a handwritten one, [B, 1, 1, 1]. */
const discriminatorOf = (rng: Generator) =>
  new Sequential(
    new Conv2d(1, 32, 4, { stride: 2, padding: 1, bias: false, rng }),
    new LeakyReLU(0.2),
    new Conv2d(32, 64, 3, { stride: 2, padding: 1, bias: false, rng }),
    ...[new BatchNorm2d(64), new LeakyReLU(0.2)],
    new Conv2d(64, 1, 4, { bias: false, rng }),
  );

/** Such images → logits of the ten digits. */
const classifierOf = (rng: Generator) =>
  new Sequential(
    ...[new Conv2d(1, 16, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Conv2d(16, 32, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Flatten(), new Linear(32 * 9, 10, { rng })],
  );

await command(
  {
    name: 'dcgan',
    about:
      'Two networks of convolutions, one of which learns to draw digits from what the other finds wrong with them.',
    optimizers: { Adam: 0.001 },
    settings: {
      epochs: { value: 12, about: 'passes over 8,000 images', least: 1 },
      target: {
        value: 0.6,
        about: `share of drawings that are to be digits with a confidence over ${PLAIN}`,
        fraction: true,
      },
    },
  },
  async ({ lr, seed, epochs, target }) => {
    const rng = new Generator(seed);
    const { train, test } = smallDigits();
    const real = train.images.mul(2).sub(1);
    const generator = generatorOf(rng).apply(module => dcganStart(module, rng));
    const discriminator = discriminatorOf(rng).apply(module => dcganStart(module, rng));
    const betas = [0.5, 0.999] as const;
    const drawing = new Adam(generator.parameters(), { lr, betas });
    const telling = new Adam(discriminator.parameters(), { lr, betas });
    const passed = clock();
    const classifier = classifierOf(rng);
    await fit(classifier, new TensorDataset(real, train.labels), rng);
    const right = noGrad(() =>
      classifier.call(test.images.mul(2).sub(1)).argmax(1).eq(test.labels).astype('float32').mean().item(),
    );
    say(`A classifier that reads ${percent(right)} of handwritten digits right will judge.   ${dim(passed())}`);

    const loader = new DataLoader(new TensorDataset(real), { batchSize: BATCH, shuffle: true, dropLast: true, rng });
    say(
      `${bold(`${train.images.shape[0]} digits`)} to learn from, Adam with lr ${lr} twice, ${epochs} epochs of ${loader.length} batches of ${BATCH}.\n`,
    );
    const noise = (count: number) => randn([count, LATENT, 1, 1], { rng });
    const [yes, no] = [ones([BATCH]), zeros([BATCH])];
    let found = { plain: 0, rarest: 0 };
    for (let epoch = 1; epoch <= epochs; epoch++) {
      let [told, drawn] = [0, 0];
      for (const [x] of loader) {
        const fake = generator.call(noise(BATCH));
        telling.zeroGrad();
        const loss = bceWithLogits(discriminator.call(x).flatten(), yes).add(
          bceWithLogits(discriminator.call(fake.detach()).flatten(), no),
        );
        loss.backward();
        telling.step();
        drawing.zeroGrad();
        const missed = bceWithLogits(discriminator.call(fake).flatten(), yes);
        missed.backward();
        drawing.step();
        told += loss.item();
        drawn += missed.item();
        await nextTask();
      }
      found = judged(classifier, drawings(generator, noise(SAMPLES)));
      const losses = `discriminator ${(told / loader.length).toFixed(2)}   generator ${(drawn / loader.length).toFixed(2)}`;
      say(
        `epoch ${String(epoch).padStart(2)}   ${losses}   plain digits ${percent(found.plain).padStart(6)}   ${dim(passed())}`,
      );
    }

    say(`\nIt draws:\n\n${picture(drawings(generator, noise(5)).add(1).div(2))}`);
    return {
      reached: `${percent(found.plain)} plain digits, target ${percent(target)}; the rarest digit is ${percent(found.rarest)} of them`,
      ok: found.plain >= target && found.rarest >= 0.01,
    };
  },
);

/** Gives a module the paper's first weights: N(0, .02) of convolutions, N(1, .02) of batch norms. */
function dcganStart(module: AnyModule, rng: Generator): void {
  const isNorm = module instanceof BatchNorm2d;
  if (!(isNorm || module instanceof Conv2d || module instanceof ConvTranspose2d) || module.weight === null) return;
  const weight = init.normal(module.weight.shape, 0.02, { mean: isNorm ? 1 : 0, rng });
  noGrad(() => module.weight!.copy_(weight));
}

/** Two epochs on handwritten digits. */
async function fit(model: Sequential, digits: TensorDataset<[Tensor, Tensor]>, rng: Generator): Promise<void> {
  const optimizer = new Adam(model.parameters(), { lr: 0.005 });
  const loader = new DataLoader(digits, { batchSize: BATCH, shuffle: true, rng });
  for (let epoch = 0; epoch < 2; epoch++)
    for (const [x, y] of loader) {
      optimizer.zeroGrad();
      crossEntropy(model.call(x), y).backward();
      optimizer.step();
      await nextTask();
    }
}

function drawings(generator: Sequential, noise: Tensor): Tensor {
  generator.eval();
  const images = noGrad(() => generator.call(noise));
  generator.train();
  return images;
}

/** The share of images that are digits with confidence, and of these the share of the rarest digit: 0 where one is missing. */
function judged(classifier: Sequential, images: Tensor): { plain: number; rarest: number } {
  const chances = noGrad(() => classifier.call(images).softmax(1));
  const plain = chances.gt(PLAIN).astype('float32').sum(0);
  const count = plain.sum().item();
  return { plain: count / images.shape[0]!, rarest: count === 0 ? 0 : plain.min().item() / count };
}
