/** Matrix and first-order optimizers of the program: what is missing or wrong in a class is told, and nothing has changed. */

import assert from 'node:assert/strict';
import { Generator, ones, randint, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { type AnyModule, crossEntropy, mlp } from '@otimes/nn';
import {
  type Direction,
  GradientOptimizer,
  type HostWork,
  MATRIX_OPTIONS,
  type MatrixDefaults,
  MatrixOptimizer,
  type MatrixStep,
  type ParameterState,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { SAVED } from '../optim/src/curvature/layer.ts';
import { SAVED_COUNTS } from '../optim/src/kronecker/state.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';

const js = (value: unknown) => value as never;
const net = () => mlp([4, 5, 3], { rng: new Generator(1) });
const back = (model: AnyModule) => {
  const rng = new Generator(2);
  const { device } = model.parameters()[0]!;
  const [x, y] = [randn([8, 4], { rng }).to(device), randint(0, 3, [8], { rng }).to(device)];
  crossEntropy(model.call(x) as Tensor, y).backward();
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

const further: Record<string, readonly [value: unknown, message: string]> = {
  weightDecay: [-1, 'a finite number ≥ 0, got -1'],
  counts: ['yes', "true or false, got 'yes'"],
  slots: [['m'], "a function, got ['m']"],
  squares: ['v', "a list of names, got 'v'"],
};
for (const [member, [value, message]] of Object.entries(further))
  law(t, `a matrix optimizer whose third argument has another ${member} is refused when it is made`, () => {
    assert.throws(() => new Heavy(net(), {}, { ...defaults, [member]: value }), {
      message: `Heavy: expected the third argument of MatrixOptimizer's ${member} to be ${message}`,
    });
  });

/** Keeps a factor of rows, whose trace the host computes for every other step. */
class Factored extends MatrixOptimizer {
  answer: unknown;
  isWrong = false;
  constructor(model: AnyModule) {
    super(model, {}, { ...defaults, counts: true, slots: rows => ({ L: [rows, rows], scale: [] }) });
  }
  protected override get slotNames(): readonly string[] {
    return [];
  }
  protected override hostWork(g: Tensor, [L]: readonly Tensor[], { steps }: MatrixStep): HostWork | null {
    if (this.isWrong) return js(this.answer);
    if (steps % 2 !== 0) return null;
    return { reads: [L!.add(g.matmul(g.transpose()))], solve: ([F]) => [tensor(1 / Math.sqrt(1 + trace(F!)))] };
  }
  protected override direction(
    g: Tensor,
    [L, scale]: readonly Tensor[],
    { rows, columns, path }: MatrixStep,
    [now]: readonly Tensor[],
  ): Direction {
    assert.deepEqual(g.shape, [rows, columns], path);
    return { update: g.mul(now ?? scale!), slots: [L!.add(g.matmul(g.transpose())), now ?? scale!] };
  }
}
const trace = (F: Tensor): number => (F.toArray() as number[][]).reduce((sum, row, i) => sum + row[i]!, 0);

law(
  t,
  'a matrix optimizer of a program keeps factors, and has the host compute: the same on every device',
  async () => {
    const ends: number[][] = [];
    for (const device of DEVICES) {
      const model = net().to(device) as AnyModule;
      const optimizer = new Factored(model);
      const waits: boolean[] = [];
      for (let i = 0; i < 4; i++) {
        optimizer.zeroGrad();
        back(model);
        const open = optimizer.step();
        waits.push(open !== undefined);
        await open;
      }
      assert.deepEqual(waits, device === 'later' ? [true, false, true, false] : [false, false, false, false]);
      assert.equal(optimizer.stateDict()['matrices.layers.0.weight.step']!.item(), 4);
      ends.push([...(await model.parameters()[0]!.data())]);
    }
    for (const end of ends) mustBeClose(end, ends[0]!, { atol: 1e-6 });
  },
);

const wrongWork: Record<string, readonly [work: () => unknown, says: RegExp]> = {
  'is no object': [
    () => 3,
    /expected hostWork\(\) of 'layers.0.weight' to return \{ reads, solve \}.*got 3; no parameter/,
  ],
  'has no solve': [() => ({ reads: [] }), /expected hostWork\(\) of 'layers.0.weight' to return/],
  'reads what is no tensor': [() => ({ reads: [1], solve: () => [] }), /expected hostWork\(\) of/],
  'reads what is not finite': [
    () => ({ reads: [tensor([1, NaN])], what: 'thing', solve: () => [] }),
    /the thing of 'layers.0.weight' has NaN or infinite elements; no parameter was changed.* at position 1/,
  ],
  'solves to no list': [
    () => ({ reads: [], solve: () => 1 }),
    /expected solve\(\) of 'layers.0.weight' to return a list/,
  ],
};
for (const [what, [work, says]] of Object.entries(wrongWork))
  law(t, `work for the host that ${what} is an error, and nothing has changed`, () => {
    const model = net();
    const optimizer = new Factored(model);
    back(model);
    optimizer.step();
    const values = () =>
      Object.entries({ ...model.stateDict(), ...optimizer.stateDict() }).map(([key, x]) => [key, [...x.dataSync()]]);
    const kept = values();
    optimizer.answer = work();
    optimizer.isWrong = true;
    assert.throws(() => optimizer.step(), { message: says });
    assert.deepEqual(values(), kept);
    optimizer.isWrong = false;
    optimizer.step();
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
