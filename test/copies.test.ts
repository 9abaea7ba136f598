/** Results that are no views share no memory with what they were made of, also where nothing is to be done. */

import assert from 'node:assert/strict';
import {
  adaptiveAvgPool1d,
  booleanMask,
  indexAdd,
  indexCopy,
  indexFill,
  interpolate,
  linalg,
  logsumexp,
  maskedSelect,
  maxPool1d,
  ones,
  pad,
  prod,
  rand,
  roll,
  scatter,
  scatterAdd,
  scatterMax,
  sort,
  type Tensor,
  tril,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { law } from './helpers/law.ts';

const none = (...shape: number[]) => zeros(shape, { dtype: 'int32' });
const all = (...shape: number[]) => ones(shape, { dtype: 'bool' });

/** Of x [3, 3]. */
const matrices: Record<string, (x: Tensor) => Tensor> = {
  'pad by nothing': x => pad(x, [[0, 0]]),
  'reflect nothing': x => pad(x, [[0, 0]], { mode: 'reflect' }),
  'roll by 0': x => roll(x, 0, 0),
  'roll along no axes': x => roll(x, [], []),
  'power 1': x => linalg.matrixPower(x, 1),
  'whole triangle': x => tril(x, 2),
  'product over no axes': x => prod(x, []),
  'logsumexp over no axes': x => logsumexp(x, []),
  'sort what is sorted': x => sort(x).values,
  'scatter nothing': x => scatter(x, 0, none(0, 3), x),
  'scatterAdd nothing': x => scatterAdd(x, 0, none(0, 3), x),
  'scatterMax nothing': x => scatterMax(x, 0, none(0, 3), x),
  'indexAdd nothing': x => indexAdd(x, 0, none(0), zeros([0, 3])),
  'indexCopy nothing': x => indexCopy(x, 0, none(0), zeros([0, 3])),
  'indexFill nothing': x => indexFill(x, 0, none(0), 1),
  'select all': x => maskedSelect(x, all(3, 3)),
  'mask of all': x => booleanMask(x, all(3)),
};

/** Of x [1, 2, 5]. */
const sequences: Record<string, (x: Tensor) => Tensor> = {
  'interpolate to the same size': x => interpolate(x, { size: 5 }),
  'interpolate by 1': x => interpolate(x, { scaleFactor: 1, mode: 'linear' }),
  'pool windows of 1': x => maxPool1d(x, 1),
  'pool to the same size': x => adaptiveAvgPool1d(x, 5),
};

law(t, 'a result may be written to, and the operand keeps its numbers', () => {
  for (const [cases, shape] of [
    [matrices, [3, 3]],
    [sequences, [1, 2, 5]],
  ] as const)
    for (const [name, f] of Object.entries(cases)) {
      const x = rand([...shape]);
      const before = x.toArray();
      const y = f(x);
      y.copy_(zeros(y.shape).astype(y.dtype));
      assert.deepEqual(x.toArray(), before, name);
    }
});
