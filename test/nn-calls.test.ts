// What layers of the program keep, hooks and forward passes that are not what they should be, and what errors say.

import assert from 'node:assert/strict';
import { noGrad, randint, type Tensor } from '@otimes/core';
import { nameOf } from '@otimes/core/extend';
import {
  Conv2d,
  crossEntropy,
  isLayer,
  Linear,
  Module,
  MultiHeadAttention,
  mlp,
  Sequential,
  Tanh,
  TransformerBlock,
} from '@otimes/nn';
import { Adam, Schedule, SGD } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { x } from './helpers/modules.ts';

// --- what is kept ---

/** Ways in which a program keeps what it sees between the layers of a container. */
const keepers: Record<string, (see: (x: Tensor) => void) => Module> = {
  'a subclass': see => {
    class Remembers extends Linear {
      override forward(x: Tensor): Tensor {
        const y = super.forward(x);
        for (const one of [x, y, y.mul(2)]) see(one);
        return y;
      }
    }
    return new Remembers(4, 4);
  },
  'a subclass of a subclass': see => {
    class Base extends Tanh {}
    class Remembers extends Base {
      override forward(x: Tensor): Tensor {
        see(x);
        return super.forward(x);
      }
    }
    return new Remembers();
  },
  'a subclass that overrides call': see => {
    class Calls extends Linear {
      override call(x: Tensor): Tensor {
        const y = super.call(x);
        see(y.mul(2));
        return y;
      }
    }
    return new Calls(4, 4);
  },
  'a forward of its own': see => {
    const layer = new Linear(4, 4);
    const { forward } = layer;
    layer.forward = x => {
      see(x.mul(3));
      const y = forward.call(layer, x);
      see(y);
      return y;
    };
    return layer;
  },
  'a substituted forward': see => {
    const layer = new Linear(4, 4);
    layer.substitute(x => {
      see(x.mul(2));
      return layer.forward(x);
    });
    return layer;
  },
  'a hook that computes': see => {
    const layer = new Linear(4, 4);
    layer.onForward((_, __, y) => see((y as Tensor).mul(2)));
    return layer;
  },
  'a hook before': see => {
    const layer = new Linear(4, 4);
    layer.beforeForward((_, [x]) => see((x as Tensor).mul(2)));
    return layer;
  },
  'a container': see => {
    class Remembers extends Sequential {
      override forward(x: Tensor): Tensor {
        see(x);
        const y = super.forward(x);
        see(y);
        return y;
      }
    }
    return new Remembers(new Linear(4, 4), new Tanh());
  },
};

/** Containers of the library around a layer [..., 4] → [..., 4]. */
const around: Record<string, (layer: Module) => Module> = {
  Sequential: layer => new Sequential(new Linear(4, 4), layer, new Tanh()),
  'Sequential in a Sequential': layer =>
    new Sequential(new Linear(4, 4), new Sequential(new Tanh(), layer), new Tanh()),
  TransformerBlock: layer => {
    const block = new TransformerBlock(4, 2, { mlpRatio: 1 });
    Reflect.set(block, 'activation', layer);
    return new Sequential(block, new Tanh());
  },
  MultiHeadAttention: layer => {
    const attention = new MultiHeadAttention(4, 2);
    Reflect.set(attention, 'v', layer);
    return new Sequential(new Tanh(), attention);
  },
};
for (const [where, wrap] of Object.entries(around))
  law(t, `${where}: a layer of the program's own keeps what it sees, after backward and under noGrad`, () => {
    for (const [how, make] of Object.entries(keepers))
      for (const recording of [true, false]) {
        const seen: Tensor[] = [];
        const model = wrap(make(one => void seen.push(one)));
        const run = () => model.call(x(2, 3, 4));
        if (recording) run().sum().backward();
        else noGrad(run);
        assert.ok(seen.length > 0, how);
        for (const one of seen) assert.ok(one.sum().item() < Infinity, how);
      }
  });

law(t, 'a container of layers of the library keeps nothing, wherever else a layer remembers', () => {
  const insides = (model: Sequential) => {
    const seen: Tensor[] = [];
    model.layers[1]!.onForward((_, __, y) => void seen.push(y as Tensor), { borrows: true });
    model.call(x(2, 4)).sum().backward();
    return seen.map(one => one.storage.released);
  };
  insides(
    new Sequential(
      new Linear(4, 4),
      keepers['a subclass']!(() => {}),
      new Tanh(),
    ),
  );
  assert.deepEqual(insides(new Sequential(new Linear(4, 4), new Tanh(), new Linear(4, 2))), [true]);
  for (const layer of [new Linear(1, 1), new Tanh(), mlp([1, 1]), new Sequential()]) assert.ok(!layer.keepsTensors());
});

// --- hooks and forward passes that are not what they should be ---

const wrong: Record<string, [make: () => Module, message: RegExp]> = {
  'an async forward hook': [
    () => hooked(m => m.onForward(async () => {})),
    /Tanh: expected a forward hook to return nothing, .* got a promise; hooks are synchronous/,
  ],
  'a forward hook that returns a number': [() => hooked(m => m.onForward(() => 3)), /got 3/],
  'a forward hook that returns null': [() => hooked(m => m.onForward(() => null)), /got null/],
  'an async hook before': [
    () => hooked(m => m.beforeForward((async () => {}) as never)),
    /Tanh: a hook before the forward pass must return nothing.*a promise/,
  ],
  'a hook before that returns an input': [
    () => hooked(m => m.beforeForward(((_: unknown, [x]: Tensor[]) => x!.mul(2)) as never)),
    /cannot change the input; got float32/,
  ],
  'an async forward': [
    () => new Sequential(returning(async (x: Tensor) => x)),
    /Odd: expected forward to return a tensor or other result, got a promise; forward passes are synchronous/,
  ],
  'a last layer that gives a number': [
    () =>
      new Sequential(
        new Linear(3, 2),
        returning(() => 3),
      ),
    /^TypeError: Sequential: expected the output of layer 1, Odd, to be a tensor, got 3;/,
  ],
  'a layer in between that gives a list': [
    () =>
      new Sequential(
        new Linear(3, 2),
        returning(y => [y]),
        new Tanh(),
      ),
    /^TypeError: Sequential: expected the output of layer 1, Odd, to be a tensor, got \[float32\[2,2\]\];/,
  ],
  'a forward without a return': [() => returning(() => undefined), /Odd: .* got undefined; is its return missing\?/],
};
function hooked(add: (layer: Module) => unknown): Module {
  const layer = new Tanh();
  add(layer);
  return new Sequential(new Linear(3, 3), layer, new Linear(3, 2));
}
function returning(forward: (x: Tensor) => unknown): Module {
  class Odd extends Module {
    override forward(x: Tensor): Tensor {
      return forward(x) as Tensor;
    }
  }
  return new Odd();
}
for (const [what, [make, message]] of Object.entries(wrong))
  law(t, `${what} is an error that says so`, () => {
    const model = make();
    assert.throws(() => model.call(x(2, 3)), message);
    // The next call is a call like the first.
    assert.throws(() => model.call(x(2, 3)), message);
  });

law(t, 'calls and constructors say what was meant', () => {
  const from = (run: () => unknown, message: RegExp) => assert.throws(run, message);
  from(() => Reflect.construct(Sequential, [[new Tanh()]]), /Sequential: expected layer 0 .*new Sequential\(a, b\)/);
  from(
    () => Reflect.construct(Sequential, [(x: Tensor) => x]),
    /Sequential: expected layer 0 to be a module, got a function/,
  );
  from(
    () => Reflect.construct(Adam, [mlp([1, 1])]),
    /Adam: expected parameters .*did you mean model\.parameters\(\)\?/,
  );
  from(
    () => Reflect.construct(SGD, [mlp([1, 1]).parameters(), 0.1]),
    /SGD: expected options such as \{ lr, .* got 0\.1/,
  );
  from(() => Reflect.construct(SGD, [mlp([1, 1]).namedParameters()]), /SGD: parameter 0 .* give the values\(\)/);
  const optimizer = new Adam(mlp([1, 1]).parameters());
  from(() => Reflect.apply(optimizer.step, optimizer, [() => 1]), /Adam\.step: takes no argument, got a function/);
  from(() => new Conv2d(3, 4, 3).call(x(1, 8, 8, 3)), /Conv2d: expected an input \[N, 3, H, W\].*channels come first/);
  from(
    () => crossEntropy(x(2, 5, 7), randint(0, 7, [2, 5])),
    /crossEntropy: expected labels int32\[2,7\].*classes stand on axis 1/,
  );
  from(
    () => Reflect.apply(Linear.prototype.call, new Linear(1, 1), [[1]]),
    /Linear: expected its input to be a tensor/,
  );
  from(() => Reflect.apply(Linear.prototype.call, new Linear(1, 1), [x(1, 1), 2]), /Linear: expected 1 input, got 2/);
  const attention = new MultiHeadAttention(2, 1);
  from(
    () => Reflect.apply(attention.call, attention, [x(1, 1, 2), undefined, 3]),
    /MultiHeadAttention: expected key and value to be tensors, got undefined and 3/,
  );
  Reflect.set(
    attention,
    'o',
    returning(() => 3),
  );
  from(() => attention.call(x(1, 1, 2)), /MultiHeadAttention: expected its output to be a tensor, got 3/);
  from(() => Reflect.apply(Sequential.prototype.forward, new Sequential(), [3]), /Sequential: expected its output/);
  const { weight } = new Linear(1, 1, { bias: false }).stateDict();
  from(() => new Linear(1, 1).loadStateDict({ weight: weight! }), /nothing was loaded, since 1 entry is wrong/);
  from(
    () => new Schedule(optimizer, () => Number.NaN),
    /Schedule: expected the rule to give a rate ≥ 0 at step 0, got NaN/,
  );
});

law(t, 'messages name layers and optimizers as they are written, whatever a minifier makes of the classes', () => {
  for (const [made, name] of [
    [new Linear(1, 1), 'Linear'],
    [new Adam(mlp([1, 1]).parameters()), 'Adam'],
    [mlp([1, 1]), 'MLP'],
  ] as const)
    assert.ok(Object.hasOwn(made.constructor, 'builtIn') && String(made).startsWith(name), name);
  const Qx = class extends Linear {};
  Object.defineProperty(Qx, 'name', { value: 'q' });
  assert.match(String(new Qx(1, 1)), /^Linear\(/);
});

law(t, 'isLayer says what instanceof says, of subclasses and unlike them of layers of another copy, too', () => {
  class Wide extends Linear {}
  class Wider extends Wide {}
  const classes = { Linear, Conv2d, MultiHeadAttention, Sequential, Tanh, TransformerBlock };
  const modules: Module[] = [new Linear(1, 1), new Wide(1, 1), new Wider(1, 1), new Conv2d(1, 1, 1), mlp([1, 1])];
  for (const made of [...modules, new MultiHeadAttention(1, 1), new TransformerBlock(2, 1), new Tanh()])
    for (const [name, Class] of Object.entries(classes) as [keyof typeof classes, typeof Module][])
      assert.equal(isLayer(made, name), made instanceof Class, `${nameOf(made)} as ${name}`);
  const theirs = Object.assign(class {}, { builtIn: 'Conv2d' });
  const copy = new (class extends theirs {})() as Module;
  assert.ok(isLayer(copy, 'Conv2d') && !(copy instanceof Conv2d));
});

law(t, 'isLayer takes the name of a layer and a module; anything else is an error', () => {
  const asked = isLayer as (...args: unknown[]) => boolean;
  for (const [name, hint] of [
    ['linear', "; did you mean 'Linear'\\?"],
    ['Module', ''],
    ['toString', ''],
  ])
    assert.throws(() => asked(new Linear(1, 1), name), {
      name: 'RangeError',
      message: new RegExp(`^isLayer: expected the name to be the name of a layer's class, .*got '${name}'${hint}$`),
    });
  for (const module of [null, undefined, 3, 'Linear'])
    assert.throws(() => asked(module, 'Linear'), /^TypeError: isLayer: expected the module to be a module, got /);
});
