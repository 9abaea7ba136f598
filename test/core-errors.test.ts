/** Errors of operations: their class, what was expected and what came. */

import { concat, DTypeError, einsum, eye, oneHot, ones, ShapeError, stack, tensor, where, zeros } from '@otimes/core';
import t from 'tap';
import { tells } from './helpers/errors.ts';

const x23 = ones([2, 3]);
const truths = ones([2], { dtype: 'bool' });
const ints = tensor(new Int32Array([1, 2]));
const index = tensor(new Int32Array([0, 5]));

tells(t, {
  'a negative length': [() => zeros([2, -1]), ShapeError, /^zeros: a shape is made of integers ≥ 0, got \[2,-1\]$/],
  'a fraction as a length': [() => eye(1.5), ShapeError, /^eye: a shape is made of integers ≥ 0, got \[1\.5\]$/],
  'a length that is open twice': [
    () => x23.reshape(-1, -1),
    ShapeError,
    /^reshape: expected at most one −1, got \[-1,-1\]$/,
  ],
  'an open length that does not divide': [
    () => x23.reshape(4, -1),
    ShapeError,
    /^reshape: \[2,3\] has 6 elements, which do not fill \[4,-1\]$/,
  ],
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
  'padding of an integer by a fraction': [
    () => ints.pad([[1, 1]], 0.5),
    DTypeError,
    /^pad: int32 holds integers −2³¹ … 2³¹−1, got 0\.5$/,
  ],
  'nothing to join': [() => concat([]), ShapeError, /^concat: expected at least one tensor, got none/],
  'parts that do not fit': [() => concat([x23, ones([2, 2])]), ShapeError, /^concat: expected \[\*,3\], got \[2,2\]/],
  'nothing to stack': [() => stack([]), ShapeError, /^stack: expected at least one tensor, got none/],
  'a stack of several shapes': [() => stack([x23, ones([3])]), ShapeError, /^stack: shapes \[2,3\] and \[3\] differ/],
  'a product with a scalar': [
    () => x23.matmul(ones([])),
    ShapeError,
    /^matmul: expected vectors or matrices, got float32\[2,3\] and float32\[\]$/,
  ],
  'a product that does not fit': [
    () => x23.matmul(ones([4, 5])),
    ShapeError,
    /^matmul: inner dimensions differ: float32\[2,3\] and float32\[4,5\]/,
  ],
  'a product of booleans': [
    () => truths.matmul(truths),
    DTypeError,
    /^matmul: expected numbers, got bool\[2\] and bool\[2\]$/,
  ],
  'an equation that is none': [
    () => einsum('i;j', x23),
    ShapeError,
    /^einsum: expected letters like 'ij,jk->ik', got 'i;j'$/,
  ],
  'too few operands': [() => einsum('ij,jk', x23), ShapeError, /^einsum: 'ij,jk' names 2 operands, got 1/],
  'too few letters': [
    () => einsum('i->', x23),
    ShapeError,
    /^einsum: expected a letter for each axis of operand 0, \[2,3\], got 'i'$/,
  ],
  'a letter of two lengths': [() => einsum('ii->', x23), ShapeError, /^einsum: axis 'i' has lengths 2 and 3/],
  'a result axis from nowhere': [
    () => einsum('ij->k', x23),
    ShapeError,
    /^einsum: result axis 'k' of 'ij->k' must occur in an operand, and once in the result$/,
  ],
  'the largest of nothing': [
    () => zeros([0]).max(),
    ShapeError,
    /^max: no elements along a reduced axis of float32\[0\]$/,
  ],
  'the place of the largest of nothing': [
    () => zeros([2, 0]).argmax(1),
    ShapeError,
    /^argmax: no elements along axis 1 of float32\[2,0\]$/,
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
  'an index that is no vector': [
    () => x23.indexSelect(0, oneHot(ints, 3, { dtype: 'int32' })),
    ShapeError,
    /^indexSelect: expected an index vector, got int32\[2,3\]$/,
  ],
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
  'a fraction of classes': [
    () => oneHot(ints, 2.5),
    ShapeError,
    /^oneHot: a shape is made of integers ≥ 0, got \[2\.5\]$/,
  ],
});
