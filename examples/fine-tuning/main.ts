/**
 * A small vision transformer that PyTorch trained on the digits 0 … 4 learns the digits 5 … 9 from 1,500 images: at first a new head on
 * the frozen body, then all of it, the body more slowly than the head. Ends on the accuracy of both, and on exit code 1 if it misses the target.
 *
 *   npm run example fine-tuning                npm run example fine-tuning -- --help
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Generator, noGrad, randn, scope, type Tensor, tensor } from '@otimes/core';
import { load } from '@otimes/core/node';
import { DataLoader, type Labelled, TensorDataset } from '@otimes/data';
import {
  crossEntropy,
  fromPyTorch,
  LayerNorm,
  Linear,
  Module,
  metrics,
  Parameter,
  TransformerEncoder,
  TransformerEncoderLayer,
} from '@otimes/nn';
import { AdamW, cosineLr, type Optimizer, Schedule } from '@otimes/optim';
import { loadDigits } from '../digits/load.ts';
import { command, say } from '../shared/command.ts';
import { percent } from '../shared/run.ts';

const WEIGHTS = join(dirname(fileURLToPath(import.meta.url)), 'pretrained.safetensors');
const [DIGITS, WIDTH, PATCH, BATCH] = [5, 32, 4, 32];

/** Images [B, 28, 28] → logits [B, 5]. The names and options are those of Net in pretrain.py. */
class Net extends Module {
  readonly embed: Linear;
  readonly position: Parameter;
  readonly encoder: TransformerEncoder;
  head: Linear;

  constructor(rng: Generator) {
    super();
    this.embed = new Linear(PATCH * PATCH, WIDTH, { rng });
    this.position = new Parameter(randn([49, WIDTH], { rng }).mul(0.02));
    const options = { dimFeedforward: 64, dropout: 0, batchFirst: true, normFirst: true, rng };
    const layer = () => new TransformerEncoderLayer(WIDTH, 4, options);
    this.encoder = new TransformerEncoder(layer, 2, new LayerNorm(WIDTH));
    this.head = new Linear(WIDTH, DIGITS, { rng });
  }

  override forward(images: Tensor): Tensor {
    const patches = images
      .reshape(-1, 7, PATCH, 7, PATCH)
      .transpose(2, 3)
      .reshape(-1, 49, PATCH * PATCH);
    return this.head.call(this.encoder.call(this.embed.call(patches).add(this.position)).mean(1));
  }
}

await command(
  {
    name: 'fine-tuning',
    about: 'A vision transformer that PyTorch trained on the digits 0 … 4 learns the digits 5 … 9 from few images.',
    optimizers: { AdamW: 0.003 },
    settings: {
      images: { value: 300, about: 'of each digit to learn from', least: 1 },
      head: { value: 8, about: 'epochs with the body frozen', least: 1 },
      epochs: { value: 12, about: 'of the whole model after that', least: 1 },
      target: { value: 0.88, about: 'accuracy on the digits 5 … 9 of the test set', fraction: true },
    },
  },
  async ({ lr, images, head: headEpochs, epochs, seed, target }) => {
    const digits = loadDigits();
    const rng = new Generator(seed);
    const model = new Net(rng);
    model.loadStateDict(fromPyTorch(load(WEIGHTS)));
    say(
      `PyTorch's weights read ${percent(await accuracy(model, ofDigits(digits.test, 0)))} of the digits 0 … 4 right.`,
    );

    const [learn, test] = [ofDigits(digits.train, 5, images), ofDigits(digits.test, 5)];
    const loader = new DataLoader(new TensorDataset(learn.images, learn.labels), {
      batchSize: BATCH,
      shuffle: true,
      rng,
    });
    const train = async (what: string, optimizer: Optimizer, epochs: number): Promise<number> => {
      say(`\n${what}`);
      const schedule = new Schedule(optimizer, cosineLr({ tMax: epochs * loader.length }));
      for (let epoch = 1; epoch <= epochs; epoch++) {
        const losses = new metrics.Mean();
        for (const [x, y] of loader) {
          optimizer.zeroGrad();
          scope(() => {
            const loss = crossEntropy(model.call(x), y);
            loss.backward();
            losses.update(loss);
          });
          await optimizer.step();
          schedule.step();
        }
        if (epoch % Math.ceil(epochs / 5) !== 0 && epoch !== epochs) continue;
        const [loss, right] = [await losses.compute(), await accuracy(model, test)];
        say(`epoch ${String(epoch).padStart(2)}   loss ${loss.toFixed(4)}   accuracy ${percent(right)}`);
      }
      return accuracy(model, test);
    };

    model.freeze();
    model.head = new Linear(WIDTH, DIGITS, { rng });
    const head = new AdamW(model.head.parameters(), { lr: 10 * lr });
    const before = await train(`A new head, ${learn.labels.size} images of the digits 5 … 9:`, head, headEpochs);

    model.unfreeze();
    const isHead = new Set(model.head.parameters());
    const body = model.parameters().filter(p => !isHead.has(p));
    const all = new AdamW([{ params: body }, { params: isHead, lr: 3 * lr }], { lr: lr / 3 });
    const after = await train('All of it, the body at a ninth of the rate:', all, epochs);
    return {
      reached: `${percent(after)} of ${test.labels.size} digits, ${percent(before)} with the frozen body`,
      ok: after >= target,
    };
  },
);

/** The images of five digits from `first` on, at most so many of each, with labels 0 … 4. */
function ofDigits({ images, labels }: Labelled, first: number, most = Infinity): Labelled {
  const seen = new Array<number>(DIGITS).fill(0);
  const [places, classes]: [number[], number[]] = [[], []];
  labels.dataSync().forEach((digit, i) => {
    const label = digit - first;
    if (label < 0 || label >= DIGITS || seen[label]! >= most) return;
    seen[label]!++;
    places.push(i);
    classes.push(label);
  });
  const int32 = { dtype: 'int32' } as const;
  return { images: images.indexSelect(0, tensor(places, int32)), labels: tensor(classes, int32) };
}

async function accuracy(model: Net, { images, labels }: Labelled): Promise<number> {
  const metric = new metrics.Accuracy();
  for (const [x, y] of new DataLoader(new TensorDataset(images, labels), { batchSize: 250 }))
    metric.update(
      noGrad(() => model.call(x)),
      y,
    );
  return metric.compute();
}
