/** Every error of the package: its class, what was expected and what came. */

import assert from 'node:assert/strict';
import {
  adamMoments,
  arange,
  concat,
  DTypeError,
  einsum,
  eye,
  full,
  Generator,
  GraphError,
  grad,
  gram,
  isRecording,
  noGrad,
  OutOfMemoryError,
  oneHot,
  ones,
  ReferenceBackend,
  ReleasedError,
  rand,
  randint,
  randn,
  registerBackend,
  ShapeError,
  scope,
  stack,
  type Tensor,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import ndarray from 'ndarray';
import t from 'tap';
import { law } from './helpers/law.ts';

const x23 = ones([2, 3]);
const truths = ones([2], { dtype: 'bool' });
const ints = tensor(new Int32Array([1, 2]));
const index = tensor(new Int32Array([0, 5]));
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

type Case = [run: () => unknown, kind: new (message: string) => Error, message: RegExp];

/** Each message names the operation, what it expected, and what came. */
const errors: Record<string, Case> = {
  'a negative length': [() => zeros([2, -1]), ShapeError, /^zeros: .*integers ≥ 0, got \[2,-1\]/],
  'a fraction as a length': [() => eye(1.5), ShapeError, /^eye: .*got \[1.5\]/],
  'a length that is open twice': [() => x23.reshape(-1, -1), ShapeError, /^reshape: .*\[-1,-1\]|got/],
  'an open length that does not divide': [() => x23.reshape(4, -1), ShapeError, /^reshape: \[2,3\] has 6 .*\[4,-1\]/],
  'another size': [() => x23.reshape(4), ShapeError, /^reshape: \[2,3\] has 6 elements, \[4\] does not/],
  'shapes that do not broadcast': [() => x23.add(ones([2])), ShapeError, /^add: shapes \[2,3\] and \[2\].*3 against 2/],
  'expansion of a longer axis': [() => x23.expand(2, 4), ShapeError, /^expand: \[2,3\] does not expand to \[2,4\]/],
  'expansion to a lower rank': [() => x23.expand(3), ShapeError, /^expand: \[2,3\] does not expand to \[3\]/],
  'expansion of 2D to a scalar': [() => x23.expand([]), ShapeError, /^expand: \[2,3\] does not expand to \[\]/],
  'an axis out of range': [() => x23.sum(2), ShapeError, /^sum: axis 2 is out of range for a tensor of rank 2/],
  'an axis twice': [() => x23.sum([0, -2]), ShapeError, /^sum: axes \[0,0\] name one axis twice/],
  'a permutation with a hole': [
    () => x23.permute(0, 0),
    ShapeError,
    /^permute: expected each of 2 axes once, got \[0,0\]/,
  ],
  'a squeeze of a longer axis': [() => x23.squeeze(0), ShapeError, /^squeeze: axis 0 of \[2,3\] has length 2, not 1/],
  'a flatten backwards': [() => x23.flatten(1, 0), ShapeError, /^flatten: start axis 1 lies after end axis 0/],
  'too many ranges': [() => x23.slice(0, 0, 0), ShapeError, /^slice: 3 ranges for a tensor of rank 2/],
  'an index out of range': [() => x23.slice(2), ShapeError, /^slice: index 2 is out of range for axis 0 of length 2/],
  'a step of 0': [
    () => x23.slice([0, 1, 0]),
    ShapeError,
    /^slice: expected integers and a step other than 0.*\[0,1,0\]/,
  ],
  'a window too far': [() => x23.narrow(1, 2, 2), ShapeError, /^narrow: 2 … 4 is out of range for axis 1 of length 3/],
  'negative padding': [() => x23.pad([[-1, 0]]), ShapeError, /^pad: expected at most 2 pairs .*got \[\[-1, 0\]\]/],
  'padding of an integer by a fraction': [() => ints.pad([[1, 1]], 0.5), DTypeError, /^pad: int32 holds .*got 0.5/],
  'nothing to join': [() => concat([]), ShapeError, /^concat: expected at least one tensor, got none/],
  'parts that do not fit': [() => concat([x23, ones([2, 2])]), ShapeError, /^concat: expected \[\*,3\], got \[2,2\]/],
  'nothing to stack': [() => stack([]), ShapeError, /^stack: expected at least one tensor, got none/],
  'a stack of several shapes': [() => stack([x23, ones([3])]), ShapeError, /^stack: shapes \[2,3\] and \[3\] differ/],
  'a product with a scalar': [() => x23.matmul(ones([])), ShapeError, /^matmul: .*float32\[2,3\] and float32\[\]/],
  'a product that does not fit': [
    () => x23.matmul(ones([4, 5])),
    ShapeError,
    /^matmul: inner dimensions differ: float32\[2,3\] and float32\[4,5\]/,
  ],
  'a product of booleans': [() => truths.matmul(truths), DTypeError, /^matmul: expected numbers, got bool\[2\]/],
  'an equation that is none': [() => einsum('i;j', x23), ShapeError, /^einsum: expected letters .*'i;j'/],
  'too few operands': [() => einsum('ij,jk', x23), ShapeError, /^einsum: 'ij,jk' names 2 operands, got 1/],
  'too few letters': [() => einsum('i->', x23), ShapeError, /^einsum: 'i' has 1 axes, operand 0 has shape \[2,3\]/],
  'a letter of two lengths': [() => einsum('ii->', x23), ShapeError, /^einsum: axis 'i' has lengths 2 and 3/],
  'a result axis from nowhere': [() => einsum('ij->k', x23), ShapeError, /^einsum: result axis 'k' of 'ij->k'/],
  'the largest of nothing': [() => zeros([0]).max(), ShapeError, /^max: no elements along .*float32\[0\]/],
  'the place of the largest of nothing': [
    () => zeros([2, 0]).argmax(1),
    ShapeError,
    /^argmax: .*axis 1 of float32\[2,0\]/,
  ],
  'softmax of integers': [() => ints.softmax(), DTypeError, /^softmax: expected a floating tensor, got int32\[2\]/],
  'arithmetic on booleans': [
    () => truths.add(truths),
    DTypeError,
    /^add: expected numbers, got bool\[2\] and bool\[2\]/,
  ],
  'a negative boolean': [() => truths.neg(), DTypeError, /^neg: expected numbers, got bool\[2\]/],
  'a clamped boolean': [() => truths.clamp(0, 1), DTypeError, /^clamp: expected numbers, got bool\[2\]/],
  'limits the wrong way round': [() => x23.clamp(1, 0), RangeError, /^clamp: expected min ≤ max, got 1 and 0/],
  'an integer to a negative power': [() => ints.pow(-1), RangeError, /^pow: int32 takes exponents ≥ 0, got -1/],
  'a condition of numbers': [
    () => where(x23, 1, 0),
    DTypeError,
    /^where: expected a bool condition, got float32\[2,3\]/,
  ],
  'an index of floats': [
    () => x23.indexSelect(0, ones([1])),
    DTypeError,
    /^indexSelect: expected int32 .*float32\[1\]/,
  ],
  'an index beyond the end': [
    () => x23.indexSelect(0, index),
    RangeError,
    /^indexSelect: index 5 at position 1 .* 0 … 1/,
  ],
  'an index that is no vector': [() => x23.indexSelect(0, oneHot(ints, 3, { dtype: 'int32' })), ShapeError, /vector/],
  'a gather of another rank': [
    () => x23.gather(0, ints),
    ShapeError,
    /^gather: index int32\[2\] does not fit float32\[2,3\]/,
  ],
  'a label beyond the classes': [
    () => oneHot(index, 5),
    RangeError,
    /^oneHot: label 5 at position 1 is out of range 0 … 4/,
  ],
  'a fraction of classes': [() => oneHot(ints, 2.5), ShapeError, /^oneHot: .*got \[2.5\]/],
  'a number too large for int32': [
    () => full([1], 2 ** 31, { dtype: 'int32' }),
    DTypeError,
    /^full: int32 holds .*2147483648/,
  ],
  'a fraction as int32': [
    () => tensor([0.5], { dtype: 'int32' }),
    DTypeError,
    /^tensor: int32 holds integers .*got 0.5/,
  ],
  'a conversion beyond int32': [
    () => full([1], 3e9).astype('int32'),
    RangeError,
    /^astype: int32 holds .*got 3000000000/,
  ],
  'a conversion of NaN': [() => full([1], Number.NaN).astype('int32'), RangeError, /^astype: int32 holds .*got NaN/],
  'ragged rows': [
    () => tensor([[1, 2], [3]]),
    ShapeError,
    /^tensor: .*regular: expected 2 entries at data\[1\], got 1/,
  ],
  'a row among numbers': [
    () => tensor([1, [2]]),
    ShapeError,
    /^tensor: .*expected a number at data\[1\], got 1 entries/,
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
    /^tensor: shape \[3\] has 3 elements, .*2/,
  ],
  'an array of another size': [
    () => tensor(new Float32Array(2), { shape: [3] }),
    ShapeError,
    /^tensor: shape \[3\] has 3/,
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
  'a range with a step of 0': [() => arange(0, 1, 0), ShapeError, /^arange: .*step other than 0, got 0, 1, 0/],
  'more memory than there is': [
    () => zeros([1e15]),
    OutOfMemoryError,
    /^allocate: no memory for 1000000000000000 .*float32/,
  ],
  'more random numbers than there is memory': [() => rand([1e15]), OutOfMemoryError, /^allocate: no memory/],
  'an item of several': [() => x23.item(), ShapeError, /^item: expected exactly one element, got float32\[2,3\]/],
  'an unknown device': [
    () => zeros([1], { device: 'tpu' }),
    Error,
    /^device: no backend is registered for 'tpu'.*'cpu'/,
  ],
  'operands on two devices': [
    () => x23.add(elsewhere),
    DTypeError,
    /^add: expected tensors on one device, .*elsewhere/,
  ],
  'a write from another device': [() => zeros([2, 3]).copy_(elsewhere), DTypeError, /^copy_: .*got cpu and elsewhere/],
  'a seed that is no integer': [() => new Generator(0.5), RangeError, /^Generator: expected an integer seed, got 0.5/],
  'an empty range of integers': [() => new Generator(0).integer(2, 2), RangeError, /^integer: .*got 2 and 2/],
  'a state of zeros': [() => new Generator(0).setState([0, 0, 0, 0]), RangeError, /^Generator: .*got \[0,0,0,0\]/],
  'a state too short': [() => new Generator(0).setState([1]), RangeError, /^Generator: .*4 words .*got \[1\]/],
  'uniform integers': [() => rand([1], { dtype: 'int32' }), DTypeError, /^rand: expected a floating dtype, got int32/],
  'normal booleans': [() => randn([1], { dtype: 'bool' }), DTypeError, /^randn: expected a floating dtype, got bool/],
  'random booleans': [() => randint(0, 2, [1], { dtype: 'bool' }), DTypeError, /^randint: expected .*got bool/],
  'random integers too large': [() => randint(0, 2 ** 32, [0]), DTypeError, /^randint: int32 holds .*got 4294967295/],
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
  'a scaled addition to integers': [() => ints.addScaled_(ints, 2), DTypeError, /^addScaled_: .*got int32\[2\]/],
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
  'a gram of integers': [() => gram(ones([2, 2], { dtype: 'int32' })), ShapeError, /^gram: .*matrix.*got int32\[2,2\]/],
  'a gram of images': [() => gram(ones([1, 1, 2, 2])), ShapeError, /^gram: .*batch of them, got float32\[1,1,2,2\]/],
  'moments of another shape': [
    () => adamMoments(ones([2]), ones([2]), x23, null, moments),
    ShapeError,
    /^adamMoments: expected tensors like m, float32\[2\], got float32\[2,3\]/,
  ],
  'moments of integers': [() => adamMoments(ints, ints, ints, null, moments), DTypeError, /^adamMoments: .*int32\[2\]/],
  'moments with gaps': [
    () => adamMoments(ones([2, 2]).transpose(), ones([2, 2]), ones([2, 2]), null, moments),
    ShapeError,
    /^adamMoments: m and v must be contiguous/,
  ],
  'a gradient for integers': [
    () => ones([1], { dtype: 'int32', requiresGrad: true }),
    DTypeError,
    /^requiresGrad: .*int32\[1\]/,
  ],
  'a gradient switched off on the way': [
    () => {
      leaf().neg().requiresGrad = false;
    },
    GraphError,
    /^requiresGrad: can be switched off on leaves only/,
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
    /^square: backward needs its input 0, \[2\], .*changed in place since \(version 1, expected 0\)/,
  ],
  'an output changed before backward': [
    () =>
      disturbed(
        x => x.exp(),
        (_, y) => y.scale_(2),
      ),
    GraphError,
    /^exp: .*output/,
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
};

for (const [title, [run, kind, message]] of Object.entries(errors))
  law(t, `${title}: an error tells what was expected and what came`, () => {
    assert.throws(run, error => {
      assert.ok(error instanceof kind, `${error} is no ${kind.name}`);
      assert.equal(error.name, kind.name);
      assert.match(error.message, message);
      return true;
    });
    assert.ok(isRecording(), 'recording goes on after the error');
  });
