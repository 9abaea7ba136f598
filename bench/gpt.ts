/**
 * What a language model costs on one thread, in CPU time:
 *
 *   npm run bench bench/gpt.ts
 *
 * a training step of `gpt` beside the same network of TransformerBlocks, with a mask that is made once; and a new token with a cache beside
 * one without.
 */

import { Generator, noGrad, randint, scope, setThreads } from '@otimes/core';
import { type AnyModule, crossEntropy, gpt, KVCache } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { CHARS } from './peers/data.mjs';
import { CharTransformer } from './peers/models.ts';
import { interleave } from './timing.ts';

await setThreads(1);
const { vocabulary, length, d, heads, depth, batch } = CHARS;
const rng = new Generator(0);
const tokens = randint(0, vocabulary, [batch, length], { rng });
const targets = randint(0, vocabulary, [batch * length], { rng });
const shape = { vocabSize: vocabulary, blockSize: length, nLayer: depth, nHead: heads, nEmbd: d, rng };

/** A step with Adam. */
function step(model: AnyModule): () => void {
  const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
  return () =>
    scope(() => {
      optimizer.zeroGrad();
      const logits = model.call(tokens) as ReturnType<typeof randint>;
      crossEntropy(logits.flatten(0, 1), targets).backward();
      optimizer.step();
    });
}

const ms = (seconds: number) => `${(1e3 * seconds).toFixed(2)} ms`;
const [blocks, own, tied] = interleave(
  [step(new CharTransformer(CHARS, rng)), step(gpt({ ...shape, tieWeights: false })), step(gpt(shape))],
  { rounds: 9, sample: 0.3 },
) as [number, number, number];
console.log(`a training step, d ${d}, ${heads} heads, ${depth} blocks, ${length} positions, batch ${batch}:`);
console.log(`  TransformerBlocks ${ms(blocks)}, gpt ${ms(own)} (${(blocks / own).toFixed(2)}×), tied ${ms(tied)}`);

const model = gpt(shape).eval();
const most = length - 1;
const context = tokens.narrow(0, 0, 1).contiguous();
const caches = Array.from({ length: depth }, () => new KVCache());
noGrad(() => model.call(context.narrow(1, 0, most).contiguous(), { caches }));
const copies = () =>
  caches.map(({ keys, values }) => {
    const one = new KVCache();
    one.append(keys!, values!);
    return one;
  });
const last = context.narrow(1, most, 1).contiguous();
const [whole, cached] = interleave(
  [
    () => scope(() => noGrad(() => model.call(context))),
    () => scope(() => noGrad(() => model.call(last, { caches: copies() }))),
  ],
  { rounds: 9, sample: 0.1 },
) as [number, number];
console.log(
  `a token at position ${most}: whole pass ${ms(whole)}, with a cache ${ms(cached)} (${(whole / cached).toFixed(1)}×)`,
);
