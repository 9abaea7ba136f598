/** Activations, containers and smaller layers of @otimes/nn that `test/doors-nn.test.ts` does not have, with wrong arguments. */

import { Generator, ones, randn, tensor, zeros } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const { functional: F } = nn;
const x = (...shape: number[]) => randn(shape, { rng: new Generator(1) });
const place = () => ({ rng: new Generator(0), dtype: 'float32', device: 'cpu' });
const indices = () => tensor([[1, 0]], { dtype: 'int32' });
const elsewhere = ['device', 'tensor'];

/** A constructor as a door. */
const made = (Class: new (...args: never[]) => unknown, args: Door['args'] = () => [], says: string[] = []): Door => ({
  call: (...given) => new Class(...given),
  args,
  says: [Class.name, ...elsewhere, ...says],
});

const init = (shape: readonly number[]) => zeros(shape);
const layers: Record<string, Door> = {
  AlphaDropout: made(nn.AlphaDropout, () => [0.5, place()]),
  Bilinear: made(nn.Bilinear, () => [2, 3, 4, { bias: true, ...place() }]),
  CELU: made(nn.CELU, () => [1]),
  CosineSimilarity: made(nn.CosineSimilarity, () => [{ dim: 1, eps: 1e-8 }]),
  Dropout1d: made(nn.Dropout1d, () => [0.5, place()]),
  Dropout2d: made(nn.Dropout2d, () => [0.5, place()]),
  Dropout3d: made(nn.Dropout3d, () => [0.5, place()]),
  ELU: made(nn.ELU, () => [1]),
  EmbeddingBag: made(
    nn.EmbeddingBag,
    () => [5, 2, { mode: 'sum', includeLastOffset: true, paddingIdx: 1, init, ...place() }],
    ['EmbeddingBag.init'],
  ),
  GLU: made(nn.GLU, () => [1]),
  Hardsigmoid: made(nn.Hardsigmoid),
  Hardswish: made(nn.Hardswish),
  Hardtanh: made(nn.Hardtanh, () => [{ minVal: -1, maxVal: 1 }]),
  Identity: made(nn.Identity),
  LeakyReLU: made(nn.LeakyReLU, () => [0.1]),
  LogSigmoid: made(nn.LogSigmoid),
  LogSoftmax: made(nn.LogSoftmax, () => [1]),
  Mish: made(nn.Mish),
  ModuleDict: {
    ...made(nn.ModuleDict, () => [{ a: new nn.ReLU() }]),
    skip: { 0: 'an empty Map or array is right; what is in one is for ModuleDict.set' },
  },
  ModuleList: made(nn.ModuleList, () => [[new nn.ReLU()]], ['ModuleList.push']),
  PReLU: made(nn.PReLU, () => [2, { init: 0.1, ...place() }], ['full']),
  PairwiseDistance: made(nn.PairwiseDistance, () => [{ p: 2, eps: 1e-6, keepdim: true }]),
  RMSNorm: made(nn.RMSNorm, () => [[2, 3], { eps: 1e-5, elementwiseAffine: true, ...place() }]),
  ReLU6: made(nn.ReLU6),
  SELU: made(nn.SELU),
  SiLU: made(nn.SiLU),
  Softmax: made(nn.Softmax, () => [1]),
  Softplus: made(nn.Softplus, () => [{ beta: 1, threshold: 20 }]),
  Softsign: made(nn.Softsign),
  Unflatten: made(nn.Unflatten, () => [1, [2, 3]]),
};
checkDoors(t, 'nn', Object.keys(layers), layers);

const list = () => new nn.ModuleList([new nn.ReLU()]);
const dict = () => new nn.ModuleDict({ a: new nn.ReLU() });
const methods: Record<string, Door> = {
  'ModuleList.at': { call: (i: number) => list().at(i), args: () => [0] },
  'ModuleList.push': { call: (one: nn.Module) => list().push(one), args: () => [new nn.ReLU()] },
  'ModuleList.insert': {
    call: (...given: [number, nn.Module]) => list().insert(...given),
    args: () => [0, new nn.ReLU()],
  },
  'ModuleDict.set': {
    call: (...given: [string, nn.Module]) => dict().set(...given),
    args: () => ['b', new nn.ReLU()],
  },
};
checkDoors(t, 'nn', Object.keys(methods), methods);

const linear = (): Record<string, (...args: never[]) => unknown> =>
  Object.fromEntries(
    Object.keys(tree).map(name => {
      const layer = new nn.Linear(2, 3);
      return [name, (Reflect.get(layer, name) as (...args: never[]) => unknown).bind(layer)];
    }),
  );
/** A method of Module. */
const method = (name: string, ...args: unknown[]): Door => ({
  call: (...given) => linear()[name]!(...given),
  args: () => args,
  says: [name, 'requiresGrad'],
});
const tree: Record<string, Door> = {
  apply: method('apply', () => undefined),
  requiresGrad_: method('requiresGrad_', true),
  freeze: method('freeze'),
  unfreeze: method('unfreeze'),
  children: method('children'),
  namedChildren: method('namedChildren'),
  modules: method('modules'),
  float: method('float'),
  double: method('double'),
};
checkDoors(t, 'Module', Object.keys(tree), tree);

const functions: Record<string, Door> = {
  alphaDropout: { call: F.alphaDropout, args: () => [x(2, 3), 0.5, true, new Generator(0)] },
  bilinear: { call: F.bilinear, args: () => [x(2, 3), x(2, 4), x(5, 3, 4), x(5)] },
  celu: { call: F.celu, args: () => [x(2), 1] },
  cosineSimilarity: {
    call: F.cosineSimilarity,
    args: () => [x(2, 3), x(2, 3), 1, { eps: 1e-8 }],
    says: ['cosineSimilarity', 'sum', 'mul'],
  },
  dropout1d: { call: F.dropout1d, args: () => [x(2, 3, 1), 0.5, true, new Generator(0)] },
  dropout2d: { call: F.dropout2d, args: () => [x(2, 3, 1, 1), 0.5, true, new Generator(0)] },
  dropout3d: { call: F.dropout3d, args: () => [x(2, 3, 1, 1, 1), 0.5, true, new Generator(0)] },
  elu: { call: F.elu, args: () => [x(2), 1] },
  embeddingBag: {
    call: F.embeddingBag,
    args: () => [
      tensor([1, 0, 1], { dtype: 'int32' }),
      x(3, 2),
      { mode: 'sum', offsets: [0, 2], perSampleWeights: ones([3]), includeLastOffset: false, paddingIdx: 0 },
    ],
  },
  glu: { call: F.glu, args: () => [x(2, 4), 1] },
  hardsigmoid: { call: F.hardsigmoid, args: () => [x(2)] },
  hardswish: { call: F.hardswish, args: () => [x(2)] },
  hardtanh: { call: F.hardtanh, args: () => [x(2), { minVal: -1, maxVal: 1 }] },
  leakyRelu: { call: F.leakyRelu, args: () => [x(2), 0.1] },
  logSigmoid: { call: F.logSigmoid, args: () => [x(2)] },
  logSoftmax: { call: F.logSoftmax, args: () => [x(2, 3), 1] },
  mish: { call: F.mish, args: () => [x(2)] },
  pairwiseDistance: {
    call: F.pairwiseDistance,
    args: () => [x(2, 3), x(2, 3), { p: 2, eps: 1e-6, keepdim: true }],
    says: ['pairwiseDistance', 'sub'],
  },
  prelu: { call: F.prelu, args: () => [x(2, 3), x(3)] },
  relu6: { call: F.relu6, args: () => [x(2)] },
  rmsNorm: { call: F.rmsNorm, args: () => [x(2, 3), [3], x(3), 1e-5] },
  selu: { call: F.selu, args: () => [x(2)] },
  silu: { call: F.silu, args: () => [x(2)] },
  softmax: { call: F.softmax, args: () => [x(2, 3), 1] },
  softplus: { call: F.softplus, args: () => [x(2), { beta: 1, threshold: 20 }] },
  softsign: { call: F.softsign, args: () => [x(2)] },
};
checkDoors(t, 'nn.functional', Object.keys(functions), functions);

/** One that passes on the errors of layers that it calls. */
const call = (name: string, layer: () => nn.AnyModule, args: Door['args'], says: string[] = []): Door => ({
  call: (...given) => layer().call(...given),
  args,
  says: [name, 'requiresGrad', ...says],
});
const calls: Record<string, Door> = {
  'Bilinear.call': call(
    'Bilinear',
    () => new nn.Bilinear(3, 4, 5),
    () => [x(2, 3), x(2, 4)],
    ['bilinear'],
  ),
  'EmbeddingBag.call': call(
    'EmbeddingBag',
    () => new nn.EmbeddingBag(3, 4),
    () => [indices()],
    ['embeddingBag'],
  ),
  'PReLU.call': call(
    'PReLU',
    () => new nn.PReLU(),
    () => [x(2, 3)],
    ['prelu', 'where', 'mul'],
  ),
  'RMSNorm.call': call(
    'RMSNorm',
    () => new nn.RMSNorm(3),
    () => [x(2, 3)],
    ['rmsNorm'],
  ),
  'Unflatten.call': call(
    'Unflatten',
    () => new nn.Unflatten(1, [1, -1]),
    () => [x(2, 3)],
  ),
};
checkDoors(t, 'nn', Object.keys(calls), calls);
