/**
 * A variational autoencoder (Kingma & Welling 2014) of handwritten digits: images become distributions of a few numbers, and numbers become
 * images. PyTorch's example vae, small. Ends on the bound of the test images' log likelihood (ELBO), and on exit code 1 if that misses the target.
 *
 *   npm run example vae                            npm run example vae -- --help
 */

import { Generator, nextTask, noGrad, randn, randnLike, type Tensor } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { bceWithLogits, Linear, Module } from '@otimes/nn';
import { Adam, STEVE } from '@otimes/optim';
import { bold, clock, command, dim, say } from '../shared/command.ts';
import { picture, smallDigits } from '../shared/images.ts';

const [PIXELS, HIDDEN, LATENT, BATCH] = [196, 128, 10, 128];

type Coded = [logits: Tensor, mean: Tensor, logVariance: Tensor];

/** Images [B, 196] → logits of their pixels [B, 196], and mean and log variance of their codes [B, LATENT] each. */
class VAE extends Module<[x: Tensor], Coded> {
  encoder: Linear;
  mean: Linear;
  logVariance: Linear;
  decoder: Linear;
  out: Linear;
  readonly #rng: Generator;

  constructor(rng: Generator) {
    super();
    this.#rng = rng;
    this.encoder = new Linear(PIXELS, HIDDEN, { rng });
    this.mean = new Linear(HIDDEN, LATENT, { rng });
    this.logVariance = new Linear(HIDDEN, LATENT, { rng });
    this.decoder = new Linear(LATENT, HIDDEN, { rng });
    this.out = new Linear(HIDDEN, PIXELS, { rng });
  }

  /** Logits of the pixels of codes [B, LATENT]. */
  decode(code: Tensor): Tensor {
    return this.out.call(this.decoder.call(code).relu());
  }

  override forward(x: Tensor): Coded {
    const hidden = this.encoder.call(x).relu();
    const [mean, logVariance] = [this.mean.call(hidden), this.logVariance.call(hidden)];
    const noise = randnLike(mean, { rng: this.#rng });
    return [this.decode(mean.add(logVariance.mul(0.5).exp().mul(noise))), mean, logVariance];
  }
}

await command(
  {
    name: 'vae',
    about: 'A variational autoencoder learns to draw digits.',
    optimizers: { Adam: 0.002, STEVE: 0.003 },
    settings: {
      epochs: { value: 15, about: 'passes over 8,000 images', least: 1 },
      target: { value: 44, about: 'negative ELBO of test images to reach, nats an image', fraction: true },
    },
  },
  async ({ optimizer: name, lr, seed, epochs, target }) => {
    const rng = new Generator(seed);
    const { train, test } = smallDigits();
    const loader = new DataLoader(new TensorDataset(train.images.flatten(1)), { batchSize: BATCH, shuffle: true, rng });
    const model = new VAE(rng);
    const optimizer = name === 'Adam' ? new Adam(model.parameters(), { lr }) : new STEVE(model, { lr });
    say(`${bold(`${train.images.shape[0]} digits`)} to learn from, ${test.images.shape[0]} others to be tested on.`);
    say(`${name} with lr ${lr}, ${epochs} epochs of ${loader.length} batches of ${BATCH}.\n`);

    const passed = clock();
    const tested = test.images.flatten(1);
    let bound = Infinity;
    for (let epoch = 1; epoch <= epochs; epoch++) {
      for (const [x] of loader) {
        optimizer.zeroGrad();
        negativeElbo(x, ...model.call(x)).backward();
        optimizer.step();
        await nextTask();
      }
      bound = noGrad(() => negativeElbo(tested, ...model.call(tested)).item());
      say(`epoch ${String(epoch).padStart(3)}   negative ELBO of the test ${bound.toFixed(2)}   ${dim(passed())}`);
    }

    const drawn = noGrad(() =>
      model
        .decode(randn([5, LATENT], { rng }))
        .sigmoid()
        .reshape([5, 1, 14, 14]),
    );
    say(`\nIt draws:\n\n${picture(drawn)}`);
    return { reached: `${bound.toFixed(2)} nats an image, target ${target}`, ok: bound <= target };
  },
);

/** Mean over the batch of −log p(x | code) + KL(q(code | x) ‖ N(0, 1)), for which a code was drawn; Appendix B of the paper. */
function negativeElbo(x: Tensor, logits: Tensor, mean: Tensor, logVariance: Tensor): Tensor {
  const reconstruction = bceWithLogits(logits, x, { reduction: 'sum' });
  const divergence = mean.square().add(logVariance.exp()).sub(logVariance).sub(1).sum().mul(0.5);
  return reconstruction.add(divergence).div(x.shape[0]!);
}
