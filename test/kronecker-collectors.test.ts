// Factors too large, what is printed, and collectors of the program.

import assert from 'node:assert/strict';
import { arange, concat, Generator, noGrad, OutOfMemoryError, ones, randint, randn, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import {
  type AnyModule,
  Conv2d,
  crossEntropy,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  mlp,
  Parameter,
  Sequential,
  Tanh,
} from '@otimes/nn';
import {
  type Collector,
  defaultCollectors,
  type Eigensolver,
  EKFAC,
  KFAC,
  linearCollector,
  Muon,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { Decomposer } from '../optim/src/curvature/decompose/here.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, labels, nets, warningsOf } from './helpers/family.ts';
import { within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';
import { linearAt } from './suites/training.ts';

t.test('large factors', t => {
  /** Runs with a clock that stands still but for `seconds(n)` in each decomposition of an n × n matrix. */
  const timed = (seconds: (n: number) => number, run: (eigensolver: Eigensolver) => void): void => {
    const { now } = performance;
    let clock = 0;
    performance.now = () => clock;
    try {
      run(matrix => {
        clock += 1000 * seconds(matrix.shape[0]!);
        return eigh(matrix);
      });
    } finally {
      performance.now = now;
    }
  };

  law(
    t,
    'a decomposition that will take long is announced before it, once, by a rate that smaller ones have shown',
    () => {
      const model = new Sequential(new Linear(299, 70, { bias: false }), new Tanh(), new Linear(70, 3));
      let said: string[] = [];
      // 70³ in 0.06 s: 299³ takes 4.7 s.
      timed(
        n => (n === 70 ? 0.06 : 0),
        eigensolver => {
          const optimizer = new STEVE(model, { refreshEvery: 1, eigensolver });
          said = warningsOf(() => {
            for (let step = 0; step < 2; step++) {
              optimizer.zeroGrad();
              crossEntropy(model.call(randn([4, 299])), randint(0, 3, [4])).backward();
              optimizer.step();
            }
          });
        },
      );
      assert.equal(said.length, 1, said.join('\n'));
      assert.match(
        said[0]!,
        /^STEVE: the factor A of linear '0', 299 × 299, takes about 4\.7 s and 0\.0029 GB to decompose, again every 1 steps .*structure \('taps' or 'blocks', say\).*maxFactorDim/,
      );
    },
  );

  law(t, 'without a measurement n³ is taken at a usual rate: seconds from some 1500 on, minutes at 9217', () => {
    const decomposer = new Decomposer('STEVE', eigh, 10);
    assert.ok(decomposer.secondsOf(1000) < 2 && decomposer.secondsOf(2000) > 2);
    assert.ok(decomposer.secondsOf(9217) > 120 && decomposer.secondsOf(9217) < 3600);
  });

  law(t, 'a factor that no memory holds is refused when the optimizer is made, by layer and option', () => {
    const model = new Sequential(new Linear(30_000, 2));
    assert.throws(
      () => new STEVE(model, { structure: 'exact' }),
      (error: unknown) =>
        error instanceof OutOfMemoryError &&
        /STEVE: the factor A of linear '0' would be 30001 × 30001, 7\.2 GB in float64, .*structure .*maxFactorDim/.test(
          error.message,
        ),
    );
    crossEntropy(model.call(randn([2, 30_000])), randint(0, 2, [2])).backward();
    new STEVE(model, { maxFactorDim: 2048 }).detach();
  });

  law(t, 'memory that ends in a decomposition names the layer, and nothing has changed', () => {
    const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
    const optimizer = new EKFAC(model, {
      eigensolver: () => {
        throw new RangeError('Array buffer allocation failed');
      },
    });
    const before = bitsOf(model.stateDict());
    crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    assert.throws(
      () => optimizer.step(),
      (error: unknown) =>
        error instanceof OutOfMemoryError &&
        /EKFAC: no memory for the factors of linear '[03]'.*structure .*maxFactorDim/.test(error.message),
    );
    assert.equal(bitsOf(model.stateDict()), before);
  });
  t.end();
});

t.test('what is printed', t => {
  law(t, 'an optimizer and its description are tables of at most 80 columns, and rows keep their fields', async () => {
    const { inspect } = await import('node:util');
    const model = new Sequential(
      new Conv2d(2, 3, 3),
      new LayerNorm(5),
      new Sequential(new Sequential(new Linear(3, 3))),
    );
    const optimizer = new STEVE(model, { maxFactorDim: 4 });
    for (const text of [
      inspect(optimizer),
      String(optimizer),
      inspect(optimizer.describe()),
      `${optimizer.describe()}`,
    ])
      for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
    assert.match(
      inspect(optimizer),
      /^STEVE\(lr 0\.01, refreshEvery 10\) of Sequential, step 0\npath +collector +shape/,
    );
    assert.match(inspect(optimizer), /\n0 +conv2d +3 × 19 +expand +gradient, A identity\n/);
    assert.match(inspect(optimizer), /\n1\.weight +rest +5\n/);
    assert.deepEqual(Object.keys(optimizer.describe()[0]!), [
      'path',
      'collector',
      'shape',
      'sharing',
      'parameters',
      'route',
      'identity',
      'structure',
    ]);
    noGrad(() => assert.equal(linearAt(model, '2').weight, undefined));
  });

  law(t, 'a column of a description that no row has anything in is left out, and the rows keep their fields', () => {
    const muon = new Muon(new Sequential(new Conv2d(2, 4, 3, { groups: 2 }), new LayerNorm(5)));
    assert.deepEqual(String(muon.describe()).split('\n'), [
      'path      collector  shape',
      '0.weight  conv2d     4 × 9',
      '0.bias    rest       4',
      '1.weight  rest       5',
      '1.bias    rest       5',
    ]);
    assert.deepEqual(Object.keys(muon.describe()[0]!), Object.keys(new KFAC(new Linear(2, 2)).describe()[0]!));
    assert.match(String(new KFAC(new Linear(2, 2)).describe()), /^path +collector +shape +sharing +route\n/);
  });
  t.end();
});

t.test('collectors of the program', t => {
  type Answer = (model: AnyModule, path: string) => unknown;
  const blockOf = (module: AnyModule, path: string, changes: object = {}) => {
    const [block] = linearCollector.collect(module, path, { sharing: undefined })!;
    const { collector, sharing, tap, parameters, dOut, dIn } = block!;
    const methods = { canonical: block!.canonical, gradient: block!.gradient, add: block!.add };
    return { path, collector, sharing, tap, parameters, dOut, dIn, ...methods, ...changes };
  };
  const changed =
    (changes: object): Answer =>
    (module, path) => [blockOf(module, path, changes)];
  const stranger = new Linear(2, 2);
  const cases: [string, Answer, RegExp][] = [
    [
      'undefined',
      () => undefined,
      /expected what collect\(\) returns to be a list of blocks, .*got undefined; is its return/,
    ],
    ['3', () => 3, /expected what collect\(\) returns to be a list of blocks.*got 3$/],
    ['a block', (m, path) => blockOf(m, path), /expected what collect\(\) returns to be a list of blocks.*got \{ path/],
    ['[3]', () => [3], /expected block 0 to be a block, got 3$/],
    ['[null]', () => [null], /expected block 0 to be a block, got null$/],
    ['[{}]', () => [{}], /expected block 0's path to be a string, got undefined$/],
    ['a number for a path', changed({ path: 3 }), /block 0's path to be a string, got 3$/],
    ['no collector', changed({ collector: undefined }), /block 0's collector to be a string, got undefined$/],
    ['an unknown sharing', changed({ sharing: 'x' }), /block 0's sharing to be 'expand' or 'reduce', got 'x'$/],
    ['no tap', changed({ tap: undefined }), /block 0's tap to be a module, got undefined$/],
    ['no parameters', changed({ parameters: undefined }), /block 0's parameters to be a list .*, got undefined$/],
    ['an empty list of parameters', changed({ parameters: [] }), /block 0's parameters to be a list of one Parameter/],
    ['sizes that are none', changed({ dOut: 0 }), /block 0's dOut to be an integer ≥ 1, got 0$/],
    ['half a size', changed({ dIn: 1.5 }), /block 0's dIn to be an integer ≥ 1, got 1\.5$/],
    ['no canonical', changed({ canonical: undefined }), /block 0's canonical to be a function, got undefined$/],
    ['no gradient', changed({ gradient: 1 }), /block 0's gradient to be a function, got 1$/],
    ['no add', changed({ add: null }), /block 0's add to be a function, got null$/],
    ['a norm that is none', changed({ norm: 1 }), /block 0's norm to be a function, got 1$/],
    ['a layer that is none', changed({ layer: {} }), /block 0's layer to be a layer/],
    [
      'a layer with half a window',
      (m, path) => {
        const block = blockOf(m, path);
        const [weight, bias] = block.parameters;
        return [{ ...block, layer: { module: block.tap, weight, bias, window: { kernel: [1, 1] } } }];
      },
      /block 0's layer to be a layer .*, of a convolution with its window/,
    ],
    ['a tap from elsewhere', changed({ tap: stranger }), /the tap of block 0, a Linear, is no module of the model$/],
    ['foreign parameters', changed({ parameters: stranger.parameters() }), /block 0 has .*no parameter of the model$/],
    [
      'one path twice',
      (m, path) => [blockOf(m, path), blockOf(m, path)],
      /block 1 has the path 'layers\.0', and so has/,
    ],
  ];
  for (const [what, answer, said] of cases)
    law(t, `${what} is refused, by the names of collector and path`, () => {
      const collect = (m: AnyModule, path: string) => (m instanceof Linear ? answer(m, path) : null);
      const mine = { name: 'mine', collect } as Collector;
      const model = mlp([4, 5, 3]);
      assert.throws(
        () => new STEVE(model, { collectors: [mine, ...defaultCollectors] }),
        (e: Error) => e.message.startsWith("STEVE: collector 'mine' at 'layers.0': ") && said.test(e.message),
      );
      new STEVE(model).detach();
    });
  const wrong: [string, (x: Tensor, gy: Tensor) => unknown, RegExp][] = [
    ['undefined', () => undefined, /, got undefined$/],
    ['nothing of it', () => ({}), /, got \{\}$/],
    ['rows without positions', (a, g) => ({ a, g }), /, got a float32\[6,4\], g float32\[6,5\]$/],
    ['no homogeneous 1', (a, g) => ({ a: a.unsqueeze(1), g: g.unsqueeze(1) }), /, got a float32\[6,1,4\], g /],
  ];
  for (const [what, canonical, said] of wrong)
    law(t, `a canonical form that is ${what} is refused in backward`, () => {
      const collect: Collector['collect'] = (m, p) => (m instanceof Linear ? [blockOf(m, p, { canonical })] : null);
      const model = new Linear(4, 5);
      const optimizer = new KFAC(model, { collectors: [{ name: 'mine', collect }] });
      assert.throws(
        () =>
          model
            .call(randn([6, 4]))
            .sum()
            .backward(),
        (e: Error) => e.message.startsWith('linear collector: expected canonical() of ') && said.test(e.message),
      );
      optimizer.detach();
    });
  law(t, 'a block of what is frozen is refused', () => {
    const model = mlp([4, 5, 3]);
    const mine: Collector = { name: 'mine', collect: (m, p) => (m instanceof Linear ? [blockOf(m, p)] : null) };
    const layer = [...model.namedModules().values()].find(m => m instanceof Linear)!;
    const parameters = layer.parameters();
    const keeps: Collector = {
      name: 'mine',
      collect: (m, p) => (m === layer ? [blockOf(m, p, { parameters })] : null),
    };
    new KFAC(model, { collectors: [mine] }).detach();
    layer.bias!.requiresGrad = false;
    assert.throws(() => new KFAC(model, { collectors: [keeps] }), /KFAC: collector 'mine' at 'layers\.0': .*is frozen/);
  });
  t.end();
});

t.test('layers that a program extends', t => {
  class Doubled extends Linear {
    override forward(x: Tensor): Tensor {
      return super.forward(x).mul(2);
    }
  }
  class DoubledConv extends Conv2d {
    override forward(x: Tensor): Tensor {
      return super.forward(x).mul(2);
    }
  }
  class Causal extends MultiHeadAttention {
    override forward(x: Tensor): Tensor {
      const at = arange(x.shape[1]!);
      return super.forward(x, at.unsqueeze(1).ge(at)).mul(2);
    }
  }
  class Named extends Linear {
    override toString(): string {
      return 'Named';
    }
  }
  const claims = (module: AnyModule) =>
    new EKFAC(module)
      .describe()
      .map(({ path, collector, parameters }) => `${collector} ${path}: ${parameters.join(' ')}`);

  law(t, 'a class with a forward of its own is no Linear and no Conv2d to the collectors: rest has it', () => {
    const rest = ['rest weight: weight', 'rest bias: bias'];
    assert.deepEqual(claims(new Sequential(new Linear(2, 2), new Doubled(3, 2))).slice(1), [
      'rest 1.weight: 1.weight',
      'rest 1.bias: 1.bias',
    ]);
    const assigned = Object.assign(new Linear(3, 2), { forward: (x: Tensor) => x });
    for (const module of [new Doubled(3, 2), new DoubledConv(2, 2, 3), assigned, new (class extends Doubled {})(3, 2)])
      assert.deepEqual(claims(module), rest);
    assert.deepEqual(claims(new Named(3, 2)), ['linear : weight bias']);
  });

  law(
    t,
    'the projections of an attention with a forward of its own are blocks; one that is no plain Linear is none',
    () => {
      const blocks = ['q', 'k', 'v', 'o'].map(name => `attention ${name}: ${name}.weight ${name}.bias`);
      assert.deepEqual(claims(new Causal(4, 2)), blocks);
      const attention = Object.assign(new MultiHeadAttention(4, 2), { v: new Doubled(4, 4) });
      assert.deepEqual(claims(attention), [
        ...blocks.filter(name => !name.startsWith('attention v')),
        'rest v.weight: v.weight',
        'rest v.bias: v.bias',
      ]);
    },
  );

  law(t, 'whatever is claimed has G D A = ‖D‖² D on one example, with a forward of its own around it too', () => {
    for (const make of [(o: object) => new Named(4, 3, o), (o: object) => new Causal(4, 1, o)]) {
      const rng = new Generator(3);
      const model = make({ rng, dtype: 'float64' });
      const optimizer = new EKFAC(model, { lr: 0, refreshEvery: 1 });
      const x = randn(model instanceof Linear ? [1, 4] : [1, 1, 4], { rng, dtype: 'float64' });
      model.call(x).square().sum().backward();
      const [path, layer] = model instanceof Linear ? ['', model] : ['v', model.v];
      const D = concat([layer.weight.grad!, layer.bias!.grad!.unsqueeze(1)], 1);
      optimizer.step();
      const { A, G } = optimizer.inspect(path);
      mustBeClose(G!.matmul(D).matmul(A!), D.mul(D.square().sum()), within(1e-10));
    }
  });

  law(t, 'a class that has taken the name of a layer and has none of its members is an error that names it', () => {
    class Fake extends Module {
      static readonly builtIn = 'Linear';
      scale = new Parameter(ones([1]));
      override forward(x: Tensor): Tensor {
        return x;
      }
    }
    assert.throws(
      () => new KFAC(new Fake()),
      /^TypeError: Linear: expected a layer with weight, bias, got Fake without weight; /,
    );
  });
  t.end();
});
