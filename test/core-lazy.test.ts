/** Tensors whose elements are computed when somebody first reads them: what authors of packages build on. */

import assert from 'node:assert/strict';
import { GraphError, noGrad, ones, ShapeError, scope, type Tensor, tensor, zeros } from '@otimes/core';
import { isExposed, lazyTensor, makeLazy, materialize, originOf, versionOf } from '@otimes/core/extend';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';

const SHAPE = [2, 3];

/** `make`, and how often it ran. */
function counted(make: () => Tensor): { make: () => Tensor; calls: () => number } {
  let calls = 0;
  return {
    make() {
      calls++;
      return make();
    },
    calls: () => calls,
  };
}

/** Whatever needs the elements. */
const USES: Record<string, (x: Tensor) => Tensor> = {
  'an operation': x => x.mul(2),
  'an operation on a view': x => x.transpose().neg(),
  'a write to them': x => x.scale_(3),
  'a write to a part of them': x => {
    x.narrow(0, 0, 1).scale_(3);
    return x;
  },
  'a write of them': x => zeros(SHAPE, { device: x.device }).addScaled_(x, 1),
  'a look at a view': x => x.detach(),
  materialize(x) {
    materialize(x);
    return x;
  },
};

for (const device of DEVICES) {
  const on = { device };
  const sevens = () => ones(SHAPE, on).mul(7);

  for (const [name, use] of Object.entries(USES)) {
    law(t, `${device}: ${name}: lazy elements are computed once, and are then like any others`, async () => {
      const { make, calls } = counted(sevens);
      const lazy = lazyTensor(ones(SHAPE, on), make);
      assert.equal(calls(), 0);
      const [first, second] = [await use(lazy).array(), await use(lazy).array()];
      assert.equal(calls(), 1);
      const plain = sevens();
      assert.deepEqual([first, second], [await use(plain).array(), await use(plain).array()]);
    });

    law(t, `${device}: ${name}: elements that were made lazy are the new ones, computed once`, async () => {
      const { make, calls } = counted(sevens);
      const x = ones(SHAPE, on);
      makeLazy(x, make);
      assert.equal(calls(), 0);
      const plain = sevens();
      assert.deepEqual(await use(x).array(), await use(plain).array());
      assert.deepEqual(await use(x).array(), await use(plain).array());
      assert.equal(calls(), 1);
    });
  }

  law(
    t,
    `${device}: what is made lazy twice is computed as said last, and a part of a tensor leaves the rest`,
    async () => {
      const x = ones([2, 2], on);
      const never = counted(sevens);
      makeLazy(x, never.make);
      makeLazy(x, () => ones([2, 2], on).mul(2));
      makeLazy(x.narrow(0, 1, 1), () => ones([1, 2], on).mul(3));
      assert.deepEqual(await x.array(), [
        [2, 2],
        [3, 3],
      ]);
      assert.equal(never.calls(), 0);
    },
  );

  law(t, `${device}: what make returns may be anything of that shape: a view, a constant, a kept tensor`, async () => {
    const rows = tensor([1, 2, 3], on);
    const constant = ones([3], on).mul(5);
    const results: readonly (() => Tensor)[] = [
      () => rows.expand(2, 3).narrow(0, 0, 1).reshape(3),
      () => constant,
      () => ones([2, 3], on).mul(4).narrow(0, 1, 1).reshape(3),
      () => ones([3], on).mul(6).keep(),
    ];
    for (const make of results) {
      const expected = await make().array();
      const lazy = lazyTensor(rows, make);
      lazy.add(0);
      lazy.scale_(2);
      assert.deepEqual(await lazy.div(2).array(), expected);
    }
    assert.deepEqual(await constant.array(), [5, 5, 5]);
    assert.deepEqual(await rows.array(), [1, 2, 3]);
  });

  law(t, `${device}: writes are counted, and backward says that a value was made lazy since`, () => {
    const w = ones([2], { ...on, requiresGrad: true });
    const y = w.square().sum();
    const version = versionOf(w);
    makeLazy(w, () => ones([2], on));
    assert.equal(versionOf(w), version + 1);
    materialize(w);
    assert.equal(versionOf(w), version + 1);
    noGrad(() => w.scale_(2));
    assert.equal(versionOf(w), version + 2);
    assert.throws(() => y.backward(), GraphError);
  });

  law(t, `${device}: an origin is told of the whole tensor as it was made, read or not`, async () => {
    const origin = { name: 'here' };
    const lazy = lazyTensor(ones([2, 2], on), () => ones([2, 2], on), { origin });
    assert.equal(originOf(lazy), origin);
    await lazy.data();
    assert.equal(originOf(lazy), origin);
    assert.equal(originOf(lazy.detach()), origin);
    assert.equal(originOf(lazy.narrow(0, 0, 1)), null);
    assert.equal(originOf(lazy.transpose()), null);
    assert.equal(originOf(lazy.clone()), null);
    assert.equal(originOf(ones([2, 2], on)), null);
    lazy.scale_(1);
    assert.equal(originOf(lazy), null);
  });

  law(t, `${device}: dispose is called once, at the release or when other elements take the place`, () => {
    for (const read of [true, false])
      for (const end of [(x: Tensor) => x.storage.release(), (x: Tensor) => makeLazy(x, () => ones([2], on))]) {
        let disposed = 0;
        const lazy = lazyTensor(ones([2], on), () => ones([2], on), { dispose: () => disposed++ });
        if (read) materialize(lazy);
        assert.equal(disposed, 0);
        end(lazy);
        assert.equal(disposed, 1);
        lazy.storage.release();
        assert.equal(disposed, 1);
      }
  });

  law(
    t,
    `${device}: it lives as long as any tensor that is made there, and what make leaves behind does not`,
    async () => {
      const inside: Tensor[] = [];
      const make = () => {
        inside.push(ones([2], on).mul(2));
        return inside[0]!.mul(2);
      };
      const lazy = lazyTensor(ones([2], on), make);
      // Read inside of a scope, it outlives that.
      assert.deepEqual(await scope(() => lazy.add(0)).array(), [4, 4]);
      assert.deepEqual(await lazy.array(), [4, 4]);
      assert.ok(inside[0]!.storage.released);
      let left: Tensor | undefined;
      scope(() => {
        left = lazyTensor(lazy, make);
      });
      assert.throws(() => left!.add(1), { message: /^read: .* was released when its scope ended/ });
    },
  );

  law(t, `${device}: make is not recorded, runs again after it threw, and must return what fits`, async () => {
    const w = ones([2], { ...on, requiresGrad: true });
    let fails = true;
    const lazy = lazyTensor(ones([2], on), () => {
      if (fails) throw new Error('not yet');
      return w.mul(3);
    });
    assert.throws(() => lazy.add(1), { message: 'not yet' });
    fails = false;
    assert.deepEqual(await lazy.array(), [3, 3]);
    assert.ok(!lazy.requiresGrad);
    const wrong = lazyTensor(ones([2], on), () => ones([3], on));
    const message = `lazyTensor: expected make to return float32[2] on '${device}', got float32[3] on '${device}'`;
    assert.throws(() => wrong.add(1), new ShapeError(message));
    makeLazy(w, () => ones([2], { ...on, dtype: 'float64' }));
    assert.throws(() => w.add(1), { message: /^makeLazy: expected make to return float32\[2\]/ });
  });
}

law(t, 'what an ndarray sees cannot be lazy, and a lazy tensor gives its elements to one', () => {
  const x = ones([2]);
  assert.ok(!isExposed(x));
  x.ndarray();
  assert.ok(isExposed(x));
  assert.throws(() => makeLazy(x, () => ones([2])), {
    message: /^makeLazy: an ndarray sees the elements of float32\[2\]/,
  });
  const lazy = lazyTensor(ones([2]), () => ones([2]).mul(3), { origin: 1 });
  assert.equal(lazy.ndarray().get(1), 3);
  assert.equal(originOf(lazy), null);
});
