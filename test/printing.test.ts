/** How tensors look in consoles, in text and in JSON. */

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import {
  arange,
  ones,
  ReferenceBackend,
  registerBackend,
  ShapeError,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { lazyTensor } from '@otimes/core/extend';
import fc from 'fast-check';
import t from 'tap';
import { law } from './helpers/law.ts';

const looks: readonly [string, () => Tensor, string][] = [
  [
    'a matrix has its rows under each other',
    () =>
      tensor([
        [1, 2],
        [3, 4],
      ]),
    'tensor([[1, 2],\n        [3, 4]], float32[2,2])',
  ],
  ['a scalar', () => tensor(Math.PI), 'tensor(3.142, float32[])'],
  [
    'what is no number is shown',
    () => tensor([NaN, Infinity, -Infinity, 1]),
    'tensor([      NaN,  Infinity, -Infinity,         1], float32[4])',
  ],
  ['float32 without its rounding', () => tensor([0.1, 0.25]), 'tensor([ 0.1, 0.25], float32[2])'],
  [
    'four digits, and exponents where zeros would hide them',
    () => tensor([1 / 3, 1e-9, 123456.789]),
    'tensor([  0.3333,     1e-9, 1.235e+5], float32[3])',
  ],
  ['integers in whole', () => tensor([123456, -7], { dtype: 'int32' }), 'tensor([123456,     -7], int32[2])'],
  ['booleans', () => tensor([true, false]), 'tensor([ true, false], bool[2])'],
  ['the edges of what is large', () => arange(2000), 'tensor([   0,    1,    2, …, 1997, 1998, 1999], int32[2000])'],
  ['nothing', () => zeros([0, 3]), 'tensor([], float32[0,3])'],
  [
    'device and gradient',
    () => zeros([1], { device: 'reference', requiresGrad: true }),
    "tensor([0], float32[1] on 'reference', requiresGrad)",
  ],
  [
    'a view by its strides',
    () =>
      tensor([
        [1, 2],
        [3, 4],
      ]).transpose(),
    'tensor([[1, 3],\n        [2, 4]], float32[2,2])',
  ],
  ['matrices apart', () => zeros([2, 1, 2]), 'tensor([[[0, 0]],\n\n        [[0, 0]]], float32[2,1,2])'],
];
for (const [title, make, text] of looks) law(t, title, () => assert.equal(String(make()), text));

law(
  t,
  'consoles show what toString says, in arrays and objects too, and one line where Node shows no more levels',
  () => {
    const x = tensor([1, 2]);
    assert.equal(inspect(x), String(x));
    assert.equal(inspect([x]), '[ tensor([1, 2], float32[2]) ]');
    assert.equal(inspect({ x }, { depth: 0 }), '{ x: tensor(float32[2]) }');
    assert.equal(inspect(x.storage), "Storage float32[2] on 'cpu'");
    assert.equal(inspect(ones([2], { requiresGrad: true }).exp().node), 'Node exp');
  },
);

law(t, 'no line is wider than 80, and a large tensor takes few lines', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 4 }), s => {
      const lines = String(ones(s).mul(-1 / 3)).split('\n');
      assert.ok(lines.every(line => line.length <= 80) && lines.length <= 1000);
    }),
    { numRuns: 30 },
  );
  assert.ok(String(ones([1]).expand(1e4, 1e4)).length < 1000);
});

law(t, 'a released tensor, one that is not computed yet and one that cannot be read say what they are', () => {
  let left: Tensor | undefined;
  scope(() => {
    left = ones([3]).add(1);
  });
  assert.equal(String(left), 'tensor(float32[3], released when its scope ended)');
  let asked = 0;
  const make = () => {
    asked++;
    return zeros([2], { device: 'reference' });
  };
  const lazy = lazyTensor(zeros([2], { device: 'reference' }), make);
  assert.equal(String(lazy), "tensor(float32[2] on 'reference', not computed yet)");
  assert.equal(asked, 0);
  class Far extends ReferenceBackend {
    override readonly onHost = false as true;
    override read(): never {
      throw new Error('read: await data()');
    }
  }
  registerBackend(new Far('far'));
  assert.equal(inspect(zeros([2], { device: 'far' })), "tensor(float32[2] on 'far', to be read with data())");
});

law(t, 'looking changes nothing', () => {
  const x = ones([3], { requiresGrad: true });
  const y = x.mul(2);
  const { version, exposed, holder } = y.storage;
  String(y);
  inspect(y);
  JSON.stringify(y);
  assert.deepEqual([y.storage.version, y.storage.exposed, y.storage.holder], [version, exposed, holder]);
  y.sum().backward();
  assert.deepEqual(x.grad!.toArray(), [2, 2, 2]);
});

law(t, 'JSON has nested arrays, and text for what its numbers lack', () => {
  assert.equal(JSON.stringify({ loss: tensor(2.5) }), '{"loss":2.5}');
  assert.equal(
    JSON.stringify(
      tensor([
        [1, NaN],
        [Infinity, -Infinity],
      ]),
    ),
    '[[1,"NaN"],["Infinity","-Infinity"]]',
  );
  assert.equal(JSON.stringify([tensor(true), zeros([0])]), '[true,[]]');
  assert.throws(() => JSON.stringify(ones([1]).expand(2 ** 25)), ShapeError);
});

law(t, 'in arithmetic a tensor of one element is its number, and a larger one an error', () => {
  const loss: number | Tensor = tensor([[0.5]]);
  const js = (run: string) => new Function('x', 'y', `return ${run}`)(loss, tensor([1, 2]));
  assert.deepEqual(
    ['1 + x', 'x < 0.6', 'x > 0.6', 'Number(x)', 'Math.sqrt(x * 2)', '"loss " + x', 'String(y)', '[y].join()'].map(js),
    [1.5, true, false, 0.5, 1, 'loss 0.5', 'tensor([1, 2], float32[2])', 'tensor([1, 2], float32[2])'],
  );
  for (const run of ['y + y', 'y < 1', 'Number(y)', '"y: " + y'])
    assert.throws(
      () => js(run),
      /^TypeError: operator: expected a tensor of one element, got float32\[2\]; .*x\.add\(y\)/,
    );
});

law(t, 'no comparison of objects finds two tensors equal that it cannot look into', () => {
  assert.notDeepEqual(tensor([1, 2]), tensor([1, 3]));
  assert.notDeepStrictEqual({ a: tensor([1, 2]) }, { a: tensor([1, 3]) });
  // What an assertion prints then is short, though it looks into everything.
  const failure = (run: () => void) => {
    try {
      run();
    } catch (error) {
      return String(error);
    }
    return '';
  };
  const said = failure(() => assert.deepEqual(tensor([1, 2]), tensor([1, 3])));
  assert.ok(said.length > 10 && said.length < 20_000, `${said.length} characters`);
  const x = tensor([1, 2]);
  assert.deepStrictEqual([x], [x]);
  assert.deepStrictEqual(x.toArray(), tensor([1, 2]).toArray());
});
