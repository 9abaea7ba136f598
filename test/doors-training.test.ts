// Every public function, constructor and method of @otimes/data and of the first-order half of @otimes/optim, called with wrong
// arguments: it works, or an error of the library says what is wrong.
import { Generator, randn, tensor } from '@otimes/core';
import * as data from '@otimes/data';
import * as nn from '@otimes/nn';
import * as optim from '@otimes/optim';
import t from 'tap';
import { checkDoors as check, type Door } from './helpers/doors.ts';

/** A device that does not exist is refused by core, where tensors are made; so is a shape. */
const checkDoors: typeof check = (test, what, all, doors, apart) => {
  const says = ([name, door]: [string, Door]) => [
    name,
    { ...door, says: [door.says ?? name, 'device', 'tensor'].flat() },
  ];
  check(test, what, all, Object.fromEntries(Object.entries(doors).map(says)), apart);
};

const x = (...shape: number[]) => randn(shape, { rng: new Generator(1) });
const linear = () => new nn.Linear(2, 3);
const image = () => x(1, 2, 4, 4);

/** A constructor as a door; `says` where its messages begin with another name. */
const made = (Class: new (...args: never[]) => unknown, args: Door['args'], says?: Door['says']): Door => ({
  call: (...given) => new Class(...given),
  args,
  ...(says !== undefined && { says }),
});

const dataset = () => new data.TensorDataset(x(4, 2));
// `test/doors-image-loader.test.ts` has the rest.
const images = ['ImageLoader', 'channelStatistics', 'imageTransforms', 'transformImages', 'transforms'];
const others = Object.keys(data).filter(name => !images.includes(name));
checkDoors(t, 'data', others, {
  DataLoader: made(data.DataLoader, () => [
    dataset(),
    { batchSize: 2, shuffle: true, dropLast: true, rng: new Generator(0), collate: (all: unknown) => all, prefetch: 1 },
  ]),
  TensorDataset: made(data.TensorDataset, () => [x(4, 2), x(4)]),
  Subset: made(data.Subset, () => [dataset(), [0, 2]]),
  MappedDataset: made(data.MappedDataset, () => [dataset(), (sample: unknown) => sample]),
  randomSplit: {
    call: data.randomSplit,
    args: () => [dataset(), [1, 3], new Generator(0)],
    says: ['randomSplit', 'Subset'],
  },
  collate: { call: data.collate, args: () => [[x(2), x(2)]] },
  normalize: { call: data.normalize, args: () => [image(), [0, 0], 1], says: ['normalize', 'eq', 'sub', 'div'] },
  standardize: { call: data.standardize, args: () => [x(3, 2)] },
  averagePool2: { call: data.averagePool2, args: () => [image()], says: ['averagePool2', 'mean'] },
  parseIdx: {
    call: data.parseIdx,
    args: () => [data.writeIdx(tensor([1, 2], { dtype: 'int32' }), { type: 'uint8' }), { normalize: true, limit: 1 }],
  },
  writeIdx: { call: data.writeIdx, args: () => [tensor([1, 2], { dtype: 'int32' }), { type: 'uint8' }] },
  gunzip: {
    call: data.gunzip,
    args: () => [Uint8Array.from([31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]), { limit: 10 }],
  },
  parseCifar10: {
    call: data.parseCifar10,
    args: () => [new Uint8Array(3073), { file: 'a.bin', classes: Array(10).fill('a') }],
    says: ['parseCifar10', 'picturesInMemory'],
  },
  parseCifar100: {
    call: data.parseCifar100,
    args: () => [new Uint8Array(3074), { labels: 'coarse', file: 'a.bin', classes: Array(20).fill('a') }],
    says: ['parseCifar100', 'picturesInMemory'],
  },
  picturesInMemory: {
    call: data.picturesInMemory,
    args: () => [
      {
        ...{ kind: 'bytes', pixels: new Uint8Array(8), channels: 1, height: 2, width: 2 },
        ...{ labels: new Int32Array(2), classes: ['a'] },
      },
    ],
  },
  digitsFromJson: {
    call: data.digitsFromJson,
    args: () => [Array.from({ length: 10 }, () => ({ data: new Array(784).fill(0) })), { test: 2, seed: 1 }],
    says: ['digitsFromJson', 'Generator'],
  },
});

const parameters = () => linear().parameters();
const optimizer = (Class: new (...args: never[]) => unknown, options: () => object): Door =>
  made(Class, () => [parameters(), options()]);
const adam = () => ({ lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, amsgrad: true });
const elsewhere = [
  'KFAC EKFAC STEVE SINGD KBFGS KroneckerPreconditioner BlockState Kfe WeightBlock attentionCollector linearCollector',
  'conv1dCollector conv2dCollector conv3dCollector convTransposeCollector recurrentCollector embeddingCollector',
  'tiedCollector',
  // `test/doors-optim.test.ts` has the matrix optimizers.
  'defaultCollectors exampleSquares factors Muon SOAP Shampoo KLShampoo',
  // And `test/doors-schedules.test.ts` these.
  'Adadelta Adamax RAdam NAdamW Lion Lamb ScheduleFree ScheduleFreeAdamW LBFGS ExponentialMovingAverage ReduceLrOnPlateau exponentialLr multiStepLr',
  'polynomialLr cosineRestartsLr oneCycleLr sequentialLr',
]
  .join(' ')
  .split(' ');
checkDoors(
  t,
  'optim',
  Object.keys(optim).filter(name => !elsewhere.includes(name)),
  {
    Adam: optimizer(optim.Adam, adam),
    AdamW: optimizer(optim.AdamW, adam),
    NAdam: optimizer(optim.NAdam, () => ({
      lr: 0.1,
      betas: [0.9, 0.99],
      eps: 1e-8,
      weightDecay: 0,
      momentumDecay: 0,
      decoupledWeightDecay: true,
    })),
    Adagrad: optimizer(optim.Adagrad, () => ({
      lr: 0.1,
      lrDecay: 0,
      weightDecay: 0,
      initialAccumulatorValue: 0,
      eps: 1e-10,
    })),
    RMSprop: optimizer(optim.RMSprop, () => ({
      lr: 0.1,
      alpha: 0.9,
      eps: 1e-8,
      weightDecay: 0,
      momentum: 0,
      centered: true,
    })),
    SGD: optimizer(optim.SGD, () => ({ lr: 0.1, momentum: 0.9, dampening: 0, nesterov: true, weightDecay: 0 })),
    averageGradients: { call: optim.averageGradients, args: () => [parameters(), optim.alone, { examples: 2 }] },
    clipGradNorm: {
      call: optim.clipGradNorm,
      args: () => [parameters(), 1],
    },
    clipGradValue: { call: optim.clipGradValue, args: () => [parameters(), 1] },
    constantLr: { call: optim.constantLr, args: () => [] },
    stepLr: { call: optim.stepLr, args: () => [{ stepSize: 2, gamma: 0.5 }] },
    cosineLr: { call: optim.cosineLr, args: () => [{ tMax: 2, etaMin: 0.5 }] },
    warmupLr: { call: optim.warmupLr, args: () => [{ steps: 2, startFactor: 0.5, after: optim.constantLr() }] },
    adaptiveDamping: {
      call: optim.adaptiveDamping,
      args: () => [{ start: 0.01, every: 2, decay: 0.9, min: 1e-6, max: 1 }],
    },
    subspaceIteration: { call: optim.subspaceIteration, args: () => [{ steps: 2, firstSteps: 3 }] },
    rotate: { call: optim.rotate, args: () => [x(2, 3), { RA: x(3, 3), RG: null }], says: ['rotate', 'matmul'] },
    rotateSquares: {
      call: optim.rotateSquares,
      args: () => [x(2, 3), { RA: null, RG: x(2, 2) }],
      says: ['rotateSquares', 'matmul'],
    },
    Schedule: made(optim.Schedule, () => [new optim.SGD(parameters()), optim.constantLr()]),
    GradScaler: made(optim.GradScaler, () => [
      { initScale: 8, growthFactor: 2, backoffFactor: 0.5, growthInterval: 2, enabled: true },
    ]),
  },
  {
    KRONECKER_OPTIONS: 'a table',
    MATRIX_OPTIONS: 'a table',
    Optimizer: 'abstract',
    MatrixOptimizer: 'abstract',
    GradientOptimizer: 'abstract; its subclasses are here',
    ParameterState: 'what optimizers make for themselves',
    DampedRule: 'what KFAC makes from its options',
    MeasuredRule: 'what EKFAC makes from its options',
    AdamRule: 'what STEVE makes from its options',
    alone: 'a communicator; nobody calls its methods',
  },
);

checkDoors(
  t,
  'optim',
  ['Adam.loadStateDict', 'Schedule.loadStateDict', 'GradScaler.loadStateDict', 'DataLoader.loadStateDict'],
  {
    'Adam.loadStateDict': {
      call: state => new optim.Adam(parameters()).loadStateDict(state),
      args: () => [new optim.Adam(parameters()).stateDict()],
    },
    'Schedule.loadStateDict': {
      call: state => new optim.Schedule(new optim.SGD(parameters()), optim.constantLr()).loadStateDict(state),
      args: () => [new optim.Schedule(new optim.SGD(parameters()), optim.constantLr()).stateDict()],
    },
    'GradScaler.loadStateDict': {
      call: state => new optim.GradScaler().loadStateDict(state),
      args: () => [new optim.GradScaler().stateDict()],
    },
    'DataLoader.loadStateDict': {
      call: state => new data.DataLoader(dataset(), { batchSize: 2 }).loadStateDict(state),
      args: () => [new data.DataLoader(dataset(), { batchSize: 2 }).stateDict()],
      says: ['DataLoader', 'DataLoader.loadStateDict'],
    },
  },
);
