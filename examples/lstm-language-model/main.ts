/**
 * A language model of words: an LSTM reads a nursery rhyme in windows, hands its state from one to the next, and then recites by itself. PyTorch's
 * word_language_model, small. Ends on its perplexity, and on exit code 1 if that misses the target.
 *
 *   npm run example lstm-language-model            npm run example lstm-language-model -- --help
 */

import { Generator, multinomial, noGrad, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, type LSTMLanguageModel, type LSTMState, lstmLanguageModel, metrics } from '@otimes/nn';
import { Adam, clipGradNorm, STEVE } from '@otimes/optim';
import { bold, clock, command, dim, say } from '../shared/command.ts';
import { decode, encode, TEXT, VOCABULARY } from './text.ts';

/** Streams of the text that are read side by side, and words of a window, as far back as gradients go. */
const [BATCH, WINDOW] = [4, 16];
/** Longest gradient that is believed (Pascanu et al. 2013). */
const CLIP = 1;
/** Words that it says in the end. */
const SAID = 80;

await command(
  {
    name: 'lstm-language-model',
    about: 'An LSTM learns a nursery rhyme word by word, and recites it.',
    optimizers: { Adam: 0.01, STEVE: 0.01 },
    settings: {
      epochs: { value: 40, about: 'passes over the text', least: 1 },
      target: { value: 1.3, about: 'perplexity to reach', fraction: true },
    },
  },
  ({ optimizer: name, lr, seed, epochs, target }) => {
    const rng = new Generator(seed);
    const words = encode(TEXT);
    const windows = windowsOf(words);
    const model = lstmLanguageModel({
      vocabulary: VOCABULARY.length,
      dim: 64,
      hidden: 64,
      layers: 1,
      dropout: 0.2,
      rng,
    });
    const optimizer = name === 'Adam' ? new Adam(model.parameters(), { lr }) : new STEVE(model, { lr });
    say(`${bold('The House That Jack Built')}: ${words.length} words, ${VOCABULARY.length} different ones.`);
    say(`${name} with lr ${lr}, ${epochs} epochs of ${windows.length} windows of ${BATCH} × ${WINDOW} words.\n`);

    const passed = clock();
    let perplexity = Infinity;
    for (let epoch = 1; epoch <= epochs; epoch++) {
      let state: LSTMState | null = null;
      for (const { x, y } of windows) {
        optimizer.zeroGrad();
        const [logits, next]: [Tensor, LSTMState] = model.call(x, state);
        crossEntropy(logits.flatten(0, 1), y.flatten()).backward();
        clipGradNorm(model.parameters(), CLIP);
        optimizer.step();
        // The next window starts from the numbers of this state; its gradients end there.
        state = [next[0].detach(), next[1].detach()];
      }
      if (epoch !== 1 && epoch % Math.ceil(epochs / 8) !== 0 && epoch !== epochs) continue;
      perplexity = perplexityOf(model, windows);
      say(`epoch ${String(epoch).padStart(3)}   perplexity ${perplexity.toFixed(3).padStart(6)}   ${dim(passed())}`);
    }

    say(`\nIt recites:\n\n${recite(model, 'This is', rng).trimEnd()}`);
    return { reached: `a perplexity of ${perplexity.toFixed(3)}, target ${target}`, ok: perplexity <= target };
  },
);

type Window = { x: Tensor; y: Tensor };

/** The text cut into streams, and these into windows: words [BATCH, ≤ WINDOW], and the word after each. */
function windowsOf(words: readonly number[]): Window[] {
  const length = Math.floor((words.length - 1) / BATCH);
  const streams = (shift: number) =>
    tensor(words.slice(shift, shift + BATCH * length), { dtype: 'int32' }).reshape([BATCH, length]);
  const [x, y] = [streams(0), streams(1)];
  return Array.from({ length: Math.ceil(length / WINDOW) }, (_, i) => {
    const window = [i * WINDOW, Math.min(length, (i + 1) * WINDOW)] as const;
    return { x: x.slice(null, window), y: y.slice(null, window) };
  });
}

/** exp of the mean loss over the whole text, without dropout. */
function perplexityOf(model: LSTMLanguageModel, windows: readonly Window[]): number {
  const metric = new metrics.Perplexity();
  model.eval();
  noGrad(() => {
    let state: LSTMState | null = null;
    for (const { x, y } of windows) {
      const [logits, next]: [Tensor, LSTMState] = model.call(x, state);
      metric.update(logits.transpose(1, 2), y);
      state = next;
    }
  });
  model.train();
  return metric.value();
}

/** `prompt`, and the words that the model draws after it. */
function recite(model: LSTMLanguageModel, prompt: string, rng: Generator): string {
  const said = encode(prompt);
  model.eval();
  noGrad(() => {
    let [logits, state] = model.call(tensor([said], { dtype: 'int32' }));
    for (let i = 0; i < SAID; i++) {
      const word = multinomial(logits.slice(0, -1).softmax(0), 1, { rng });
      said.push(word.item());
      [logits, state] = model.call(word.unsqueeze(0), state);
    }
  });
  return decode(said);
}
