/** Matrix and first-order optimizers of the program: what is missing or wrong in a class is told, and nothing has changed. */

import assert from 'node:assert/strict';
import { Generator, ones, randint, randn, type Tensor, zeros } from '@otimes/core';
import { type AnyModule, crossEntropy, mlp } from '@otimes/nn';
import {
  type Direction,
  GradientOptimizer,
  MATRIX_OPTIONS,
  type MatrixDefaults,
  MatrixOptimizer,
  type ParameterState,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { SAVED } from '../optim/src/curvature/layer.ts';
import { SAVED_COUNTS } from '../optim/src/kronecker/state.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';

const js = (value: unknown) => value as never;
const net = () => mlp([4, 5, 3], { rng: new Generator(1) });
const back = (model: AnyModule) => {
  const rng = new Generator(2);
  crossEntropy(model.call(randn([8, 4], { rng })) as Tensor, randint(0, 3, [8], { rng })).backward();
};

// --- matrices -----------------------------------------------------------------------------------------------------------------

const defaults: MatrixDefaults = { lr: 0.1, rest: left => new SGD(left, { lr: 0.1 }), restGain: Infinity };

class Heavy extends MatrixOptimizer {
  constructor(model: AnyModule, o: unknown = {}, base: unknown = defaults) {
    super(model, js(o), js(base));
  }
  protected override get slotNames(): readonly string[] {
    return ['m'];
  }
  protected override direction(g: Tensor, [before]: readonly Tensor[]): Direction {
    const m = before!.mul(0.9).add(g);
    return { update: m, slots: [m.clone()] };
  }
}

const wrong: Record<string, readonly [make: (model: AnyModule) => unknown, message: string]> = {
  'without defaults': [
    m => new Heavy(m, {}, null),
    'Heavy: expected the third argument of MatrixOptimizer to be an object such as { lr, rest, restGain }, got null',
  ],
  'without a default lr': [
    m => new Heavy(m, {}, { ...defaults, lr: undefined }),
    "Heavy: expected the third argument of MatrixOptimizer's lr to be a finite number ≥ 0, got undefined",
  ],
  'without a default rest': [
    m => new Heavy(m, {}, { lr: 1, restGain: 1 }),
    "Heavy: expected the third argument of MatrixOptimizer's rest to be a function, got undefined",
  ],
  'with a restGain that is no number': [
    m => new Heavy(m, {}, { ...defaults, restGain: NaN }),
    "Heavy: expected the third argument of MatrixOptimizer's restGain to be a number ≥ 0 or Infinity, got NaN",
  ],
  'without options': [
    m => new Heavy(m, null),
    'Heavy: expected its options to be an object of options, {} for none, got null',
  ],
  'with an option of another kind': [
    m => new Heavy(m, { collectors: 3 }),
    `Heavy: expected collectors to be ${MATRIX_OPTIONS.collectors.expected}, got 3`,
  ],
};
const members: readonly [member: string, value: unknown, message: string][] = [
  ['direction', undefined, 'expected its direction to be a function, got undefined'],
  [
    'slotNames',
    undefined,
    "expected its slotNames to be a list of names without dots, such as ['m'], got undefined: the base asks before fields are set, " +
      "so write a getter: get slotNames() { return ['m']; }",
  ],
  ['slotNames', 'm', "expected its slotNames to be a list of names without dots, such as ['m'], got 'm'"],
  ['slotNames', ['m', 'm'], "its slotNames have 'm' twice"],
  ['slotNames', ['a.b'], "expected its slotNames to be a list of names without dots, such as ['m'], got ['a.b']"],
];
for (const [member, value, message] of members)
  wrong[`whose ${member} is ${JSON.stringify(value)}`] = [
    model => {
      class Odd extends Heavy {}
      Object.defineProperty(Odd.prototype, member, { value });
      return new Odd(model);
    },
    `Odd: ${message}`,
  ];

for (const [what, [make, message]] of Object.entries(wrong))
  law(t, `a matrix optimizer ${what} is refused when it is made`, () => {
    const model = net();
    assert.throws(() => make(model), { name: 'TypeError', message });
    back(model);
    new Heavy(model).step();
  });

// --- first order --------------------------------------------------------------------------------------------------------------

type Options = { lr: number };

/** Counts its updates in a number, and remembers the last gradient. */
class Last extends GradientOptimizer<Options> {
  spoil: (state: ParameterState, p: Tensor) => void = () => {};
  constructor(parameters: Tensor[]) {
    super(parameters, { lr: 0.5 }, {}, () => {});
  }
  protected override slotNames(_o: Options): readonly string[] {
    return ['last'];
  }
  protected override numberNames(): readonly string[] {
    return ['times'];
  }
  protected override update(p: Tensor, g: Tensor, state: ParameterState, { lr }: Options): void {
    state.slot('last').copy_(g);
    state.numbers.set('times', (state.numbers.get('times') ?? 0) + 1);
    p.addScaled_(g, -lr);
    this.spoil(state, p);
  }
}

const spoilt: Record<
  string,
  readonly [spoil: (state: ParameterState, p: Tensor) => void, got: (device: string) => string]
> = {
  'a slot that slotNames has not': [
    (state, p) => state.slots.set('other', p.clone()),
    on => `the slots that slotNames() says, 'last', each float32[2] on '${on}'; got 'other'`,
  ],
  'no slot where slotNames has one': [
    state => state.slots.delete('last'),
    on => `the slots that slotNames() says, 'last', each float32[2] on '${on}'; got no 'last'`,
  ],
  'a slot of another shape': [
    (state, p) => state.slots.set('last', zeros([3], { device: p.device })),
    on => `the slots that slotNames() says, 'last', each float32[2] on '${on}'; got 'last' float32[3] on '${on}'`,
  ],
  'a number that numberNames has not': [
    state => state.numbers.set('more', 1),
    () => "the finite numbers that numberNames() says, ['times']; got { times, more }",
  ],
  'a number that is not finite': [
    state => state.numbers.set('times', NaN),
    () => "the finite numbers that numberNames() says, ['times']; got { times }",
  ],
};

for (const device of DEVICES)
  for (const [what, [spoil, got]] of Object.entries(spoilt))
    law(t, `${device}: ${what} is an error after the first update, and all parameters are what they were`, async () => {
      const parameters = [1, 2, 3].map(() => ones([2], { device, requiresGrad: true }));
      const optimizer = new Last(parameters);
      for (const p of parameters) p.square().sum().backward();
      optimizer.spoil = (state, p) => {
        if (p === parameters[1]) spoil(state, p);
      };
      assert.throws(() => optimizer.step(), {
        name: 'TypeError',
        message: `Last: after an update expected parameter 1, float32[2], to have ${got(device)}. A state dict of it could not be loaded`,
      });
      assert.deepEqual(Object.keys(optimizer.stateDict()), ['lr', '0.step', '1.step', '2.step']);
      for (const p of parameters) assert.deepEqual(await p.array(), [1, 1]);
      optimizer.spoil = () => {};
      optimizer.step();
      for (const p of parameters) assert.deepEqual(await p.array(), [0, 0]);
      // Later ones are told before anything is saved.
      optimizer.spoil = spoil;
      optimizer.step();
      assert.throws(() => optimizer.stateDict(), { message: /A state dict of it could not be loaded$/ });
    });

law(t, 'members of a first-order class that are missing or wrong are told in its first step', () => {
  const odd: readonly [member: string, value: unknown, message: string][] = [
    ['update', undefined, 'Odd: expected its update to be a function, got undefined'],
    ['slotNames', ['last'], "Odd: expected its slotNames to be a function, got ['last']"],
    ['numberNames', 3, 'Odd: expected its numberNames to be a function, got 3'],
    [
      'slotNames',
      () => ['step'],
      "Odd: its slotNames and numberNames have 'step', under which a state dict has something else; taken are step",
    ],
    ['numberNames', () => ['last'], "Odd: its slotNames and numberNames have 'last' twice"],
  ];
  for (const [member, value, message] of odd) {
    class Odd extends Last {}
    Object.defineProperty(Odd.prototype, member, { value });
    const p = ones([2], { requiresGrad: true });
    const optimizer = new Odd([p]);
    p.sum().backward();
    assert.throws(() => optimizer.step(), { name: 'TypeError', message });
    assert.deepEqual(p.toArray(), [1, 1]);
  }
});

// --- names --------------------------------------------------------------------------------------------------------------------

law(t, 'no slot of a rule may have a name under which a block saves something of its own', () => {
  const own = new Set<string>();
  for (const route of ['gradient', 'resident'] as const) {
    const model = net();
    const optimizer = new STEVE(model, { route, refresh: 'background', refreshEvery: 2, refreshLag: 2 });
    for (let step = 0; step < 3; step++) {
      optimizer.zeroGrad();
      back(model);
      optimizer.step();
    }
    const prefix = 'blocks.layers.0.';
    for (const key of Object.keys(optimizer.stateDict()))
      if (key.startsWith(prefix)) own.add(key.slice(prefix.length).split('.')[0]!);
  }
  assert.ok(own.has('job') && own.has('W'), 'all that there can be is there');
  assert.deepEqual([...own].sort(), [...SAVED, ...SAVED_COUNTS, 'm', 'v'].sort());
});
