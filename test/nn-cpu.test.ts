/** `await model.cpu()`: a model comes back from any device, all of it or nothing. */

import assert from 'node:assert/strict';
import { Generator, getBackend, noGrad, randn, type Tensor, tensor } from '@otimes/core';
import { BatchNorm2d, Conv2d, crossEntropy, Flatten, Linear, Module, Parameter, Sequential } from '@otimes/nn';
import { Adam, KFAC } from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const later = laterDevice().device;

/** Parameters, one of them frozen, two tied ones, buffers, and a map and a set with parameters. */
class Net extends Module {
  readonly body: Sequential;
  readonly tied: Linear;
  readonly more = new Map([['a', new Parameter(randn([2], { rng: new Generator(3) }))]]);
  readonly set = new Set([new Parameter(randn([2], { rng: new Generator(4) }))]);
  constructor() {
    super();
    const rng = new Generator(1);
    this.body = new Sequential(
      new Conv2d(1, 2, 3, { rng }),
      new BatchNorm2d(2),
      new Flatten(),
      new Linear(8, 3, { rng }),
    );
    this.tied = new Linear(8, 3, { rng });
    this.tied.weight = (this.body.layers[3] as Linear).weight;
    this.tied.bias!.requiresGrad = false;
  }
  override forward(x: Tensor): Tensor {
    return this.body.call(x);
  }
}

const images = (device: string) => randn([4, 1, 4, 4], { rng: new Generator(2), device });
const labels = (device: string) => tensor([0, 1, 2, 0], { dtype: 'int32', device });
const devicesOf = (model: Module) =>
  [...model.namedParameters().values(), ...model.namedBuffers().values()].map(x => x.device);

law(
  t,
  'parameters and buffers come back from every device as they are, and the promise is of the same module',
  async () => {
    for (const device of DEVICES) {
      const [model, there] = [new Net(), new Net().to(device)];
      const before = [...there.namedParameters().values()];
      for (const one of [model, there]) one.call(images(one === model ? 'cpu' : device)); // running statistics
      assert.equal(await there.cpu(), there);
      assert.ok(devicesOf(there).every(one => one === 'cpu'));
      const [state, expected] = [there.stateDict(), model.stateDict()];
      assert.deepEqual(Object.keys(state), Object.keys(expected));
      for (const [key, x] of Object.entries(state))
        if (device === 'cpu' || !key.includes('running')) assert.deepEqual(x.toArray(), expected[key]!.toArray(), key);
      assert.equal(there.tied.weight, (there.body.layers[3] as Linear).weight, 'tied ones stay tied');
      assert.equal(there.tied.bias!.requiresGrad, false);
      assert.ok(there.parameters().every(p => p instanceof Parameter && p.isLeaf));
      const isSame = there.parameters().every((p, i) => p === before[i]);
      assert.equal(isSame, device === 'cpu', 'what is on the CPU is not changed');
    }
  },
);

law(t, 'a model that was trained on a device goes on on the CPU, with a new optimizer', async () => {
  for (const make of [(m: Module) => new Adam(m.parameters()), (m: Module) => new KFAC(m, { route: 'resident' })]) {
    const model = new Sequential(new Flatten(), new Linear(16, 3, { rng: new Generator(1) })).to(later);
    const optimizer = make(model);
    const step = async (one: { step(): unknown; zeroGrad(): void }, device: string) => {
      one.zeroGrad();
      crossEntropy(model.call(images(device)), labels(device)).backward();
      await one.step();
    };
    await step(optimizer, later);
    await step(optimizer, later);
    const values = await Promise.all(model.parameters().map(p => p.array()));
    if (optimizer instanceof KFAC) optimizer.detach();
    await model.cpu();
    assert.deepEqual(
      model.parameters().map(p => p.toArray()),
      values,
    );
    await assert.rejects(step(optimizer, 'cpu'), /the model moved to another device|after detach/);
    await step(make(model), 'cpu');
    assert.notDeepEqual(
      model.parameters().map(p => p.toArray()),
      values,
    );
  }
});

law(
  t,
  'all or nothing: a field that cannot be set, a check that failed, and a change while the values are read',
  async () => {
    const checks: Record<
      string,
      readonly [spoil: (model: Net) => unknown, meanwhile: (model: Net) => void, message: RegExp]
    > = {
      'a read-only field': [
        model => Object.freeze(model.tied),
        () => {},
        /^Net\.cpu: nothing was changed, since 'tied\.weight' cannot be set/,
      ],
      'a check that failed': [
        () => {
          const at = tensor([9], { device: later, dtype: 'int32' });
          getBackend(later).checkIndex!(at, 3, (_, value) => new RangeError(`bad: ${value}`));
        },
        () => {},
        /^bad: 9$/,
      ],
      'a write': [
        () => {},
        model => noGrad(() => model.tied.weight.scale_(2)),
        /^Net\.cpu: 'body\.3\.weight' changed while the values were read; nothing was moved\./,
      ],
      'another parameter': [
        () => {},
        model => {
          model.tied.bias = new Parameter(randn([3], { device: later }));
        },
        /^Net\.cpu: a field of 'tied' changed while the values were read; nothing was moved\./,
      ],
    };
    for (const [what, [spoil, meanwhile, message]] of Object.entries(checks)) {
      const model = new Net().to(later);
      spoil(model);
      const moving = model.cpu();
      meanwhile(model);
      await assert.rejects(moving, ({ message: text }: Error) => {
        assert.match(text, message, what);
        return true;
      });
      assert.ok(
        devicesOf(model).every(device => device === later),
        what,
      );
      if (what === 'a read-only field') continue;
      await model.cpu();
      assert.ok(devicesOf(model).every(device => device === 'cpu'));
    }
  },
);

law(t, 'to() from a device that is read with await names the parameter and cpu(), and moves nothing', async () => {
  const model = new Net().to(later);
  const says = `Net.to: 'body.0.weight' is on 'later', which is read with await: await model.cpu() moves the model to 'cpu'`;
  assert.throws(() => model.to('cpu'), { name: 'TypeError', message: says });
  assert.throws(() => model.to('reference'), { name: 'TypeError', message: `${says}, and to('reference') then there` });
  assert.ok(devicesOf(model).every(device => device === later));
  assert.ok(devicesOf((await model.cpu()).to('reference')).every(device => device === 'reference'));
  await assert.rejects(model.cpu(...([{ device: 'cpu' }] as never[])), {
    message: /^cpu: there is no option 'device'/,
  });
});
