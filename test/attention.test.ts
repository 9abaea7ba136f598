// Attention: across sequences, masks, the cache, rotary positions; and the layers of transformers. PyTorch's numbers are in
// test/attention-torch.test.ts.

import assert from 'node:assert/strict';
import { concat, Generator, noGrad, ones, randn, scope, type Tensor, tensor } from '@otimes/core';
import {
  type AttendOptions,
  type AttentionOptions,
  fromPyTorch,
  functional,
  KVCache,
  MultiHeadAttention,
  PositionalEncoding,
  Sequential,
  TransformerBlock,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  toPyTorch,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const { rotaryEmbedding } = functional;
const [B, T, S, D, H] = [2, 3, 5, 8, 2];
const seeded = (seed = 1, device = 'cpu') => ({ dtype: 'float64', device, rng: new Generator(seed) }) as const;
const near = within(1e-12);
const exact = { rtol: 0, atol: 0 };
const layer = (o: AttentionOptions = {}, device?: string) =>
  new MultiHeadAttention(D, H, { ...seeded(1, device), ...o });
const bools = (shape: number[], is: (...index: number[]) => boolean, device = 'cpu') => {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Uint8Array.from({ length: size }, (_, at) => {
    const index = shape.map((length, axis) => {
      const stride = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
      return Math.floor(at / stride) % length;
    });
    return Number(is(...index));
  });
  return tensor(values, { shape, dtype: 'bool', device });
};

// --- calls ---

law(t, 'a sequence to itself is the call with three inputs, and a mask is the option attnMask', () => {
  const [attention, x] = [layer(), randn([B, T, D], seeded(2))];
  const mask = bools([B, T, T], (b, i, j) => i === j || (i + j + b) % 2 === 0);
  mustBeClose(attention.call(x, x, x), attention.call(x), exact);
  mustBeClose(attention.call(x, mask), attention.call(x, { attnMask: mask }), exact);
  mustBeClose(attention.call(x, x, x, { attnMask: mask }), attention.call(x, mask), exact);
});

/** Each entry says the same in two ways; T queries attend to S keys. */
const masks: Record<string, [AttendOptions, AttendOptions]> = {
  'causal, as a mask': [{ causal: true }, { attnMask: bools([T, S], (i, j) => j <= i) }],
  'padding, as a mask of each example': [
    { keyPaddingMask: bools([B, S], (b, j) => j < S - b) },
    { attnMask: bools([B, T, S], (b, _, j) => j < S - b) },
  ],
  'a mask, as one of each head': [
    { attnMask: bools([T, S], (i, j) => (i + j) % 2 === 0) },
    { attnMask: bools([B, H, T, S], (_, __, i, j) => (i + j) % 2 === 0) },
  ],
  'a mask of each head and padding, as one mask of each head': [
    {
      attnMask: bools([B, H, T, S], (_, h, i, j) => (h + i + j) % 2 === 0 || j === 0),
      keyPaddingMask: bools([B, S], (b, j) => j < S - b),
    },
    { attnMask: bools([B, H, T, S], (b, h, i, j) => ((h + i + j) % 2 === 0 || j === 0) && j < S - b) },
  ],
  'all three at once': [
    {
      causal: true,
      keyPaddingMask: bools([B, S], (_, j) => j !== 1),
      attnMask: bools([B, T, S], (b, i, j) => j === 0 || (b + i + j) % 2 === 0),
    },
    { attnMask: bools([B, T, S], (b, i, j) => j <= i && j !== 1 && (j === 0 || (b + i + j) % 2 === 0)) },
  ],
  'bool, as −∞ that is added': [
    { attnMask: bools([T, S], (i, j) => j <= i) },
    {
      attnMask: tensor(
        Array.from({ length: T }, (_, i) => Array.from({ length: S }, (_, j) => (j <= i ? 0 : -Infinity))),
        { dtype: 'float64' },
      ),
    },
  ],
};
for (const [name, [one, other]] of Object.entries(masks))
  law(t, `masks: ${name}`, () => {
    const [attention, q, kv] = [layer(), randn([B, T, D], seeded(2)), randn([B, S, D], seeded(3))];
    mustBeClose(attention.call(q, kv, kv, one), attention.call(q, kv, kv, other), near);
    assert.notDeepEqual(attention.call(q, kv, kv, one).toArray(), attention.call(q, kv, kv).toArray());
  });

law(t, 'true is where a query may attend: what padding hides has no effect, and no gradient', () => {
  const attention = layer();
  const [q, kv] = [randn([B, T, D], seeded(2)), randn([B, S, D], seeded(3))];
  kv.requiresGrad = true;
  const shown = bools([B, S], (_, j) => j < 2);
  const y = attention.call(q, kv, kv, { keyPaddingMask: shown });
  const short = kv.narrow(1, 0, 2);
  mustBeClose(y, attention.call(q, short, short), near);
  y.square().sum().backward();
  assert.equal(
    kv
      .grad!.narrow(1, 2, S - 2)
      .abs()
      .max()
      .item(),
    0,
  );
  assert.ok(kv.grad!.narrow(1, 0, 2).abs().min().item() > 0);
});

law(t, 'a query that may attend to nothing gets NaN, also where weights are wanted', () => {
  const [attention, x] = [layer(), randn([B, T, D], seeded(2))];
  const o = { keyPaddingMask: bools([B, T], b => b === 0) };
  for (const y of [attention.call(x, o), attention.call(x, { ...o, needWeights: true })[0]])
    assert.deepEqual(y.isNaN().all([1, 2]).toArray(), [false, true]);
});

law(
  t,
  'attention weights: rows sum to 1, are 0 where nothing may be attended to, and the output is that of the kernel',
  () => {
    const [attention, q, kv] = [layer(), randn([B, T, D], seeded(2)), randn([B, S, D], seeded(3))];
    const o = { causal: true } as const;
    const plain = attention.call(q, kv, kv, o);
    const [y, mean] = attention.call(q, kv, kv, { ...o, needWeights: true });
    const [, each] = attention.call(q, kv, kv, { ...o, needWeights: true, averageAttnWeights: false });
    mustBeClose(y, plain, near);
    assert.deepEqual(each.shape, [B, H, T, S]);
    mustBeClose(each.mean(1), mean, near);
    mustBeClose(each.sum(-1), ones([B, H, T], { dtype: 'float64' }), near);
    assert.equal(each.slice(null, null, 0, [1, S]).abs().max().item(), 0);
    y.sum().backward();
    assert.deepEqual(mean.shape, [B, T, S]);
    assert.ok(mean.isFinite().all().item(), 'they outlive backward');
  },
);

// --- cache ---

for (const device of DEVICES)
  for (const rotary of [false, true, { interleaved: false, base: 100 }])
    law(
      t,
      `decoding step by step = the whole at once, ${rotary ? `rotary ${JSON.stringify(rotary)}` : 'no positions'}, on ${device}`,
      async () => {
        const attention = layer({ rotary }, device);
        const x = randn([B, S, D], seeded(2, device));
        const shown = bools([B, S], (b, j) => b === 0 || j !== 1, device);
        const whole = await attention.call(x, { causal: true, keyPaddingMask: shown }).data();
        for (const sizes of [
          [1, 1, 1, 1, 1],
          [2, 3],
          [1, 3, 1],
        ]) {
          const cache = new KVCache();
          const parts = noGrad(() =>
            sizes.map(size => {
              const from = cache.length;
              const keyPaddingMask = shown.narrow(1, 0, from + size).contiguous();
              return scope(() => attention.call(x.narrow(1, from, size), { causal: true, cache, keyPaddingMask }));
            }),
          );
          assert.equal(cache.length, S);
          const found = await concat(parts, 1).data();
          mustBeClose(Float64Array.from(found), Float64Array.from(whole), near);
        }
      },
    );

law(t, 'a cache has the gradients of the whole', () => {
  const attention = layer({ rotary: true });
  const x = randn([B, S, D], seeded(2));
  const gradients = (y: Tensor) => {
    attention.parameters().forEach(p => {
      p.grad = null;
    });
    y.square().sum().backward();
    return attention.parameters().map(p => p.grad!.clone());
  };
  const whole = gradients(attention.call(x, { causal: true }));
  const cache = new KVCache();
  const parts = [0, 1, 2, 3, 4].map(i => attention.call(x.narrow(1, i, 1), { causal: true, cache }));
  gradients(concat(parts, 1)).forEach((g, i) => {
    mustBeClose(g, whole[i]!, near);
  });
  cache.clear();
  assert.equal(cache.length, 0);
  mustBeClose(attention.call(x, { causal: true, cache }), attention.call(x, { causal: true }), exact);
});

// --- rotary positions ---

law(t, 'rotary positions = plain loops, and halves are the pairs in another order', () => {
  const x = randn([2, 3, 4, 6], seeded(2));
  const turned = rotaryEmbedding(x, { offset: 5, base: 50 });
  const values = x.dataSync();
  const expected = Float64Array.from(values, (_, at) => {
    const [feature, position] = [at % 6, 5 + (Math.floor(at / 6) % 4)];
    const pair = Math.floor(feature / 2);
    const angle = position * 50 ** ((-2 * pair) / 6);
    const [a, b] = [values[at - (feature % 2)]!, values[at - (feature % 2) + 1]!];
    return feature % 2 === 0 ? a * Math.cos(angle) - b * Math.sin(angle) : a * Math.sin(angle) + b * Math.cos(angle);
  });
  mustBeClose(turned, tensor(expected, { shape: x.shape }), near);
  const toHalves = tensor([0, 2, 4, 1, 3, 5], { dtype: 'int32' });
  mustBeClose(
    rotaryEmbedding(x.indexSelect(3, toHalves), { offset: 5, base: 50, interleaved: false }),
    turned.indexSelect(3, toHalves),
    near,
  );
  mustBeClose(rotaryEmbedding(x.narrow(2, 2, 2), { offset: 2 }), rotaryEmbedding(x).narrow(2, 2, 2), near);
});

law(t, 'rotary positions keep lengths, and products of queries and keys depend on distances alone', () => {
  const [q, k] = [randn([1, 4, 8], seeded(2)), randn([1, 4, 8], seeded(3))];
  const products = (offset: number) =>
    rotaryEmbedding(q, { offset }).matmul(rotaryEmbedding(k, { offset }).transpose());
  mustBeClose(products(100), products(0), within(1e-11));
  mustBeClose(rotaryEmbedding(q, { offset: 9 }).norm(-1), q.norm(-1), near);
  assert.ok(products(0).sub(q.matmul(k.transpose())).abs().max().item() > 0.01);
});

// --- layers of transformers ---

law(t, 'a transformer block and an encoder layer with its options are the same, from the same state', () => {
  const block = new TransformerBlock(D, H, { ...seeded(), mlpRatio: 2 });
  const o = { dimFeedforward: 2 * D, dropout: 0, activation: 'gelu', normFirst: true, batchFirst: true } as const;
  const encoder = new TransformerEncoderLayer(D, H, { ...seeded(5), ...o });
  encoder.loadStateDict(block.stateDict());
  const x = randn([B, T, D], seeded(2));
  mustBeClose(encoder.call(x, { causal: true }), block.call(x, { causal: true }), exact);
});

law(t, 'without batchFirst the batch is the second axis, and masks of keys are [B, S] all the same', () => {
  const o = { dimFeedforward: 4, dropout: 0 };
  const swapped = (x: Tensor) => x.transpose(0, 1);
  const [x, memory] = [randn([B, T, D], seeded(2)), randn([B, S, D], seeded(3))];
  const shown = bools([B, S], (b, j) => j < S - b);
  const [first, second] = [true, false].map(
    batchFirst => new TransformerDecoderLayer(D, H, { ...seeded(), ...o, batchFirst }),
  );
  const options = { tgtCausal: true, memoryKeyPaddingMask: shown };
  mustBeClose(swapped(second!.call(swapped(x), swapped(memory), options)), first!.call(x, memory, options), exact);
});

law(t, 'causal decoders: a position of the target knows nothing of later ones, and all of them know the memory', () => {
  const decoder = new TransformerDecoderLayer(D, H, { ...seeded(), dimFeedforward: 4, dropout: 0, batchFirst: true });
  const [x, memory] = [randn([B, T, D], seeded(2)), randn([B, S, D], seeded(3))];
  const changed = concat([x.narrow(1, 0, 1), randn([B, T - 1, D], seeded(4))], 1);
  const call = (tgt: Tensor, seen = memory) =>
    decoder.call(tgt, seen, { tgtCausal: true }).narrow(1, 0, 1).contiguous();
  mustBeClose(call(changed), call(x), exact);
  assert.notDeepEqual(call(x, randn([B, S, D], seeded(6))).toArray(), call(x).toArray());
});

law(t, 'without biases there are none in the state, and the layer is that with biases 0', () => {
  const o = { dimFeedforward: 4, dropout: 0, bias: false };
  const bare = new TransformerEncoderLayer(D, H, { ...seeded(), ...o });
  assert.ok(Object.keys(bare.stateDict()).every(name => !name.endsWith('bias')));
  const full = new TransformerEncoderLayer(D, H, { ...seeded(), ...o, bias: true });
  const state = full.stateDict();
  for (const [name, value] of Object.entries(state)) state[name] = bare.stateDict()[name] ?? value.mul(0);
  full.loadStateDict(state);
  const x = randn([T, B, D], seeded(2));
  mustBeClose(bare.call(x), full.call(x), exact);
});

law(t, 'positions as sinusoids = plain loops, for odd sizes too, and dropout acts in training alone', () => {
  for (const [dModel, batchFirst] of [
    [4, true],
    [5, false],
  ] as const) {
    const positions = new PositionalEncoding(dModel, { dropout: 0.5, batchFirst, rng: new Generator(1) }).eval();
    const shape = batchFirst ? [2, 6, dModel] : [6, 2, dModel];
    const x = randn(shape, seeded(2));
    const added = positions.call(x).sub(x).toArray() as number[][][];
    for (let s = 0; s < 6; s++)
      for (let i = 0; i < dModel; i++) {
        const angle = s / 10000 ** ((2 * Math.floor(i / 2)) / dModel);
        const found = batchFirst ? added[1]![s]![i]! : added[s]![1]![i]!;
        assert.ok(Math.abs(found - (i % 2 === 0 ? Math.sin(angle) : Math.cos(angle))) < 1e-12);
      }
    assert.notDeepEqual(positions.train().call(x).toArray(), positions.eval().call(x).toArray());
  }
});

// --- states ---

law(t, 'toPyTorch and fromPyTorch are inverse to each other, and leave other layers alone', () => {
  const models = {
    bare: layer(),
    'other sizes': layer({ kdim: 3, vdim: 4 }),
    'no biases': layer({ bias: false }),
    nested: new Sequential(
      new TransformerEncoder(() => new TransformerEncoderLayer(D, H, { dimFeedforward: 4 }), 2),
      layer(),
    ),
    decoder: new TransformerDecoderLayer(D, H, { dimFeedforward: 4 }),
    block: new TransformerBlock(D, H),
  };
  for (const [name, model] of Object.entries(models)) {
    const ours = model.stateDict();
    const theirs = toPyTorch(ours);
    const again = fromPyTorch(theirs);
    assert.deepEqual(Object.keys(again).sort(), Object.keys(ours).sort(), name);
    for (const [key, value] of Object.entries(ours)) mustBeClose(again[key]!, value, exact, key);
    assert.deepEqual(Object.keys(toPyTorch(again)).sort(), Object.keys(theirs).sort());
  }
  assert.ok('0.layers.1.self_attn.in_proj_weight' in toPyTorch(models.nested.stateDict()));
  assert.ok('1.in_proj_weight' in toPyTorch(models.nested.stateDict()));
  assert.ok('q_proj_weight' in toPyTorch(models['other sizes'].stateDict()));
  const q = { 'q.weight': ones([2, 2]), 'head.q.weight': ones([2, 2]) };
  assert.deepEqual(Object.keys(toPyTorch(q)), Object.keys(q));
});

law(
  t,
  'attention starts as that of PyTorch does: q, k and v within √(6 / 4d) as parts of one matrix, biases at 0',
  () => {
    const attention = new MultiHeadAttention(64, 4, { rng: new Generator(3), kdim: 64 });
    const bound = Math.sqrt(6 / (4 * 64));
    for (const name of ['q', 'k', 'v'] as const) {
      const largest = attention[name].weight.abs().max().item();
      assert.ok(largest <= bound && largest > 0.98 * bound, name);
      assert.equal(attention[name].bias!.abs().max().item(), 0);
    }
    const own = new MultiHeadAttention(64, 4, { rng: new Generator(3), kdim: 32 });
    const largest = own.k.weight.abs().max().item();
    assert.ok(largest <= Math.sqrt(6 / 96) && largest > 0.98 * Math.sqrt(6 / 96));
  },
);

// --- what is refused ---

const [q, kv] = [ones([B, T, D]), ones([B, S, D])];
const plain = () => new MultiHeadAttention(D, H);
const anyCall = (...given: unknown[]) => Reflect.apply(plain().call, plain(), given);
const refused: Record<string, [() => unknown, RegExp]> = {
  'keys without values': [() => anyCall(q, kv), /expected a mask \[3, 3\] or \[2, 3, 3\], got float32\[2,5,8\]/],
  'values without keys': [
    () => anyCall(q, undefined, kv),
    /expected key and value to be tensors, got undefined and float32/,
  ],
  'options in the third place': [
    () => anyCall(q, kv, { causal: true }),
    /a call is \(x, options\) or \(query, key, value, options\)/,
  ],
  'a name of PyTorch': [
    () => anyCall(q, { key_padding_mask: kv }),
    /no option 'key_padding_mask'.*did you mean 'keyPaddingMask'\?/,
  ],
  'another number of values': [
    () => anyCall(q, kv, q),
    /as many keys as values, got float32\[2,3,8\], float32\[2,5,8\], float32\[2,3,8\]/,
  ],
  'keys of another size': [() => anyCall(q, ones([B, S, 7]), kv), /expected a key \[B, S, 8\], got float32\[2,5,7\]/],
  'padding of another length': [
    () => anyCall(q, kv, kv, { keyPaddingMask: ones([B, T], { dtype: 'bool' }) }),
    /expected a keyPaddingMask \[2, 5\], got bool\[2,3\]; true is where a query may attend, the opposite of PyTorch/,
  ],
  'padding of numbers': [
    () => anyCall(q, kv, kv, { keyPaddingMask: ones([B, S]) }),
    /expected a bool keyPaddingMask, got float32/,
  ],
  'a mask of integers': [
    () => anyCall(q, kv, kv, { attnMask: ones([T, S], { dtype: 'int32' }) }),
    /expected a bool mask or a floating one, got int32\[3,5\]; true is where.*mask\.logicalNot\(\)/,
  ],
  'a cache that is none': [
    () => anyCall(q, { cache: {} }),
    /expected cache to be a KVCache, got \{\}; new KVCache\(\) makes one/,
  ],
  'a cache of another batch': [
    () => {
      const [attention, cache] = [plain(), new KVCache()];
      attention.call(q, { cache });
      attention.call(ones([1, 1, D]), { cache });
    },
    /KVCache: expected keys \[2, S, 8\] after those of 3 positions, got float32\[1,1,8\]/,
  ],
  'rotary positions of odd heads': [
    () => new MultiHeadAttention(6, 2, { rotary: true }),
    /expected an even number of features a head.*got 3/,
  ],
  'a stack of one layer': [
    () => Reflect.construct(TransformerEncoder, [new TransformerEncoderLayer(D, H), 2]),
    /expected makeLayer to be a function that makes a layer, such as \(\) => new/,
  ],
  'a matrix to a layer': [
    () => new TransformerEncoderLayer(D, H).call(ones([T, D])),
    /expected an input \[B, T, 8\], got float32\[3,8\]/,
  ],
};
for (const [name, [run, message]] of Object.entries(refused))
  law(t, `refused: ${name}`, () => {
    assert.throws(run, message);
  });

law(
  t,
  'a position of the cache is that of the first query for every mask: one query after others sees them all',
  () => {
    const [attention, cache] = [layer(), new KVCache()];
    const x = randn([B, S, D], seeded(2));
    attention.call(x.narrow(1, 0, S - 1), { cache });
    const last = attention.call(x.narrow(1, S - 1, 1), { cache, causal: true });
    mustBeClose(last, attention.call(x.narrow(1, S - 1, 1), x, x), near);
  },
);
