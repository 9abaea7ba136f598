// CurvatureEstimate called wrongly: what it refuses, and that its averages are then as they were.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { Generator, randint, randn, type Tensor } from '@otimes/core';
import { crossEntropy, Linear, Module, Sequential, Tanh } from '@otimes/nn';
import { CurvatureEstimate, defaultCollectors } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { checkDoor } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const at = (device = 'cpu') => ({ device, dtype: 'float64' as const, rng: new Generator(3) });
const net = (device?: string) => {
  const o = at(device);
  return new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o));
};
const batch = (n: number, seed: number, device = 'cpu'): [Tensor, Tensor] => {
  const rng = new Generator(seed);
  return [randn([n, 5], { dtype: 'float64', device, rng }), randint(0, 3, [n], { device, rng })];
};

/** An estimate, and one batch more of it; `spoil` changes the inputs. */
function begun(device?: string) {
  const model = net(device);
  const curvature = new CurvatureEstimate(model);
  const add = (n: number, seed: number, spoil = (x: Tensor) => x) => {
    const [x, y] = batch(n, seed, device);
    crossEntropy(model.call(spoil(x)), y).backward();
    curvature.add();
  };
  return { model, curvature, add };
}

/** Two layers, of which a loss may reach the first alone. */
class Branches extends Module {
  readonly used = new Linear(5, 3, at());
  readonly unused = new Linear(5, 2, at());
  override forward(x: Tensor): Tensor {
    return this.used.call(x);
  }
}

for (const method of ['operator', 'factors'] as const) {
  law(t, `${method}: a path that is none is an error that lists those there are`, () => {
    const { curvature, add } = begun();
    const says = (what: string) => `CurvatureEstimate.${method}: no layer ${what}; there are '0', '2'`;
    for (const when of ['before', 'after']) {
      for (const path of ['1', '', '0.weight'])
        assert.throws(() => curvature[method](path), { name: 'Error', message: says(`'${path}'`) }, when);
      for (const path of [undefined, null, 0, ['0']])
        assert.throws(() => curvature[method](path as never), {
          name: 'TypeError',
          message: new RegExp(`^CurvatureEstimate\\.${method}: expected path to be a string, got `),
        });
      add(4, 1);
    }
  });

  law(
    t,
    `${method}: before the first batch, and of a layer that no loss has reached, the error says what is missing`,
    () => {
      const { curvature, model } = begun();
      const none = `CurvatureEstimate.${method}: add() has brought nothing of '2' yet, nor of '0', '2': call backward() and add() before it`;
      assert.throws(() => curvature[method]('2'), { message: none });
      const [x, y] = batch(4, 1);
      crossEntropy(model.call(x), y).backward();
      assert.throws(() => curvature[method]('2'), { message: none }, 'backward() alone');

      const branches = new Branches();
      const partly = new CurvatureEstimate(branches);
      crossEntropy(branches.call(x), y).backward();
      partly.add();
      partly[method]('used');
      assert.throws(() => partly[method]('unused'), {
        message: `CurvatureEstimate.${method}: add() has brought nothing of 'unused' yet, only of 'used': did the loss depend on the layer?`,
      });
    },
  );

  t.test(`${method} works or says what is wrong`, () => {
    const { curvature, add } = begun();
    add(4, 1);
    return checkDoor(`CurvatureEstimate.${method}`, {
      call: (path: string) => curvature[method](path),
      args: () => ['0'],
    });
  });
}

t.test('new CurvatureEstimate() works or says what is wrong', () =>
  checkDoor('CurvatureEstimate', {
    call: (...args: ConstructorParameters<typeof CurvatureEstimate>) => new CurvatureEstimate(...args).detach(),
    args: () => [
      net(),
      {
        maxFactorDim: 5,
        sharing: 'reduce',
        fisher: 'ggn',
        loss: 'mse',
        lossReduction: 'mean',
        collectors: defaultCollectors,
        rng: new Generator(1),
      },
    ],
  }),
);

law(t, 'factors are copies: later batches, and writes to them, change nothing of each other', () => {
  const { curvature, add } = begun();
  add(4, 1);
  const first = curvature.factors('0');
  const [A, G] = [first.A.toArray(), first.G.toArray()];
  add(6, 2);
  assert.deepEqual([first.A.toArray(), first.G.toArray()], [A, G]);
  const now = curvature.factors('0');
  assert.notDeepEqual(now.A.toArray(), A);
  now.A.scale_(0);
  assert.ok(curvature.layers.get('0')!.A!.abs().sum().item() > 0);
});

law(t, 'add() and detach() take no argument; after detach() add() says so, and the averages stay', () => {
  const { curvature, add, model } = begun();
  assert.throws(
    () => curvature.add({ damping: 1 } as never),
    /^TypeError: CurvatureEstimate\.add: takes no argument, got \{ damping/,
  );
  assert.throws(() => curvature.detach(1 as never), /^TypeError: CurvatureEstimate\.detach: takes no argument, got 1/);
  add(4, 1);
  const before = curvature.factors('0');
  curvature.detach();
  curvature.detach();
  const [x, y] = batch(4, 2);
  crossEntropy(model.call(x), y).backward();
  assert.throws(() => curvature.add(), {
    message: 'CurvatureEstimate.add: called after detach(), which removed the hooks',
  });
  mustBeClose(curvature.factors('0').A, before.A, { rtol: 0, atol: 0 });
  curvature.operator('0').solve(randn([4, 6], at()), { damping: 1 });
});

law(t, 'an estimate prints its model, and of each layer its sizes and examples', () => {
  const { curvature, add } = begun();
  const text = (n: number) => `CurvatureEstimate of Sequential\n  '0' 4 × 6, ${n} examples\n  '2' 3 × 5, ${n} examples`;
  assert.equal(String(curvature), text(0));
  add(4, 1);
  add(3, 2);
  for (const shown of [String(curvature), inspect(curvature), JSON.parse(JSON.stringify(curvature))])
    assert.equal(shown, text(7));
});

for (const device of DEVICES)
  law(t, `'${device}': a batch that is not finite, the first or a later one, is as if it had not been`, async () => {
    const [spoilt, twin] = [begun(device), begun(device)];
    const fails = async () => {
      const bad = async () => {
        spoilt.add(5, 9, x => x.mul(Infinity));
        await spoilt.model.parameters()[0]!.data();
      };
      await assert.rejects(bad, /factor [AG] of linear '[02]' has (NaN|-?Infinity) at position \d+; nothing was added/);
    };
    await fails();
    for (const path of ['0', '2'])
      assert.throws(() => spoilt.curvature.factors(path), { message: /add\(\) has brought nothing of '\d' yet/ });
    for (const [n, seed] of [
      [4, 1],
      [7, 2],
      [2, 3],
    ] as const) {
      for (const one of [spoilt, twin]) one.add(n, seed);
      await fails();
    }
    for (const path of ['0', '2'])
      for (const side of ['A', 'G'] as const)
        assert.deepEqual(
          await spoilt.curvature.factors(path)[side].array(),
          await twin.curvature.factors(path)[side].array(),
          `${path} ${side}`,
        );
  });
