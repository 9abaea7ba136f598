// The language model: its shape, its first weights, what it knows at a position, and how it continues a text. nanoGPT's numbers are in
// test/attention-torch.test.ts.

import assert from 'node:assert/strict';
import { concat, Generator, noGrad, randint, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, type GPT, type GptOptions, gpt, KVCache, TransformerBlock } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { within } from './helpers/golden.ts';
import { law, overSeeds } from './helpers/law.ts';

const near = within(1e-12);
const size = { vocabSize: 11, blockSize: 6, nLayer: 2, nHead: 2, nEmbd: 8 };
const small = (o: Partial<GptOptions> = {}, seed = 1) =>
  gpt({ ...size, rng: new Generator(seed), dtype: 'float64', ...o });
/** Large enough weights for the texts to differ. */
function sharp(o: Partial<GptOptions> = {}, seed = 1): GPT {
  const model = small(o, seed);
  noGrad(() => {
    for (const p of model.parameters()) if (p.rank === 2) p.scale_(20);
  });
  return model;
}
const text = (batch: number, length: number, seed = 3, device = 'cpu') =>
  randint(0, 11, [batch, length], { rng: new Generator(seed), device });

law(
  t,
  'parameters: embeddings of tokens and positions, 12 d² + 13 d of each block, the last norm; a head unless it is tied',
  () => {
    const count = (model: GPT) => model.parameters().reduce((sum, p) => sum + p.size, 0);
    const [v, b, l, d] = [11, 6, 2, 8];
    const block = 12 * d * d + 13 * d;
    assert.equal(count(small()), v * d + b * d + l * block + 2 * d);
    assert.equal(count(small({ tieWeights: false })), 2 * v * d + b * d + l * block + 2 * d);
    assert.equal(count(small({ bias: false })), v * d + b * d + l * (12 * d * d + 2 * d) + d);
  },
);

law(t, 'first weights: normal with 0.02, the ends of branches with 0.02 / √(2 nLayer), biases 0, a tied head', () => {
  const model = gpt({ vocabSize: 300, blockSize: 100, nLayer: 8, nHead: 4, nEmbd: 64, rng: new Generator(2) });
  assert.equal(model.head.weight, model.tokens.weight);
  for (const [name, p] of model.namedParameters()) {
    const std = p.square().mean().sqrt().item();
    if (p.rank === 1) assert.equal(std, /norm\d?\.weight$/.test(name) ? 1 : 0, name);
    else {
      const expected = /attention\.o|linear2/.test(name) ? 0.02 / 4 : 0.02;
      assert.ok(Math.abs(std / expected - 1) < 0.06, `${name}: ${std}, expected ${expected}`);
    }
  }
  assert.notEqual(small({ tieWeights: false }).head.weight, small().tokens.weight);
});

law(t, 'a block is a TransformerBlock from its state', () => {
  const [block] = sharp().blocks;
  const twin = new TransformerBlock(8, 2, { dtype: 'float64' });
  twin.loadStateDict(block!.stateDict());
  const x = sharp().tokens.call(text(2, 5));
  mustBeClose(block!.call(x, { causal: true }), twin.call(x, { causal: true }), near);
});

law(t, 'logits of a position know of the tokens up to it alone', () => {
  const model = sharp();
  const [a, b] = [text(2, 3), text(2, 3, 4)];
  const early = (tail: Tensor) =>
    model
      .call(concat([a, tail], 1))
      .narrow(1, 0, 3)
      .contiguous();
  mustBeClose(early(a), early(b), { rtol: 0, atol: 0 });
});

for (const device of DEVICES)
  law(t, `with caches the logits are those without, whatever is given at once, on ${device}`, async () => {
    const model = sharp({ device });
    const tokens = text(2, 6, 3, device);
    const whole = await model.call(tokens).data();
    for (const steps of [[1, 1, 1, 1, 1, 1], [4, 2], [6]]) {
      const caches = [new KVCache(), new KVCache()];
      const parts = steps.map(n => model.call(tokens.narrow(1, caches[0]!.length, n).contiguous(), { caches }));
      mustBeClose(Float64Array.from(await concat(parts, 1).data()), Float64Array.from(whole), near);
    }
  });

/** `n` more tokens by whole passes over the last blockSize tokens. */
function likeliest(model: GPT, tokens: number[], n: number): number[] {
  const all = [...tokens];
  for (let i = 0; i < n; i++) {
    const seen = all.slice(-size.blockSize);
    const logits = model.call(tensor([seen], { dtype: 'int32' })).slice(0, seen.length - 1);
    all.push(logits.argmax().item());
  }
  return all;
}

for (const device of DEVICES)
  law(
    t,
    `generate with temperature 0 or topK 1 = the likeliest tokens by whole passes, beyond blockSize too, on ${device}`,
    async () => {
      const model = sharp({ device });
      const prompt = text(2, 3, 5, device);
      const expected = ((await prompt.data()).length === 6 ? text(2, 3, 5).toArray() : []) as number[][];
      const onHost = sharp();
      const wanted = expected.map(row => likeliest(onHost, row, 7));
      assert.equal(new Set(wanted.flat()).size > 2, true, 'a text of several tokens');
      for (const o of [{ temperature: 0 }, { topK: 1, temperature: 0.7 }]) {
        const longer = await model.generate(prompt, 7, o);
        assert.equal(longer.device, device);
        assert.deepEqual([longer.dtype, ...longer.shape], ['int32', 2, 10]);
        assert.deepEqual(Array.from(await longer.data()), wanted.flat());
      }
    },
  );

law(
  t,
  'generate draws as softmax(logits / temperature) says, among the topK largest, and repeats with its seed',
  async () => {
    const model = sharp();
    const prompt = tensor([[2, 7]], { dtype: 'int32' });
    const many = prompt.expand(4000, 2).contiguous();
    const logits = model.call(prompt).slice(0, 1);
    for (const [temperature, topK] of [
      [1, 11],
      [2, 3],
    ] as const) {
      const least = [...(logits.toArray() as number[])].sort((a, b) => b - a)[topK - 1]!;
      const expected = (logits.toArray() as number[]).map(z => (z < least ? 0 : Math.exp(z / temperature)));
      const sum = expected.reduce((a, b) => a + b, 0);
      const drawn = await model.generate(many, 1, { temperature, topK, rng: new Generator(8) });
      const last = drawn.slice(null, 2).toArray() as number[];
      expected.forEach((weight, token) => {
        const [p, found] = [weight / sum, last.filter(one => one === token).length / 4000];
        // Five standard deviations of a frequency.
        assert.ok(
          Math.abs(found - p) <= 5 * Math.sqrt((p * (1 - p)) / 4000),
          `token ${token}: ${found}, expected ${p}`,
        );
      });
      const again = await model.generate(many, 1, { temperature, topK, rng: new Generator(8) });
      assert.deepEqual(again.toArray(), drawn.toArray());
    }
  },
);

law(t, 'a small text is learned by heart, and the model says it', async () => {
  const model = gpt({ ...size, nEmbd: 16, rng: new Generator(1) });
  const said = [1, 4, 2, 8, 5, 7, 1];
  const [x, y] = [said.slice(0, -1), said.slice(1)].map(row => tensor([row], { dtype: 'int32' }));
  const optimizer = new Adam(model.parameters(), { lr: 0.01 });
  for (let i = 0; i < 60; i++) {
    optimizer.zeroGrad();
    crossEntropy(model.call(x!).flatten(0, 1), y!.flatten()).backward();
    optimizer.step();
  }
  assert.deepEqual((await model.generate(tensor([[1]], { dtype: 'int32' }), 5, { temperature: 0 })).toArray(), [
    said.slice(0, 6),
  ]);
});

law(t, 'a tied weight has the gradients of both its uses, and stays tied in state dicts and copies', () => {
  overSeeds(5, seed => {
    const tied = small({}, seed);
    const loose = small({ tieWeights: false }, seed);
    loose.loadStateDict(tied.stateDict());
    const tokens = text(2, 4, seed);
    for (const model of [tied, loose]) model.call(tokens).square().sum().backward();
    mustBeClose(tied.tokens.weight.grad!, loose.tokens.weight.grad!.add(loose.head.weight.grad!), near);
    const copy = small({}, seed + 1);
    copy.loadStateDict(tied.stateDict());
    assert.equal(copy.head.weight, copy.tokens.weight);
    mustBeClose(copy.call(tokens), tied.call(tokens), { rtol: 0, atol: 0 });
  });
});

const one = tensor([[1]], { dtype: 'int32' });
const anyOf = (o: object) => Reflect.apply(gpt, null, [o]);
const refused: Record<string, [() => unknown, RegExp]> = {
  'no vocabulary': [() => anyOf({ blockSize: 3 }), /gpt: expected vocabSize to be an integer ≥ 1, got undefined/],
  'a misspelt option': [() => anyOf({ ...size, numLayers: 3 }), /gpt: there is no option 'numLayers'/],
  'heads that do not divide': [() => anyOf({ ...size, nHead: 3 }), /gpt: expected nHead to divide nEmbd, got 3 for 8/],
  'more positions than a block': [
    () => small().call(text(1, 7)),
    /expected tokens \[B, T\] of at most 6 positions, got int32\[1,7\]/,
  ],
  'more positions with those in the caches': [
    () => {
      const [model, caches] = [small(), [new KVCache(), new KVCache()]];
      model.call(text(1, 5), { caches });
      model.call(text(1, 2), { caches });
    },
    /at most 6 positions with 5 in the cache, got int32\[1,2\]/,
  ],
  'too few caches': [
    () => small().call(one, { caches: [new KVCache()] }),
    /expected a cache for each of 2 blocks, got 1/,
  ],
  'a token that there is not': [() => small().call(tensor([[11]], { dtype: 'int32' })), /embedding: .*11/],
};
for (const [name, [run, message]] of Object.entries(refused))
  law(t, `refused: ${name}`, () => {
    assert.throws(run, message);
  });

law(t, 'refused: nothing to continue, and logits that are not finite', async () => {
  await assert.rejects(
    small().generate(tensor([1, 2], { dtype: 'int32' }), 2),
    /expected tokens int32 \[B, T\] .*got int32\[2\]/,
  );
  await assert.rejects(
    small().generate(one, 2, { temperature: -1 }),
    /expected temperature to be a number ≥ 0, got -1/,
  );
  const broken = small();
  noGrad(() => broken.norm.weight.scale_(Number.NaN));
  await assert.rejects(broken.generate(one, 1), /generate: expected finite logits, got NaN for token 0/);
});
