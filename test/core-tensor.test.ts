/** Tensors: making and reading them, views and memory, devices, pauses. */

import assert from 'node:assert/strict';
import {
  arange,
  eye,
  full,
  nextTask,
  noGrad,
  ones,
  ReferenceBackend,
  randn,
  registerBackend,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { laidOut, shape } from './arbitraries/tensor.ts';
import { allclose, difference, mustBeClose } from './helpers/allclose.ts';
import { indices } from './helpers/dense.ts';
import { law } from './helpers/law.ts';
import { DTYPES, numbered, runs } from './helpers/tensors.ts';

law(t, 'a comparison that fails tells the index, both values, and by how many tolerances', () => {
  const found = difference(
    tensor([
      [1, 2],
      [3, 4],
    ]),
    [
      [1, 2],
      [3.5, 4],
    ],
    { rtol: 0, atol: 0.1 },
  );
  assert.equal(found, 'at [1,0]: 3, expected 3.5, 5.00 × the tolerance (rtol 0, atol 0.1); 1 of 4 differ');
  assert.match(difference(1, [1])!, /^shape \[\], expected \[1\]/);
  assert.match(difference([Number.NaN], [0])!, /^at \[0\]: NaN, expected 0, Infinity ×/);
  const said: string[] = [];
  const say = (message: string) => said.push(message) > 0;
  allclose({ pass: say, fail: say }, new Float64Array([1, Number.NaN]), [1, Number.NaN], {}, 'same');
  allclose({ pass: say, fail: say }, 1, 2, {}, 'other');
  assert.equal(said[0], 'same');
  assert.match(said[1]!, /^other: at \[\]: 1, expected 2/);
});

// --- making and reading ---------------------------------------------------------------------------------------------

law(t, 'nested arrays go in and come out the same', () => {
  const nested = shape({ minLength: 1 }).chain(s => {
    const level = (axis: number): fc.Arbitrary<unknown> =>
      axis === s.length ? fc.integer() : fc.array(level(axis + 1), { minLength: s[axis]!, maxLength: s[axis]! });
    return fc.tuple(fc.constant(s), level(0) as fc.Arbitrary<number[]>);
  });
  fc.assert(
    fc.property(nested, ([s, data]) => {
      const x = tensor(data, { dtype: 'float64' });
      assert.deepEqual(x.shape, s);
      assert.deepEqual(x.toArray(), data);
    }),
    runs,
  );
  assert.deepEqual(tensor([[], []]).shape, [2, 0]);
  assert.deepEqual(tensor([true, false]).toArray(), [true, false]);
});

law(t, 'numbers make float32, booleans bool; typed arrays keep their type, bytes become int32', () => {
  const dtypes = [
    1,
    true,
    [[1]],
    [true],
    new Float64Array(2),
    new Float32Array(2),
    new Int32Array(2),
    new Uint8Array(2),
  ];
  assert.deepEqual(
    dtypes.map(data => tensor(data).dtype),
    ['float32', 'bool', 'float32', 'bool', 'float64', 'float32', 'int32', 'int32'],
  );
  assert.deepEqual(tensor(new Uint8Array([0, 3]), { dtype: 'bool' }).dataSync(), new Uint8Array([0, 1]));
  assert.deepEqual(tensor([1, 2, 3, 4], { shape: [2, 2] }).toArray(), [
    [1, 2],
    [3, 4],
  ]);
});

law(t, 'arrays that go in, and what item, toArray, dataSync and data give out, are copies', async () => {
  const source = new Float64Array([1, 2]);
  const x = tensor(source);
  source[0] = 9;
  for (const copy of [x.dataSync(), await x.data(), x.toArray() as number[]]) copy[1] = 9;
  assert.deepEqual(x.toArray(), [1, 2]);
  assert.equal(x.narrow(0, 1, 1).item(), 2);
  assert.equal(tensor([true]).item(), 1);
});

law(t, 'any layout reads back in row-major order', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      for (const dtype of ['float32', 'int32'] as const)
        assert.deepEqual([...laidOut(values, s, how, dtype).dataSync()], values);
    }),
    runs,
  ),
);

law(t, 'zeros, ones, full, eye and arange are what their names say', () => {
  for (const dtype of DTYPES) {
    assert.deepEqual([...zeros([2, 2], { dtype }).dataSync()], [0, 0, 0, 0]);
    assert.deepEqual([...ones([2], { dtype }).dataSync()], [1, 1]);
    assert.deepEqual([...full([2], 3, { dtype }).dataSync()], dtype === 'bool' ? [1, 1] : [3, 3]);
    assert.deepEqual([...eye(2, { dtype }).dataSync()], [1, 0, 0, 1]);
    assert.equal(zeros([0, 3], { dtype }).size, 0);
  }
  assert.ok(Object.is(full([], -0).item(), -0));
  assert.deepEqual(arange(3).toArray(), [0, 1, 2]);
  assert.deepEqual(arange(5, 0, -2).toArray(), [5, 3, 1]);
  assert.deepEqual(arange(2, 2).toArray(), []);
  assert.equal(arange(0, 2.5).dtype, 'int32');
  mustBeClose(arange(0, 1, 0.25), tensor([0, 0.25, 0.5, 0.75]));
  assert.ok(ones([1], { requiresGrad: true }).requiresGrad);
});

law(t, 'a printed tensor tells values, dtype and shape', () => {
  assert.equal(String(tensor([[1, 2]])), 'tensor([[1, 2]], float32[1,2])');
  assert.equal(Object.prototype.toString.call(zeros([2])), '[object Tensor float32[2]]');
});

// --- memory ---------------------------------------------------------------------------------------------------------

law(t, 'a write through a view shows in exactly the elements that the view names, and the other way round', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      const all = tensor(values, { shape: s, dtype: 'float64' });
      const view = laidOut(values, s, how);
      const whole = view.storage.array.slice();
      view.copy_(all.neg());
      const after = view.storage.array;
      // The storage holds each value once; what lies between is 77.
      const at = indices(s).map(index => view.offset + index.reduce((p, k, i) => p + k * view.strides[i]!, 0));
      assert.deepEqual(
        after,
        whole.map((value, p) => (at.includes(p) ? -values[at.indexOf(p)]! : value)),
      );
      assert.deepEqual(view.neg().add(0).toArray(), all.toArray());
    }),
    runs,
  ),
);

const viewOps: Record<string, (x: Tensor) => Tensor> = {
  transpose: x => x.transpose(),
  permute: x => x.permute(1, 0),
  slice: x => x.slice([null, null, -2], [1]),
  narrow: x => x.narrow(1, 1, 2),
  expand: x => x.expand(2, 4, 3),
  reshape: x => x.reshape(2, 2, -1),
  flatten: x => x.flatten(),
  unsqueeze: x => x.unsqueeze(0),
  squeeze: x => x.unsqueeze(0).squeeze(0),
  detach: x => x.detach(),
  contiguous: x => x.contiguous(),
};

for (const [name, view] of Object.entries(viewOps))
  law(t, `${name} shares memory with what it looks at; clone does not`, () => {
    const x = randn([4, 3]);
    const y = view(x);
    const copy = x.clone();
    const before = copy.dataSync();
    assert.equal(y.storage, x.storage);
    x.copy_(zeros([]));
    assert.equal(y.abs().sum().item(), 0);
    assert.deepEqual(copy.dataSync(), before);
  });

law(t, 'reshape is a view wherever strides allow, and a copy elsewhere', () => {
  const x = randn([4, 6]).transpose();
  assert.equal(x.reshape(2, 3, 4).storage, x.storage);
  assert.equal(x.reshape(6, 1, 2, 2).storage, x.storage);
  assert.notEqual(x.reshape(24).storage, x.storage);
  assert.equal(x.reshape(6, 4), x);
});

law(t, 'ndarray() of any view is the view itself: same elements, same memory', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      const x = laidOut(values, s, how);
      const a = x.ndarray();
      assert.equal(a.data, x.storage.array);
      assert.deepEqual([[...a.shape], [...a.stride], a.offset], [[...x.shape], [...x.strides], x.offset]);
      for (const index of indices(s)) a.set(...index, -a.get(...index));
      assert.deepEqual(
        [...x.dataSync()],
        values.map(v => -v),
      );
    }),
    runs,
  ),
);

law(t, 'an ndarray that reaches beyond its data is refused, on devices that share its memory and on others', () => {
  for (const device of ['cpu', 'reference'])
    for (const data of [new Float32Array(3), new Uint8Array(3), [1, 2, 3]])
      for (const [shape, stride, offset] of [
        [[2, 2], [2, 1], 0],
        [[2], [1], -1],
        [[2], [-1], 0],
        [[2], [0.5], 0],
        [[2], [1], Number.NaN],
      ] as const)
        assert.throws(
          () => tensor(Object.assign(ndarray(data as number[], [...shape], [...stride]), { offset }), { device }),
          /tensor: expected an ndarray within the 3 elements of its data, got shape \[2(,2)?\], strides \[/,
        );
  assert.deepEqual(tensor(ndarray(new Float32Array([1, 2, 3]), [2], [-2], 2)).toArray(), [3, 1]);
  assert.deepEqual(tensor(ndarray(new Float32Array(0), [0, 2])).shape, [0, 2]);
});

law(t, 'an ndarray with any strides goes in without a copy; both see each write', () => {
  const a = ndarray(
    new Float64Array(24).map((_, i) => i),
    [4, 6],
  )
    .transpose(1, 0)
    .step(-2, 1)
    .lo(0, 1);
  const x = tensor(a);
  assert.equal(x.storage.array, a.data);
  mustBeClose(x, tensor(Array.from({ length: 3 }, (_, i) => Array.from({ length: 3 }, (_, j) => a.get(i, j)))));
  a.set(1, 1, 100);
  assert.equal(x.slice(1, 1).item(), 100);
  x.slice(2, 2).copy_(tensor(-1));
  assert.equal(a.get(2, 2), -1);
  const again = tensor(x.ndarray());
  again.copy_(again.transpose());
  assert.deepEqual(x.toArray(), again.toArray());
  // Others are read, element by element, and converted.
  mustBeClose(tensor(ndarray([1, 2, 3, 4], [2, 2]).transpose(1, 0)), [
    [1, 3],
    [2, 4],
  ]);
  mustBeClose(tensor(ndarray(new Uint8Array([1, 2])), { dtype: 'int32' }), [1, 2]);
  assert.equal(tensor(ndarray(new Float32Array(2)), { dtype: 'float64', requiresGrad: true }).dtype, 'float64');
});

// --- devices --------------------------------------------------------------------------------------------------------

law(t, 'to() copies between devices, gradients flow back, and devices do not mix', () => {
  registerBackend(new ReferenceBackend('second'));
  const x = randn([2, 3], { requiresGrad: true });
  const y = x.to('second');
  assert.deepEqual([y.device, y.toArray()], ['second', x.toArray()]);
  assert.equal(x.to('cpu'), x);
  y.mul(3).sum().backward();
  assert.equal(x.grad!.device, 'cpu');
  mustBeClose(x.grad!, full([2, 3], 3));
  const target = zeros([2, 3]);
  for (const mix of [() => x.add(y), () => x.matmul(y.transpose()), () => noGrad(() => target.copy_(y))])
    assert.throws(mix, /expected tensors on one device, got/);
});

law(t, "a reference is the device 'reference' unless it is given a name, so that 'cpu' stays what it is", () => {
  assert.equal(new ReferenceBackend().device, 'reference');
  assert.equal(new ReferenceBackend('mine').device, 'mine');
  assert.throws(() => new ReferenceBackend(1 as never), {
    message: "ReferenceBackend: expected device to be the name of a device, such as 'cpu', got 1",
  });
});

// --- pauses ---

/** What comes in while a program waits for `nextTask` twice. */
async function order(): Promise<string[]> {
  const seen: string[] = [];
  const { port1, port2 } = new MessageChannel();
  port2.once('message', () => seen.push('message'));
  port1.postMessage(null);
  void Promise.resolve().then(() => seen.push('promise'));
  const other = nextTask().then(() => seen.push('other'));
  await nextTask();
  seen.push('task');
  await other;
  for (let i = 0; i < 100 && !seen.includes('message'); i++) await nextTask();
  port1.close();
  return seen;
}

law(t, 'nextTask: promises come first, who waits is served in order, and messages come in', async () => {
  const seen = await order();
  assert.deepEqual(
    seen.filter(what => what !== 'message'),
    ['promise', 'other', 'task'],
  );
  assert.ok(seen.includes('message'));
});
