// Attention and transformer layers = PyTorch: outputs, attention weights, gradients, and states there and back.

import assert from 'node:assert/strict';
import { concat, type Nested, type Shape, type StateDict, type Tensor, tensor } from '@otimes/core';
import {
  type AnyModule,
  crossEntropy,
  fromGpt2,
  fromPyTorch,
  gpt,
  LayerNorm,
  MultiHeadAttention,
  Transformer,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  toPyTorch,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

type Case = {
  kind: string;
  args: number[];
  options: Record<string, number | boolean | string>;
  inputs: number[][];
  call: Record<string, boolean>;
  masks: Record<string, Nested>;
  keys: Record<string, number[]>;
  y: Stored;
  products: number[];
  weights?: Stored;
};
type Gpt = { keys: Record<string, number[]>; tokens: number[][]; y: Stored; products: Record<string, number> };
const torch = golden<{ layers: Record<string, Case>; gpt: Gpt }>('torch-attention');
const float64 = { dtype: 'float64' } as const;

/** Element j is sin(0.7 j + i): the numbers that torch-attention.py fills tensors with. */
function wave(i: number, shape: Shape): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float64Array.from({ length: size }, (_, j) => Math.sin(0.7 * j + i)),
    { shape },
  );
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const renamed = <V>(o: Record<string, V>) => Object.fromEntries(Object.entries(o).map(([k, v]) => [camel(k), v]));

/** Ours, by PyTorch's names of options. Attention has the batch first always. */
function made({ kind, args, options }: Case): AnyModule {
  const [dModel, heads] = args as [number, number];
  if (kind === 'MultiheadAttention') {
    const { batchFirst, ...rest } = renamed(options);
    assert.equal(batchFirst, true);
    return new MultiHeadAttention(dModel, heads, { ...rest, ...float64 });
  }
  if (kind === 'Transformer') {
    const [, , numEncoderLayers, numDecoderLayers, dimFeedforward, dropout] = args as number[];
    const layers = { numEncoderLayers: numEncoderLayers!, numDecoderLayers: numDecoderLayers! };
    return new Transformer({
      dModel,
      nhead: heads,
      ...layers,
      dimFeedforward: dimFeedforward!,
      dropout: dropout!,
      ...float64,
    });
  }
  const { stack, norm, ...rest } = renamed(options);
  const o = { ...rest, dimFeedforward: args[2]!, dropout: args[3]!, ...float64 };
  const last = norm ? new LayerNorm(dModel, float64) : null;
  if (kind === 'TransformerEncoderLayer') {
    const make = () => new TransformerEncoderLayer(dModel, heads, o);
    return stack === undefined ? make() : new TransformerEncoder(make, Number(stack), last);
  }
  const make = () => new TransformerDecoderLayer(dModel, heads, o);
  return stack === undefined ? make() : new TransformerDecoder(make, Number(stack), last);
}

/** Masks are the other way round, and those of each head have an axis for them. */
function masksOf({ masks, args }: Case): Record<string, Tensor> {
  return renamed(
    Object.fromEntries(
      Object.entries(masks).map(([name, values]) => {
        const mask = tensor(values);
        if (mask.dtype !== 'bool') return [name, tensor(values, float64)];
        const heads = args[1]!;
        const shape = mask.rank === 3 ? [mask.shape[0]! / heads, heads, ...mask.shape.slice(1)] : mask.shape;
        return [name, mask.logicalNot().reshape(shape)];
      }),
    ),
  );
}

for (const [name, one] of Object.entries(torch.layers))
  law(t, `${name}: output, gradients and weights = PyTorch, from its state and with the names of its state`, () => {
    const model = made(one);
    const theirs: StateDict = {};
    Object.entries(one.keys).forEach(([key, shape], i) => {
      const isScale = key.includes('norm') && key.endsWith('weight');
      theirs[key] = wave(i, shape)
        .mul(0.4)
        .add(isScale ? 1 : 0);
    });
    model.loadStateDict(fromPyTorch(theirs));
    const back = toPyTorch(model.stateDict());
    assert.deepEqual(Object.keys(back).sort(), Object.keys(theirs).sort());
    for (const [key, value] of Object.entries(theirs)) mustBeClose(back[key]!, value, { rtol: 0, atol: 0 }, key);

    const near = within(1e-12);
    const inputs = one.inputs.map((shape, i) => Object.assign(wave(100 + i, shape), { requiresGrad: true }));
    const options = masksOf(one);
    const y = Reflect.apply(model.call, model, [...inputs, options]) as Tensor;
    mustBeClose(y, stored(one.y), near, 'y');
    y.mul(wave(200, y.shape)).sum().backward();
    const gradients = Object.fromEntries(
      Array.from(model.namedParameters(), ([path, p]) => [path, p.grad ?? p.mul(0)] as const),
    );
    const packed = toPyTorch(gradients);
    const leaves = [...inputs.map(x => x.grad!), ...Object.keys(one.keys).map(key => packed[key]!)];
    leaves.forEach((g, i) => {
      mustBeClose(g.mul(wave(i, g.shape)).sum(), tensor(one.products[i]!, float64), near, `gradient ${i}`);
    });
    if (one.weights === undefined) return;
    const wanted = { ...options, needWeights: true, ...renamed(one.call) };
    const [same, weights] = Reflect.apply(model.call, model, [...inputs, wanted]) as [Tensor, Tensor];
    mustBeClose(same, y, near, 'y with weights');
    mustBeClose(weights, stored(one.weights), near, 'weights');
  });

law(t, "gpt: logits and gradients = nanoGPT's, from its state, and from that with the matrices of GPT-2", () => {
  const { keys, tokens, y, products } = torch.gpt;
  const theirs: StateDict = {};
  Object.entries(keys).forEach(([key, shape], i) => {
    const isScale = key.includes('ln_') && key.endsWith('weight');
    theirs[key] = wave(i, shape)
      .mul(0.4)
      .add(isScale ? 1 : 0);
  });
  // Tied: the last one that was written counts.
  theirs['transformer.wte.weight'] = theirs['lm_head.weight']!;
  const near = within(1e-12);
  const model = gpt({ vocabSize: 7, blockSize: 5, nLayer: 2, nHead: 2, nEmbd: 4, ...float64 });
  model.loadStateDict(fromGpt2(theirs));
  const given = tensor(tokens, { dtype: 'int32' });
  const logits = model.call(given);
  mustBeClose(logits, stored(y), near);
  const targets = tensor(
    tokens.flat().map(i => (i + 1) % 7),
    { dtype: 'int32' },
  );
  crossEntropy(logits.flatten(0, 1), targets).backward();
  const gradients: StateDict = Object.fromEntries(
    Array.from(model.namedParameters(), ([path, p]) => [path, p.grad!] as const),
  );
  const names = Object.keys(fromGpt2(theirs));
  assert.deepEqual(Object.keys(gradients).sort(), names.filter(name => name !== 'head.weight').sort());
  for (const [key, product] of Object.entries(products)) {
    const ours = Object.keys(fromGpt2({ [key]: theirs[key]! }));
    // q, k and v are thirds of one matrix: the wave goes through them.
    const parts = ours
      .filter(name => name !== 'head.weight' || ours.length === 1)
      .map(name => gradients[name] ?? gradients['tokens.weight']!);
    const whole = concat(parts);
    mustBeClose(whole.mul(wave(0, whole.shape)).sum(), tensor(product, float64), near, key);
  }
  const huggingFace = Object.fromEntries(
    Object.entries(theirs).flatMap(([key, x]) =>
      key === 'lm_head.weight'
        ? []
        : [[key.replace('transformer.', ''), /c_\w+\.weight$/.test(key) ? x.transpose() : x]],
    ),
  );
  const again = gpt({ vocabSize: 7, blockSize: 5, nLayer: 2, nHead: 2, nEmbd: 4, ...float64 });
  again.loadStateDict(fromGpt2({ ...huggingFace, 'h.0.attn.bias': tensor([[[[true]]]]) }));
  mustBeClose(again.call(given), logits, { rtol: 0, atol: 0 });
});
