/**
 * Sequence to sequence: an LSTM reads a sum as characters, "12+7 ", another writes its value, "19 ". The example addition_rnn of Keras and
 * TensorFlow.js. Ends on the share of sums right that it has never seen, and on exit code 1 if that misses the target.
 *
 *   npm run example addition-rnn                   npm run example addition-rnn -- --help
 */

import { Generator, nextTask, noGrad, oneHot, type Tensor, tensor, tile } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { crossEntropy, Linear, LSTM, Module } from '@otimes/nn';
import { Adam, cosineLr, Schedule, STEVE } from '@otimes/optim';
import { bold, clock, command, dim, say } from '../shared/command.ts';
import { percent } from '../shared/run.ts';

const CHARACTERS = '0123456789+ ';
/** Digits of each number at most, and characters of what they come to. */
const [DIGITS, ANSWER] = [2, 3];
const HIDDEN = 128;
const BATCH = 128;

/** One-hot characters [B, T, 12] → logits [B, ANSWER, 12]: an LSTM reads, its last state is repeated for each character of the answer, an LSTM writes. */
class Adder extends Module {
  encoder: LSTM;
  decoder: LSTM;
  out: Linear;

  constructor(rng: Generator) {
    super();
    this.encoder = new LSTM(CHARACTERS.length, HIDDEN, { batchFirst: true, rng });
    this.decoder = new LSTM(HIDDEN, HIDDEN, { batchFirst: true, rng });
    this.out = new Linear(HIDDEN, CHARACTERS.length, { rng });
  }

  override forward(x: Tensor): Tensor {
    const [, [h]] = this.encoder.call(x);
    const [states] = this.decoder.call(tile(h.transpose(0, 1), [1, ANSWER, 1]));
    return this.out.call(states);
  }
}

await command(
  {
    name: 'addition-rnn',
    about: 'An LSTM reads sums of two numbers as characters, another writes what they come to.',
    optimizers: { Adam: 0.005, STEVE: 0.01 },
    settings: {
      train: { value: 6000, about: 'sums to learn from; all others are the test', least: 1 },
      epochs: { value: 32, about: 'passes over them', least: 1 },
      target: { value: 0.95, about: 'share of sums never seen that are to be right', fraction: true },
    },
  },
  async ({ optimizer: name, lr, seed, train, epochs, target }) => {
    const rng = new Generator(seed);
    const sums = allSums(rng);
    if (train >= sums.length) throw new RangeError(`--train: there are ${sums.length} sums, and some are for the test`);
    const { x, y } = encoded(sums.slice(0, train));
    const unseen = sums.slice(train);
    const test = encoded(unseen);
    const loader = new DataLoader(new TensorDataset(x, y), { batchSize: BATCH, shuffle: true, rng });
    const model = new Adder(rng);
    const optimizer = name === 'Adam' ? new Adam(model.parameters(), { lr }) : new STEVE(model, { lr });
    const schedule = new Schedule(optimizer, cosineLr({ tMax: epochs * loader.length, etaMin: lr / 50 }));
    say(`${bold(`${train} sums`)} to learn from, ${unseen.length} others to be tested on.`);
    say(`${name} with lr ${lr}, ${epochs} epochs of ${loader.length} batches of ${BATCH}.\n`);

    const passed = clock();
    let right = 0;
    for (let epoch = 1; epoch <= epochs; epoch++) {
      let total = 0;
      for (const [x, y] of loader) {
        optimizer.zeroGrad();
        const loss = crossEntropy(model.call(x).flatten(0, 1), y.flatten());
        loss.backward();
        optimizer.step();
        schedule.step();
        total += loss.item();
        await nextTask();
      }
      if (epoch !== 1 && epoch % Math.ceil(epochs / 10) !== 0 && epoch !== epochs) continue;
      right = noGrad(() => model.call(test.x).argmax(2).eq(test.y).all(1).astype('float32').mean().item());
      const loss = (total / loader.length).toFixed(4);
      say(
        `epoch ${String(epoch).padStart(3)}   loss ${loss}   unseen right ${percent(right).padStart(6)}   ${dim(passed())}`,
      );
    }

    say('\nSome that it has never seen:\n');
    for (const sum of unseen.slice(0, 6)) {
      const said = decode(noGrad(() => model.call(encoded([sum]).x).argmax(2)));
      say(`  ${sum.question} = ${said} ${said === sum.answer ? '✓' : `✗ ${sum.answer}`}`);
    }
    return { reached: `${percent(right)} of unseen sums right, target ${percent(target)}`, ok: right >= target };
  },
);

type Sum = { question: string; answer: string };

/** Every sum of two numbers, in random order, filled up with spaces to one length. */
function allSums(rng: Generator): Sum[] {
  const n = 10 ** DIGITS;
  return Array.from(rng.permutation(n * n), i => {
    const [a, b] = [Math.floor(i / n), i % n];
    return { question: `${a}+${b}`.padEnd(2 * DIGITS + 1), answer: `${a + b}`.padEnd(ANSWER) };
  });
}

/** Characters as their places in CHARACTERS, int32 [texts, length]. */
function codesOf(texts: readonly string[]): Tensor {
  return tensor(
    texts.map(text => Array.from(text, character => CHARACTERS.indexOf(character))),
    { dtype: 'int32' },
  );
}

/** One-hot questions [n, T, 12] and answers int32 [n, ANSWER]. */
function encoded(sums: readonly Sum[]): { x: Tensor; y: Tensor } {
  const x = oneHot(codesOf(sums.map(sum => sum.question)), CHARACTERS.length);
  return { x, y: codesOf(sums.map(sum => sum.answer)) };
}

function decode(answer: Tensor): string {
  return Array.from(answer.dataSync(), code => CHARACTERS[code]).join('');
}
