/**
 * Are two handwritten digits the same? A small convolutional network maps images to points, and learns from triplets that those of one
 * digit lie together (Balntas et al. 2016). Ends on the accuracy of verifying pairs of images that it has never seen.
 *
 *   npm run example siamese                    npm run example siamese -- --help
 */

import {
  cdist,
  Generator,
  multinomial,
  noGrad,
  normalize,
  pairwiseDistance,
  scope,
  type Tensor,
  tensor,
  where,
} from '@otimes/core';
import { averagePool2, type Labelled } from '@otimes/data';
import { Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, tripletMarginLoss } from '@otimes/nn';
import { Adam, cosineLr, Schedule, STEVE } from '@otimes/optim';
import { loadDigits } from '../digits/load.ts';
import { command, dim, say } from '../shared/command.ts';
import { percent } from '../shared/run.ts';

/** Images of each digit in a batch, and pairs that are verified. */
const [EACH, PAIRS] = [8, 2000];
const MARGIN = 0.5;
/** How much likelier a near image of another digit is drawn than a far one: by exp(−SHARPNESS · distance). */
const SHARPNESS = 5;

await command(
  {
    name: 'siamese',
    about: 'Learns from triplets of handwritten digits whether two images show the same digit.',
    optimizers: { Adam: 0.002, STEVE: 0.01 },
    settings: {
      steps: { value: 500, about: 'batches of 80 triplets', least: 1 },
      target: { value: 0.95, about: 'accuracy on pairs of unseen images', fraction: true },
    },
  },
  async ({ optimizer: name, lr, steps, seed, target }) => {
    const { train, test } = loadDigits();
    const [learn, unseen] = [small(train), small(test)];
    const rng = new Generator(seed);
    const model = new Sequential(
      new Conv2d(1, 32, 3, { padding: 1, rng }),
      new ReLU(),
      new MaxPool2d(2), // [B, 32, 7, 7]
      new Conv2d(32, 64, 3, { rng }),
      new ReLU(),
      new MaxPool2d(2), // [B, 64, 2, 2]
      new Flatten(),
      new Linear(256, 32, { rng }),
    );
    const embed = (images: Tensor) => normalize(model.call(images)); // [B, 32], of length 1
    const optimizer = name === 'STEVE' ? new STEVE(model, { lr }) : new Adam(model.parameters(), { lr });
    const schedule = new Schedule(optimizer, cosineLr({ tMax: steps }));

    const places = placesOf(learn);
    for (let step = 1; step <= steps; step++) {
      const batch = places.flatMap(list => Array.from({ length: EACH }, () => list[rng.integer(0, list.length)]!));
      const digit = learn.labels.indexSelect(0, tensor(batch, { dtype: 'int32' }));
      optimizer.zeroGrad();
      const loss = scope(() => {
        const points = embed(pick(learn, batch));
        // For each image one of the same digit, and one of another that lies near to it.
        const isSame = digit.unsqueeze(1).eq(digit);
        const apart = noGrad(() => cdist(points, points));
        const near = where(isSame, 0, apart.mul(-SHARPNESS).exp());
        const [same, other] = [isSame.astype('float32'), near].map(weights =>
          multinomial(weights, 1, { rng }).squeeze(1),
        );
        const loss = tripletMarginLoss(points, points.indexSelect(0, same!), points.indexSelect(0, other!), {
          margin: MARGIN,
        });
        loss.backward();
        return loss.item();
      });
      optimizer.step();
      schedule.step();
      if (step % Math.ceil(steps / 8) === 0 || step === steps)
        say(`step ${String(step).padStart(String(steps).length)}   loss ${loss.toFixed(4)}`);
    }

    // The distance that tells same from other best among pairs of the training set is the one for pairs of the test set.
    const known = distances(learn, embed, rng);
    const threshold = bestThreshold(known);
    const accuracy = share(distances(unseen, embed, rng), threshold);
    say(
      `\nOne digit if the distance is below ${threshold.toFixed(3)} ${dim(`(right for ${percent(share(known, threshold))} of pairs to learn from)`)}`,
    );
    return { reached: `${percent(accuracy)} of ${PAIRS} pairs of unseen images`, ok: accuracy >= target };
  },
);

/** Images [n, 1, 14, 14]. */
function small({ images, labels }: Labelled): Labelled {
  return { images: averagePool2(images).unsqueeze(1).contiguous(), labels };
}

function pick({ images }: Labelled, indices: readonly number[]): Tensor {
  return images.indexSelect(0, tensor(indices, { dtype: 'int32' }));
}

/** Where the images of each digit are. */
function placesOf({ labels }: Labelled): number[][] {
  const places: number[][] = Array.from({ length: 10 }, () => []);
  for (const [i, digit] of labels.dataSync().entries()) places[digit]!.push(i);
  return places;
}

type Pair = { readonly distance: number; readonly isSame: boolean };

/** Pairs of images, half of them of one digit. */
function distances(set: Labelled, embed: (images: Tensor) => Tensor, rng: Generator): Pair[] {
  const places = placesOf(set);
  const any = (digit: number) => places[digit]![rng.integer(0, places[digit]!.length)]!;
  const digits = Array.from({ length: PAIRS / 2 }, () => rng.integer(0, 10));
  const embedded = (ofDigits: readonly number[]) => noGrad(() => embed(pick(set, ofDigits.map(any))));
  const [anchor, same] = [embedded(digits), embedded(digits)];
  const other = embedded(digits.map(digit => (digit + rng.integer(1, 10)) % 10));
  const to = (points: Tensor, isSame: boolean): Pair[] =>
    Array.from(pairwiseDistance(anchor, points).dataSync(), distance => ({ distance, isSame }));
  return [...to(same, true), ...to(other, false)];
}

/** Of the pairs, those that a threshold tells right. */
function share(pairs: readonly Pair[], threshold: number): number {
  return pairs.filter(({ distance, isSame }) => distance < threshold === isSame).length / pairs.length;
}

function bestThreshold(pairs: readonly Pair[]): number {
  const candidates = Array.from({ length: 200 }, (_, i) => i / 100);
  return candidates.reduce((best, one) => (share(pairs, one) > share(pairs, best) ? one : best));
}
