/** Errors of making, writing and reading tensors, and of graphs: their class, what was expected and what came. */

import {
  adamMoments,
  arange,
  DTypeError,
  eye,
  full,
  Generator,
  GraphError,
  grad,
  gram,
  noGrad,
  OutOfMemoryError,
  ones,
  ReferenceBackend,
  ReleasedError,
  rand,
  randint,
  randn,
  registerBackend,
  ShapeError,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import ndarray from 'ndarray';
import t from 'tap';
import { tells } from './helpers/errors.ts';

const x23 = ones([2, 3]);
const ints = tensor(new Int32Array([1, 2]));
const leaf = (shape: readonly number[] = [2]) => ones(shape, { requiresGrad: true });
const moments = { beta1: 0.9, beta2: 0.9, eps: 1e-8, correction1: 0.1, correction2: 0.1 };
/** What the types forbid, as it might come from plain JavaScript. */
const untyped = (json: string) => JSON.parse(json);
registerBackend(new ReferenceBackend('elsewhere'));
const elsewhere = ones([2, 3], { device: 'elsewhere' });

function freed(): Tensor {
  const y = leaf().exp().sum();
  y.backward();
  return y;
}

function released(): Tensor {
  let inside = x23;
  scope(() => {
    inside = x23.neg();
  });
  return inside;
}

/** Runs `change` between the forward pass of `f` and its backward. */
function disturbed(f: (x: Tensor) => Tensor, change: (x: Tensor, y: Tensor) => void): void {
  const x = leaf();
  const y = f(x);
  noGrad(() => change(x, y));
  y.sum().backward();
}

tells(t, {
  'a number too large for int32': [
    () => full([1], 2 ** 31, { dtype: 'int32' }),
    DTypeError,
    /^full: int32 holds integers −2³¹ … 2³¹−1, got 2147483648$/,
  ],
  'a fraction as int32': [
    () => tensor([0.5], { dtype: 'int32' }),
    DTypeError,
    /^tensor: int32 holds integers −2³¹ … 2³¹−1, got 0\.5$/,
  ],
  'a conversion beyond int32': [
    () => full([1], 3e9).astype('int32'),
    RangeError,
    /^astype: int32 holds −2147483648 … 2147483647, got 3000000000$/,
  ],
  'a conversion of NaN': [
    () => full([1], Number.NaN).astype('int32'),
    RangeError,
    /^astype: int32 holds −2147483648 … 2147483647, got NaN$/,
  ],
  'ragged rows': [
    () => tensor([[1, 2], [3]]),
    ShapeError,
    /^tensor: nested arrays must be regular: expected an array of 2 at data\[1\], got an array of 1$/,
  ],
  'a row among numbers': [
    () => tensor([1, [2]]),
    ShapeError,
    /^tensor: nested arrays must be regular: expected a number at data\[1\], got an array of 1$/,
  ],
  'a number among rows': [() => tensor([[1], 2]), ShapeError, /^tensor: expected an array of 1 at data\[1\], got 2/],
  'a string': [
    () => tensor(untyped('["a"]')),
    ShapeError,
    /^tensor: expected a number or boolean at data\[0\], got 'a'/,
  ],
  null: [() => tensor(untyped('null')), ShapeError, /^tensor: expected a number or boolean at data, got null/],
  'numbers among booleans': [
    () => tensor([true, 1]),
    DTypeError,
    /^tensor: nested arrays hold numbers or booleans, not both/,
  ],
  'data of another size': [
    () => tensor([1, 2], { shape: [3] }),
    ShapeError,
    /^tensor: shape \[3\] has 3 elements, the data has 2$/,
  ],
  'an array of another size': [
    () => tensor(new Float32Array(2), { shape: [3] }),
    ShapeError,
    /^tensor: shape \[3\] has 3 elements, the data has 2$/,
  ],
  'a view of bytes': [
    () => tensor(new DataView(new ArrayBuffer(2)) as unknown as Int32Array),
    DTypeError,
    /^tensor: expected numbers, got a DataView/,
  ],
  'an ndarray of another shape': [
    () => tensor(ndarray(new Float32Array(2)), { shape: [1, 2] }),
    ShapeError,
    /^tensor: the ndarray has shape \[2\], the options say \[1,2\]/,
  ],
  'text as the end of a range': [
    () => arange('4' as never),
    TypeError,
    /^arange: expected stop to be a number, got '4'$/,
  ],
  'a tensor as the start of a range': [
    () => arange(zeros([2]) as never, 4),
    TypeError,
    /^arange: expected start to be a number, got float32\[2\]$/,
  ],
  'options as the end of a range': [
    () => arange(4, { dtype: 'int32' } as never),
    TypeError,
    /^arange: expected stop to be a number, got { dtype }; options come fourth, as in arange\(0, 3, 1, { … }\)$/,
  ],
  'a range without an end': [
    () => arange(0, Infinity),
    ShapeError,
    /^arange: expected finite bounds and a step other than 0, got 0, Infinity, 1$/,
  ],
  'text as a length': [() => eye('3' as never), ShapeError, /^eye: a shape is made of integers ≥ 0, got \['3'\]$/],
  'a range with a step of 0': [
    () => arange(0, 1, 0),
    ShapeError,
    /^arange: expected finite bounds and a step other than 0, got 0, 1, 0$/,
  ],
  'more memory than there is': [
    () => zeros([1e15]),
    OutOfMemoryError,
    /^allocate: no memory for 1000000000000000 .*float32/,
  ],
  'more random numbers than there is memory': [
    () => rand([1e15]),
    OutOfMemoryError,
    /^allocate: no memory for 1000000000000000 elements of float32/,
  ],
  'an item of several': [() => x23.item(), ShapeError, /^item: expected exactly one element, got float32\[2,3\]/],
  'an unknown device': [
    () => zeros([1], { device: 'tpu' }),
    Error,
    /^device: no backend is registered for 'tpu'; there are 'cpu', 'reference', 'elsewhere'$/,
  ],
  'operands on two devices': [
    () => x23.add(elsewhere),
    DTypeError,
    /^add: expected tensors on one device, got float32\[2,3\] on cpu and float32\[2,3\] on elsewhere$/,
  ],
  'a write from another device': [
    () => zeros([2, 3]).copy_(elsewhere),
    DTypeError,
    /^copy_: expected tensors on one device, got cpu and elsewhere$/,
  ],
  'a seed that is no integer': [() => new Generator(0.5), RangeError, /^Generator: expected an integer seed, got 0.5/],
  'an empty range of integers': [
    () => new Generator(0).integer(2, 2),
    RangeError,
    /^integer: expected integers low < high at most 2³² apart, got 2 and 2$/,
  ],
  'a state of zeros': [
    () => new Generator(0).setState([0, 0, 0, 0]),
    RangeError,
    /^Generator: expected a state of 4 words that are not all 0, got \[0,0,0,0\]$/,
  ],
  'a state too short': [
    () => new Generator(0).setState([1]),
    RangeError,
    /^Generator: expected a state of 4 words that are not all 0, got \[1\]$/,
  ],
  'uniform integers': [() => rand([1], { dtype: 'int32' }), DTypeError, /^rand: expected a floating dtype, got int32/],
  'normal booleans': [() => randn([1], { dtype: 'bool' }), DTypeError, /^randn: expected a floating dtype, got bool/],
  'random booleans': [
    () => randint(0, 2, [1], { dtype: 'bool' }),
    DTypeError,
    /^randint: expected a dtype for integers, got bool$/,
  ],
  'random integers too large': [
    () => randint(0, 2 ** 32, [0]),
    DTypeError,
    /^randint: int32 holds integers −2³¹ … 2³¹−1, got 4294967295$/,
  ],
  'a target too small': [
    () => ones([3]).copy_(x23),
    ShapeError,
    /^copy_: float32\[2,3\] does not broadcast to float32\[3\]/,
  ],
  'a write to a parameter': [() => leaf().scale_(2), GraphError, /^scale_: float32\[2\] requires a gradient; .*noGrad/],
  'a write that loses a gradient': [
    () => ones([2]).copy_(leaf()),
    GraphError,
    /^copy_: would lose the gradient of float32\[2\]/,
  ],
  'a write to repeated elements': [
    () => ones([1]).expand(3).scale_(2),
    ShapeError,
    /^scale_: float32\[3\] repeats elements/,
  ],
  'scaled integers': [() => ints.scale_(2), DTypeError, /^scale_: expected a floating target, got int32\[2\]/],
  'a scaled addition to integers': [
    () => ints.addScaled_(ints, 2),
    DTypeError,
    /^addScaled_: expected a floating target, got int32\[2\]$/,
  ],
  'a quotient added to integers': [
    () => ints.addcdiv_(ints, ints, 2),
    DTypeError,
    /^addcdiv_: expected a floating target, got int32\[2\]/,
  ],
  'a divisor that does not broadcast': [
    () => ones([2]).addcdiv_(ones([2]), ones([3]), 2),
    ShapeError,
    /^addcdiv_: float32\[3\] does not broadcast to float32\[2\]/,
  ],
  'a quotient added to a parameter': [
    () => leaf().addcdiv_(ones([2]), ones([2]), 2),
    GraphError,
    /^addcdiv_: float32\[2\] requires a gradient; .*noGrad/,
  ],
  'a quotient that loses a gradient': [
    () => ones([2]).addcdiv_(ones([2]), leaf(), 2),
    GraphError,
    /^addcdiv_: would lose the gradient of float32\[2\]/,
  ],
  'a gram of integers': [
    () => gram(ones([2, 2], { dtype: 'int32' })),
    ShapeError,
    /^gram: expected a floating matrix or a batch of them, got int32\[2,2\]$/,
  ],
  'a gram of images': [
    () => gram(ones([1, 1, 2, 2])),
    ShapeError,
    /^gram: expected a floating matrix or a batch of them, got float32\[1,1,2,2\]$/,
  ],
  'moments of another shape': [
    () => adamMoments(ones([2]), ones([2]), x23, null, moments),
    ShapeError,
    /^adamMoments: expected tensors like m, float32\[2\], got float32\[2,3\]/,
  ],
  'moments of integers': [
    () => adamMoments(ints, ints, ints, null, moments),
    DTypeError,
    /^adamMoments: expected floating tensors, got int32\[2\]$/,
  ],
  'moments with gaps': [
    () => adamMoments(ones([2, 2]).transpose(), ones([2, 2]), ones([2, 2]), null, moments),
    ShapeError,
    /^adamMoments: m and v must be contiguous/,
  ],
  'a gradient for integers': [
    () => ones([1], { dtype: 'int32', requiresGrad: true }),
    DTypeError,
    /^requiresGrad: only float32 and float64 tensors have gradients, got int32\[1\]$/,
  ],
  'a gradient switched off on the way': [
    () => {
      leaf().neg().requiresGrad = false;
    },
    GraphError,
    /^requiresGrad: can be switched off on leaves only; use detach/,
  ],
  'a hook where no gradient comes': [
    () => x23.onGrad(() => {}),
    GraphError,
    /^onGrad: float32\[2,3\] does not require/,
  ],
  'a hook that returns another shape': [
    () => {
      const x = leaf([2, 3]);
      x.onGrad(g => g.transpose());
      x.sum().backward();
    },
    ShapeError,
    /^onGrad: a hook must return float32\[2,3\], like the gradient, or nothing, got float32\[3,2\]/,
  ],
  'a hook that returns a tensor of another device': [
    () => {
      const x = leaf([2, 3]);
      x.onGrad(g => g.to('elsewhere'));
      x.sum().backward();
    },
    DTypeError,
    /^onGrad: expected tensors on one device, got cpu and elsewhere$/,
  ],
  'backward without a graph': [
    () => x23.sum().backward(),
    GraphError,
    /^backward: float32\[\] does not require a gradient/,
  ],
  'backward of several': [
    () => leaf().neg().backward(),
    ShapeError,
    /^backward: expected a scalar, got float32\[2\]; give gy/,
  ],
  'a gy of another shape': [
    () => leaf().backward(x23),
    ShapeError,
    /^backward: expected gy like float32\[2\], got float32\[2,3\]/,
  ],
  'a gy of another device': [
    () => leaf([2, 3]).neg().backward(elsewhere),
    DTypeError,
    /^backward: expected tensors on one device, got cpu and elsewhere$/,
  ],
  'backward a second time': [() => freed().backward(), GraphError, /^sum: its graph was freed by an earlier backward/],
  'grad after backward': [() => grad(freed(), [leaf()]), GraphError, /^sum: its graph was freed/],
  'an unrelated x': [
    () => grad(leaf([]), [leaf()]),
    GraphError,
    /^grad: y float32\[\] does not depend on xs\[0\], float32\[2\]/,
  ],
  'an input changed before backward': [
    () =>
      disturbed(
        x => x.square(),
        x => x.scale_(2),
      ),
    GraphError,
    /^square: backward needs its input 0, \[2\], .*changed in place since \(version 1, expected 0\)$/,
  ],
  'an output changed before backward': [
    () =>
      disturbed(
        x => x.exp(),
        (_, y) => y.scale_(2),
      ),
    GraphError,
    /^exp: backward needs its output, \[2\], .*changed in place since \(version 1, expected 0\)$/,
  ],
  'a tensor read after its scope': [
    () => released().toArray(),
    ReleasedError,
    /^read: this float32 tensor of 6 .*keep\(\)/,
  ],
  'an asynchronous scope': [
    () => scope(async () => {}),
    TypeError,
    /^scope: expected a synchronous function, got .*promise/,
  ],
  'an asynchronous noGrad': [
    () => noGrad(async () => {}),
    TypeError,
    /^noGrad: expected a synchronous function, got .*promise/,
  ],
});
