/** Every public function and method of core and linalg, with wrong arguments of every kind. */

import * as core from '@otimes/core';
import { Generator, ones, ReferenceBackend, saveSafetensors, Tensor, tensor } from '@otimes/core';
import * as linalg from '@otimes/linalg';
import ndarray from 'ndarray';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';
import { apartConv, convDoors } from './helpers/doors-conv.ts';
import { shapeDoors } from './helpers/doors-shape.ts';

const x = () => ones([2, 3], { requiresGrad: true });
const plain = (shape: readonly number[] = [2, 3]) => ones(shape);
const index = (...values: number[]) => tensor(values, { dtype: 'int32' });
const truth = () => ones([3], { dtype: 'bool' });
const images = () => ones([2, 4, 6, 6]);
const made = { dtype: 'float64', device: 'reference', requiresGrad: true };
const window = { stride: 1, padding: 1, dilation: 1 };
const moments = { beta1: 0.9, beta2: 0.99, eps: 1e-8, correction1: 0.1, correction2: 0.01 };

/** A door with right arguments. */
const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args });
/** One that makes tensors: devices and gradients have messages of their own. */
const creation = (call: (...args: never[]) => unknown, ...args: unknown[]): Door => ({
  ...door(call, ...args),
  says: [call.name, 'device', 'requiresGrad'],
});
/** A method with right arguments, of a tensor or another object. */
const of =
  (make: () => object) =>
  (name: string, ...args: unknown[]): Door =>
    door((...given) => (make() as Record<string, (...a: never[]) => unknown>)[name]!(...given), ...args);

const recorded = 'records nothing about its arguments';
checkDoors(
  t,
  '@otimes/core',
  Object.keys(core),
  {
    arange: creation(core.arange, 0, 6, 2, made),
    attention: door(
      core.attention,
      images().reshape(2, 4, 36),
      ones([2, 3, 36]),
      ones([2, 3, 36]),
      2,
      ones([4, 3], { dtype: 'bool' }),
    ),
    avgPool2d: door(core.avgPool2d, images(), [2, 2], { stride: 1, padding: 0, countIncludePad: true }),
    batchNorm: door(core.batchNorm, images(), ones([4]), ones([4]), 1e-5),
    batchNormEval: door(core.batchNormEval, images(), ones([4]), ones([4]), ones([4]), ones([4]), 1e-5),
    checkIndex: {
      ...door(core.checkIndex, 'op', index(0, 1), 2, 'index'),
      says: ['op', 'text'],
      skip: { 0: 'names the caller' },
    },
    concat: door(core.concat, [plain(), plain()], 0),
    conv2d: door(core.conv2d, images(), ones([2, 2, 3, 3]), { ...window, groups: 2, bias: ones([2]) }),
    createWasmBackend: door(core.createWasmBackend, 'cpu'),
    defaultGenerator: door(core.defaultGenerator),
    backwardPass: door(core.backwardPass),
    isRecording: door(core.isRecording),
    getThreads: door(core.getThreads),
    getConvolution: door(core.getConvolution),
    defineOp: {
      ...door(core.defineOp, {
        name: 'double',
        shape: () => ({ shape: [], dtype: 'float32' }),
        forward: () => undefined,
        backward: null,
      }),
      skip: { 0: 'a record is not made of options; what a program forgets is tested beside' },
    },
    describe: door(core.describe, plain()),
    einsum: door(core.einsum, 'ij,kj->ik', plain(), plain()),
    eye: creation(core.eye, 3, made),
    fold: door(core.fold, ones([1, 16, 4]), [5, 5], [2, 2], { stride: 1, padding: 0, dilation: 1 }),
    full: creation(core.full, [2, 3], 1, made),
    getBackend: { ...door(core.getBackend, 'cpu'), says: 'device' },
    globalAvgPool2d: door(core.globalAvgPool2d, images()),
    grad: {
      call: (y: Tensor, xs: Tensor[], o: object) => core.grad(y, xs, o),
      args: () => {
        const leaf = x();
        return [leaf.mul(2), [leaf], { gy: plain(), createGraph: true, allowUnused: true }];
      },
    },
    gram: door(core.gram, plain()),
    groupNorm: door(core.groupNorm, images(), 2, ones([4]), ones([4]), 1e-5),
    labelCrossEntropy: { ...door(core.labelCrossEntropy, plain(), index(0, 1), 1), says: 'crossEntropy' },
    layerNorm: door(core.layerNorm, plain(), ones([3]), ones([3]), 1e-5),
    linear: door(core.linear, plain(), ones([4, 3]), ones([4])),
    loadSafetensors: { ...door(core.loadSafetensors, saveSafetensors({ a: plain() })), says: 'safetensors' },
    manualSeed: door(core.manualSeed, 1),
    maxPool2d: door(core.maxPool2d, images(), [2, 2], { stride: 1, padding: 1 }),
    nextTask: door(core.nextTask),
    noGrad: door(core.noGrad, () => 1),
    oneHot: door(core.oneHot, index(0, 1), 2, { dtype: 'int32' }),
    ones: creation(core.ones, [2, 3], made),
    owningIntermediates: door(core.owningIntermediates, () => plain().add(1)),
    pairOf: { ...door(core.pairOf, 'op', 'stride', [1, 2], 1), says: 'op', skip: { 0: 'names the caller' } },
    patchGram: door(core.patchGram, images(), [2, 2], window, { ones: true }),
    promote: door(core.promote, 'float32', 'int32'),
    rand: creation(core.rand, [2], { ...made, rng: new Generator(1) }),
    randint: creation(core.randint, 0, 5, [2], { ...made, rng: new Generator(1) }),
    randn: creation(core.randn, [2], { ...made, rng: new Generator(1) }),
    registerBackend: door(core.registerBackend, new ReferenceBackend('spare')),
    sameShape: door(core.sameShape, [1], [2]),
    readStateDict: door(core.readStateDict, { a: plain() }),
    safetensorsMetadata: { ...door(core.safetensorsMetadata, saveSafetensors({ a: plain() })), says: 'safetensors' },
    saveSafetensors: { ...door(core.saveSafetensors, { a: plain() }, { author: 'me' }), says: 'safetensors' },
    scope: door(core.scope, () => 1),
    setConvolution: door(core.setConvolution, 'auto'),
    setThreads: door(core.setThreads, 1),
    adamMoments: door(core.adamMoments, plain(), plain(), plain(), plain(), moments),
    adamStep: door(core.adamStep, plain(), plain(), plain(), plain(), { ...moments, lr: 0.1, keep: 1 }),
    sgdStep: door(core.sgdStep, plain(), plain(), plain(), {
      lr: 0.1,
      momentum: 1,
      gain: 1,
      bufferWeight: 1,
      gradientWeight: 0,
    }),
    squaredError: door(core.squaredError, plain(), plain(), 1),
    stack: door(core.stack, [plain(), plain()], 0),
    tensor: creation(core.tensor, [1, 2, 3, 4], { ...made, shape: [2, 2] }),
    unfold: door(core.unfold, images(), [2, 2], window),
    unscoped: door(core.unscoped, () => 1),
    where: door(core.where, truth(), plain(), 0, plain()),
    withSecondThread: door(core.withSecondThread, () => 1),
    zeros: creation(core.zeros, [2, 3], made),
    ...shapeDoors,
  },
  {
    ...Object.fromEntries(
      Object.keys(core)
        .filter(name => name.endsWith('Error'))
        .map(name => [name, 'takes a message']),
    ),
    ...apartConv(convDoors.core),
    packCheckpoint: 'in doors-metrics.test.ts',
    unpackCheckpoint: 'in doors-metrics.test.ts',
    notDifferentiable: 'a constant',
    releaseBlas: recorded,
    useBlas: 'loads a native library: blas.test.ts',
    Tensor: 'below',
    Generator: 'below',
    AwaitedBackend: 'its kernels trust the operations',
    ComposedBackend: 'its kernels trust the operations',
    ReferenceBackend: 'its kernels trust the operations',
    WasmBackend: 'its kernels trust the operations',
  },
);

const method = of(x);
const unary = (...names: string[]) => Object.fromEntries(names.map(name => [name, method(name)]));
const binary = (...names: string[]) => Object.fromEntries(names.map(name => [name, method(name, 2)]));
const reduction = (...names: string[]) =>
  Object.fromEntries(names.map(name => [name, method(name, [0, 1], { keepdim: true })]));
const inPlace = of(() => plain());

checkDoors(
  t,
  'Tensor',
  [
    ...Object.getOwnPropertyNames(Tensor.prototype),
    ...Object.getOwnPropertyNames(Object.getPrototypeOf(Tensor.prototype)),
  ],
  {
    ...unary(
      ...[
        'neg',
        'abs',
        'sign',
        'floor',
        'ceil',
        'round',
        'square',
        'reciprocal',
        'exp',
        'expm1',
        'log',
        'log1p',
        'sqrt',
      ],
      ...['sin', 'cos', 'tanh', 'sigmoid', 'relu', 'erf', 'isNaN', 'isFinite', 'logicalNot', 'contiguous', 'clone'],
      ...['detach', 'keep', 'dataSync', 'data', 'array', 'cpu', 'toArray', 'ndarray', 'toString', 'toJSON'],
    ),
    ...binary(
      'add',
      'sub',
      'mul',
      'div',
      'pow',
      'maximum',
      'minimum',
      'eq',
      'ne',
      'lt',
      'le',
      'gt',
      'ge',
      'logicalAnd',
    ),
    ...binary('logicalOr'),
    ...reduction('sum', 'mean', 'max', 'min', 'norm', 'any', 'all'),
    var: method('var', 0, { keepdim: true, correction: 0 }),
    gelu: method('gelu', { approximate: 'tanh' }),
    clamp: method('clamp', 0, 1),
    matmul: method('matmul', plain([3, 2])),
    reshape: method('reshape', 3, 2),
    permute: method('permute', [1, 0]),
    transpose: method('transpose', 0, 1),
    expand: method('expand', [4, 2, 3]),
    squeeze: of(() => plain([1, 2]))('squeeze', 0),
    unsqueeze: method('unsqueeze', 0),
    flatten: method('flatten', 0, 1),
    slice: method('slice', [0, 1, 1], 0),
    narrow: method('narrow', 0, 0, 1),
    at: method('at', 0, 1),
    pad: method('pad', [[1, 1]], 0),
    gather: method('gather', 1, tensor([[0], [1]], { dtype: 'int32' })),
    indexSelect: method('indexSelect', 0, index(0)),
    argmax: method('argmax', 0, { keepdim: true }),
    argmin: method('argmin', 0, { keepdim: true }),
    cumsum: method('cumsum', 0),
    softmax: method('softmax', 0),
    logSoftmax: method('logSoftmax', 0),
    astype: method('astype', 'float64'),
    to: { ...method('to', 'reference'), says: ['to', 'device'] },
    copy_: inPlace('copy_', plain()),
    addScaled_: inPlace('addScaled_', plain(), 1, 1),
    addcdiv_: inPlace('addcdiv_', plain(), plain(), 1, 1),
    scale_: inPlace('scale_', 2),
    backward: of(() => x().mul(2))('backward', plain()),
    onGrad: method('onGrad', () => undefined, { borrows: true }),
    item: of(() => plain([1]))('item'),
    number: of(() => plain([1]))('number'),
  },
  {
    ...Object.fromEntries(
      'constructor make requiresGrad grad T borrowGrad receiveGrad device rank size isLeaf hasGradHooks gradHooksBorrow runGradHooks isContiguous'
        .split(' ')
        .map(name => [name, 'a property, or for the library itself']),
    ),
  },
);

checkDoors(t, 'new', ['Tensor', 'Generator'], {
  Tensor: door(
    (...args) => new Tensor(...(args as unknown as ConstructorParameters<typeof Tensor>)),
    plain().storage,
    [2, 3],
    [3, 1],
  ),
  Generator: door(seed => new Generator(seed), 1),
});

const generator = of(() => new Generator(1));
checkDoors(
  t,
  'Generator',
  Object.getOwnPropertyNames(Generator.prototype),
  {
    bits: generator('bits'),
    uniform: generator('uniform'),
    normal: generator('normal'),
    integer: generator('integer', 0, 5),
    permutation: generator('permutation', 5),
    split: generator('split'),
    getState: generator('getState'),
    setState: { ...generator('setState', new Int32Array([1, 2, 3, 4])), says: 'Generator' },
  },
  { constructor: 'above' },
);

const matrix = () => ndarray(new Float32Array([2, 1, 1, 2]), [2, 2]);
const vector = (length = 2) => ndarray(new Float32Array(length).fill(1), [length]);
const precision = { precision: 'float32' };
checkDoors(
  t,
  '@otimes/linalg',
  Object.keys(linalg),
  {
    cholesky: door(linalg.cholesky, matrix(), precision),
    cholSolve: door(linalg.cholSolve, matrix(), vector(), precision),
    eigh: door(linalg.eigh, matrix(), precision),
    eighAll: { ...door(linalg.eighAll, [matrix(), matrix()]), says: ['eighAll', 'eigh'] },
    eighInBackground: {
      call: (a, o) => linalg.eighInBackground(a, o).release(),
      args: () => [matrix(), { from: matrix() }],
      says: ['eighInBackground', 'eigh'],
    },
    eighJacobi: door(linalg.eighJacobi, matrix()),
    inverse: door(linalg.inverse, matrix(), precision),
    kron: door(linalg.kron, matrix(), matrix()),
    kronMatvec: door(linalg.kronMatvec, matrix(), matrix(), vector(4)),
    matmul: door(linalg.matmul, matrix(), matrix(), { transposeA: true, transposeB: true }),
    qr: door(linalg.qr, matrix(), precision),
    setSolver: {
      call: (solver: linalg.Solver) => {
        linalg.setSolver(solver);
        linalg.setSolver(null);
      },
      args: () => [null],
    },
    solve: door(linalg.solve, matrix(), vector(), precision),
    solveTriangular: door(linalg.solveTriangular, matrix(), vector(), { ...precision, transpose: true }),
    unvec: door(linalg.unvec, vector(4), 2, 2),
    vec: door(linalg.vec, matrix()),
  },
  {
    plainSolver: 'the parts of a Solver, which trust their caller',
    NdView: 'what tensors and results hand out',
    NotPositiveDefiniteError: 'takes a message',
  },
);

const other = (json: string) => JSON.parse(json);
const hooked = (hook: () => unknown) => {
  const y = x().mul(2);
  y.onGrad(hook as () => void);
  y.sum().backward();
};
const messages: readonly [string, () => unknown, RegExp][] = [
  ['lengths as arguments', () => core.zeros(other('2')), /^zeros: expected shape .* got 2; write \[2, …\]/],
  ['a shape for options', () => tensor([1, 2], other('[2, 1]')), /^tensor: .*did you mean \{ shape: \[2, 1\] \}/],
  ['a dtype for options', () => core.zeros([2], other('"int32"')), /^zeros: .*did you mean \{ dtype: 'int32' \}/],
  ['keepdim for options', () => x().mean(0, other('true')), /^mean: .*did you mean \{ keepdim: true \}/],
  ['an option of another name', () => x().sum(1, other('{"keepDims":true}')), /^sum: .*did you mean 'keepdim'/],
  ['options for axes', () => x().sum(other('{"axis":0}')), /^sum: expected axis .*options come after the axes/],
  ['a dtype for a device', () => x().to('float64'), /astype\('float64'\) converts/],
  [
    'a dtype that there is not',
    () => x().astype(other('"int64"')),
    /^astype: expected dtype to be 'bool' or 'int32' or/,
  ],
  ['tensors as arguments', () => core.concat(x() as never, 1), /^concat: .*put them into one array/],
  ['tensors as data', () => tensor(other('[0]').map(x)), /^tensor: .*stack joins tensors/],
  [
    'arrays for a tensor',
    () => x().matmul(other('[[1]]')),
    /^matmul: expected tensors, got float32\[2,3\] and \[\[1\]\]; tensor/,
  ],
  ['true for a gradient', () => x().sum().backward(other('true')), /^backward: expected gy to be a tensor, got true/],
  ['several open lengths', () => x().reshape(-1, -1), /^reshape: expected at most one −1, got \[-1,-1\]/],
  ['numbers for pairs', () => x().pad(other('[1, 1]')), /^pad: expected at most 2 pairs/],
  ['numbers for a storage', () => new Tensor(other('[1]'), [1], [1]), /^Tensor: expected storage .*tensor\(…\) makes/],
  ['a seed for a generator', () => core.randn([2], { rng: other('5') }), /^randn: .*new Generator\(5\) makes one/],
  ['an async scope', () => core.scope(async () => 1), /^scope: expected a synchronous function/],
  ['an async noGrad', () => core.noGrad(async () => 1), /^noGrad: expected a synchronous function/],
  [
    'an async withSecondThread',
    () => core.withSecondThread(async () => 1),
    /^withSecondThread: expected a synchronous/,
  ],
  ['an async hook', () => hooked(async () => undefined), /^onGrad: a hook must return .* got a promise/],
  ['a hook that returns null', () => hooked(() => null), /^onGrad: a hook must return .* got null/],
  ['a hook that returns a number', () => hooked(() => 3), /^onGrad: a hook must return .* got 3/],
];
for (const [title, run, message] of messages)
  t.test(`${title}: the message says what was probably meant`, async t => {
    t.throws(run, { message });
  });
