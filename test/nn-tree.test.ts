// A module as a tree: going through it, freezing it, and moving it to another dtype.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor, tensor } from '@otimes/core';
import { BatchNorm2d, Dropout, Linear, Module, mlp, nllLoss, ReLU, Sequential } from '@otimes/nn';
import { Adam, AdamW, EKFAC, KFAC, Muon, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';

const rng = () => new Generator(3);
const x = (...shape: number[]) => randn(shape, { rng: rng() });

class Net extends Module {
  readonly body: Sequential;
  readonly heads: Linear[];

  constructor() {
    super();
    const shared = new Linear(3, 3, { rng: rng() });
    this.body = new Sequential(shared, new ReLU(), shared);
    this.heads = [new Linear(3, 2, { rng: rng() })];
  }

  override forward(z: Tensor): Tensor {
    return this.heads[0]!.call(this.body.call(z));
  }
}

law(
  t,
  'children are the modules right below, once each; modules are those of the whole tree, the first one above all',
  () => {
    const net = new Net();
    assert.deepEqual([...net.namedChildren().keys()], ['body', 'heads.0']);
    assert.deepEqual(net.children(), [net.body, net.heads[0]]);
    assert.deepEqual(net.modules(), [...net.namedModules().values()]);
    assert.deepEqual([net.modules()[0], net.modules().length], [net, 5]);
    assert.deepEqual(net.heads[0]!.children(), []);
  },
);

law(t, 'apply visits each module after those below it, as PyTorch does, and returns the module', () => {
  const seen: string[] = [];
  const net = new Net();
  const back = net.apply(one => void seen.push(one.constructor.name));
  assert.equal(back, net);
  assert.deepEqual(seen, ['Linear', 'ReLU', 'Sequential', 'Linear', 'Net']);
  net.apply(one => {
    if (one instanceof Linear) noGrad(() => one.weight.scale_(0));
  });
  assert.equal(net.body.layers[0]!.parameters()[0]!.abs().sum().item(), 0);
});

const optimizers = {
  SGD: (net: Module) => new SGD(net.parameters(), { lr: 0.1, momentum: 0.9, weightDecay: 0.1 }),
  Adam: (net: Module) => new Adam(net.parameters(), { lr: 0.1, weightDecay: 0.1 }),
  AdamW: (net: Module) => new AdamW(net.parameters(), { lr: 0.1, weightDecay: 0.1 }),
  KFAC: (net: Module) => new KFAC(net, { lr: 0.1, weightDecay: 0.1 }),
  EKFAC: (net: Module) => new EKFAC(net, { lr: 0.1, weightDecay: 0.1 }),
  STEVE: (net: Module) => new STEVE(net, { lr: 0.1, weightDecay: 0.1 }),
  Muon: (net: Module) => new Muon(net, { lr: 0.1, weightDecay: 0.1 }),
};

for (const [name, make] of Object.entries(optimizers))
  law(
    t,
    `${name}, made before: parameters of a frozen layer stay to the bit, the others go on, and unfreeze takes them up again`,
    () => {
      const net = new Sequential(
        mlp([3, 4], { rng: rng() }),
        new Linear(4, 4, { rng: rng() }),
        new Linear(4, 2, { rng: rng() }),
      );
      const optimizer = make(net);
      const y = tensor([0, 1, 1, 0], { dtype: 'int32' });
      const step = (between?: () => void) => {
        optimizer.zeroGrad();
        nllLoss(net.call(x(4, 3)).logSoftmax(1), y).backward();
        between?.();
        optimizer.step();
      };
      const values = () => Object.values(net.stateDict()).map(one => one.toArray());
      step();
      step();
      const before = values();
      // Also where a backward pass has left it gradients.
      step(() => net.layers[1]!.freeze());
      step();
      const frozen = values();
      assert.deepEqual(frozen.slice(2, 4), before.slice(2, 4));
      for (const i of [0, 1, 4, 5]) assert.notDeepEqual(frozen[i], before[i]);
      net.layers[1]!.unfreeze();
      step();
      assert.notDeepEqual(values()[2], frozen[2]);
    },
  );

law(t, 'freeze and unfreeze are requiresGrad_ of the whole tree, and drop gradients alone', () => {
  const net = new Net();
  net.call(x(2, 3)).sum().backward();
  assert.ok(net.parameters().every(p => p.grad !== null));
  assert.equal(net.freeze(), net);
  assert.ok(net.parameters().every(p => !p.requiresGrad && p.grad === null));
  assert.ok(!net.call(x(2, 3)).requiresGrad);
  assert.ok(
    net
      .unfreeze()
      .parameters()
      .every(p => p.requiresGrad),
  );
  assert.ok(
    net
      .requiresGrad_(false)
      .parameters()
      .every(p => !p.requiresGrad),
  );
});

law(
  t,
  'to(dtype): floating parameters and buffers become new tensors of that dtype, tied ones one; integers stay',
  () => {
    const net = new Net();
    const norm = new BatchNorm2d(2);
    const count = norm.numBatchesTracked;
    const [first, , third] = net.body.layers as unknown as Linear[];
    const before = first!.weight;
    net.heads[0]!.freeze();
    assert.equal(net.double(), net);
    assert.ok(net.parameters().every(p => p.dtype === 'float64'));
    assert.ok(first!.weight === third!.weight && first!.weight !== before);
    assert.deepEqual(first!.weight.toArray(), before.toArray());
    assert.ok(!net.heads[0]!.weight.requiresGrad && first!.weight.requiresGrad);
    assert.equal(net.call(x(2, 3).astype('float64')).dtype, 'float64');
    norm.to('float64');
    assert.deepEqual(
      [norm.runningMean!.dtype, norm.runningVar!.dtype, norm.numBatchesTracked],
      ['float64', 'float64', count],
    );
    const same = first!.weight;
    net.double();
    assert.equal(first!.weight, same);
    assert.deepEqual(net.float().stateDict()['body.0.weight']!.toArray(), before.toArray());
  },
);

law(t, 'an optimizer that was made before a change of dtype says so', () => {
  for (const [name, make] of Object.entries(optimizers)) {
    const net = new Sequential(new Linear(3, 2));
    const optimizer = make(net);
    net.double();
    net.call(x(4, 3).astype('float64')).sum().backward();
    assert.throws(() => optimizer.step(), /make the optimizer (after model\.to|anew)/, name);
  }
});

law(t, 'wrong arguments are refused', () => {
  const net = new Sequential(new Dropout());
  const given = net as unknown as Record<string, (...x: unknown[]) => unknown>;
  assert.throws(() => given.apply!(3), /apply: expected visit to be a function, got 3/);
  assert.throws(() => given.freeze!('head'), /freeze: expected no options, got 'head'/);
  assert.throws(() => new Sequential(new Linear(1, 1)).to('int32'), /int32/);
  const linear = new Linear(1, 1) as unknown as Record<string, (...x: unknown[]) => unknown>;
  assert.throws(() => linear.requiresGrad_!('no'), /requiresGrad: /);
});
