// Every public function, constructor and call of attention and of the layers of transformers, with wrong arguments: it works, or an
// error of the library says what is wrong.
import { Generator, ones, randn, type Tensor, tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const x = (...shape: number[]) => randn(shape, { rng: new Generator(1) });
const bools = (...shape: number[]) => ones(shape, { dtype: 'bool' });
const place = () => ({ rng: new Generator(0), dtype: 'float32', device: 'cpu' });

/** A constructor; a device that does not exist and a shape are refused by core, and sizes of parts by the parts. */
const made = (Class: new (...args: never[]) => unknown, args: Door['args'], ...says: string[]): Door => ({
  call: (...given) => new Class(...given),
  args,
  says: [Class.name, 'device', 'tensor', ...says],
});
const called = (layer: () => nn.AnyModule, args: Door['args'], ...says: string[]): Door => ({
  call: (...given) => layer().call(...given),
  args,
  says: [layer().constructor.name, 'attention', ...says],
});

const layerOptions = () => ({
  dimFeedforward: 3,
  dropout: 0.1,
  activation: 'relu',
  layerNormEps: 1e-5,
  batchFirst: true,
  normFirst: true,
  bias: true,
  ...place(),
});
const small = { dimFeedforward: 3, batchFirst: true, rng: new Generator(0) };
const encoderLayer = () => new nn.TransformerEncoderLayer(2, 1, small);
const decoderLayer = () => new nn.TransformerDecoderLayer(2, 1, small);
const sizes = { dModel: 2, nhead: 1, numEncoderLayers: 1, numDecoderLayers: 1 };

const gptOptions = () => ({
  vocabSize: 5,
  blockSize: 4,
  nLayer: 1,
  nHead: 1,
  nEmbd: 2,
  dropout: 0.1,
  bias: true,
  tieWeights: true,
  gelu: 'tanh',
  ...place(),
});
const language = () => new nn.GPT({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 2 });
const words = () => tensor([[1, 2, 3]], { dtype: 'int32' });

const classes = {
  GPT: made(nn.GPT, () => [gptOptions()], 'gpt', 'MultiHeadAttention'),
  GPTBlock: made(nn.GPTBlock, () => [gptOptions()], 'Linear', 'LayerNorm', 'MultiHeadAttention'),

  KVCache: made(nn.KVCache, () => []),
  PositionalEncoding: made(nn.PositionalEncoding, () => [4, { dropout: 0.1, batchFirst: true, ...place() }]),
  TransformerEncoderLayer: made(
    nn.TransformerEncoderLayer,
    () => [4, 2, layerOptions()],
    'MultiHeadAttention',
    'LayerNorm',
  ),
  TransformerDecoderLayer: made(
    nn.TransformerDecoderLayer,
    () => [4, 2, layerOptions()],
    'MultiHeadAttention',
    'LayerNorm',
  ),
  TransformerEncoder: made(nn.TransformerEncoder, () => [encoderLayer, 2, new nn.LayerNorm(2)]),
  TransformerDecoder: made(nn.TransformerDecoder, () => [decoderLayer, 2, new nn.LayerNorm(2)]),
  Transformer: made(
    nn.Transformer,
    () => [{ ...sizes, ...layerOptions() }],
    'TransformerEncoderLayer',
    'MultiHeadAttention',
    'LayerNorm',
  ),
};
checkDoors(t, 'attention', Object.keys(classes), classes);
checkDoors(t, 'attention', ['toPyTorch', 'fromGpt2', 'gpt'], {
  fromGpt2: { call: nn.fromGpt2, args: () => [{ 'h.0.attn.c_attn.weight': x(6, 2), 'h.0.ln_1.bias': x(2) }] },
  gpt: { call: nn.gpt, args: () => [gptOptions()], says: ['gpt', 'device', 'MultiHeadAttention'] },
  toPyTorch: { call: nn.toPyTorch, args: () => [new nn.MultiHeadAttention(2, 1).stateDict()] },
});

const masks = () => ({ causal: true, keyPaddingMask: bools(1, 3), attnMask: bools(3, 3), cache: new nn.KVCache() });
const memory = () => x(1, 4, 2);
const decoding = () => ({
  tgtMask: bools(3, 3),
  memoryMask: bools(3, 4),
  tgtKeyPaddingMask: bools(1, 3),
  memoryKeyPaddingMask: bools(1, 4),
  tgtCausal: true,
});
const encoding = () => ({ srcKeyPaddingMask: bools(1, 3), causal: true });
const attention = () => new nn.MultiHeadAttention(2, 1);
const parts = ['MultiHeadAttention', 'TransformerEncoderLayer', 'TransformerDecoderLayer', 'requiresGrad'];
const calls: Record<string, Door> = {
  'MultiHeadAttention.call, to itself': called(attention, () => [x(1, 3, 2), masks()], 'requiresGrad'),
  'MultiHeadAttention.call, across': called(
    attention,
    () => [x(1, 3, 2), x(1, 3, 2), x(1, 3, 2), { ...masks(), needWeights: true, averageAttnWeights: true }],
    'requiresGrad',
  ),
  'TransformerBlock.call': called(
    () => new nn.TransformerBlock(2, 1),
    () => [x(1, 3, 2), masks()],
    'layerNorm',
    ...parts,
  ),
  'TransformerEncoderLayer.call': called(
    encoderLayer,
    () => [x(1, 3, 2), { srcMask: bools(3, 3), ...encoding() }],
    ...parts,
  ),
  'TransformerDecoderLayer.call': called(decoderLayer, () => [x(1, 3, 2), memory(), decoding()], ...parts),
  'TransformerEncoder.call': called(
    () => new nn.TransformerEncoder(encoderLayer, 1),
    () => [x(1, 3, 2), { mask: bools(3, 3), ...encoding() }],
    ...parts,
  ),
  'TransformerDecoder.call': called(
    () => new nn.TransformerDecoder(decoderLayer, 1),
    () => [x(1, 3, 2), memory(), decoding()],
    ...parts,
  ),
  'Transformer.call': called(
    () => new nn.Transformer({ ...sizes, ...small }),
    () => [
      memory(),
      x(1, 3, 2),
      { srcMask: bools(4, 4), srcKeyPaddingMask: bools(1, 4), srcCausal: false, ...decoding() },
    ],
    'TransformerEncoder',
    'TransformerDecoder',
    ...parts,
  ),
  'GPT.call': called(language, () => [words(), { caches: [new nn.KVCache()] }], 'gpt', 'embedding', 'requiresGrad'),
  'GPT.generate': {
    call: (...given) => Reflect.apply(nn.GPT.prototype.generate, language(), given),
    args: () => [words(), 3, { temperature: 0.5, topK: 2, rng: new Generator(0) }],
    says: ['generate', 'embedding'],
  },
  'GPTBlock.call': called(
    () => new nn.GPTBlock({ vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 2 }),
    () => [x(1, 3, 2), masks()],
    'layerNorm',
    ...parts,
  ),
  'PositionalEncoding.call': called(
    () => new nn.PositionalEncoding(2),
    () => [x(3, 1, 2)],
    'requiresGrad',
  ),
  'KVCache.append': {
    call: (keys: Tensor, values: Tensor) => new nn.KVCache().append(keys, values),
    args: () => [x(1, 3, 2), x(1, 3, 2)],
    says: ['KVCache'],
  },
};
checkDoors(t, 'attention', Object.keys(calls), calls);
