/** Rules of the program, from the package's public names alone: what they may be, and that a mistake in one changes nothing. */

import assert from 'node:assert/strict';
import { type StateDict, type Tensor, tensor, zeros } from '@otimes/core';
import { aNumber, checkOptions } from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import {
  AdamRule,
  type BlockState,
  type Kind,
  KRONECKER_OPTIONS,
  type KroneckerOptions,
  KroneckerPreconditioner,
  type Proposal,
  type Rotation,
  type Rule,
  rotate,
  rotateSquares,
  SGD,
  type StepInfo,
} from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { bitsOf } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

/** Momentum in the basis over a running second moment: two slots, one of which turns as a matrix and one as squares. */
class Scaled implements Rule {
  readonly slots: readonly string[] = ['m', 's'];
  readonly gain = Infinity;

  needs(): 'nothing' {
    return 'nothing';
  }

  refreshed(state: BlockState, rotation: Rotation | null): void {
    const { slots, kfe } = state;
    const like = { dtype: kfe!.sA.dtype, device: kfe!.sA.device };
    if (rotation === null) for (const name of this.slots) slots.set(name, zeros(state.sizes, like));
    else slots.set('m', rotate(slots.get('m')!, rotation)).set('s', rotateSquares(slots.get('s')!, rotation));
  }

  direction({ slots }: BlockState, D: Tensor, _step: StepInfo): Tensor {
    const [m, s] = [slots.get('m')!, slots.get('s')!];
    m.scale_(0.9).addScaled_(D, 0.1);
    s.scale_(0.9).addScaled_(D.square(), 0.1);
    return m.div(s.sqrt().add(1e-3));
  }
}

type Options = KroneckerOptions & { damping?: number };

class Mine extends KroneckerPreconditioner {
  constructor(model: AnyModule, o: Options = {}, kind: Partial<Kind> = {}) {
    checkOptions('Mine', o, { ...KRONECKER_OPTIONS, damping: aNumber });
    super(model, o, {
      rule: new Scaled(),
      lr: 0.05,
      rest: left => new SGD(left, { lr: 0.05, momentum: 0.9 }),
      ...kind,
    });
  }
}

const every2 = { refreshEvery: 2 };

for (const device of DEVICES)
  law(t, `${device}: a rule of the program trains; save, load, go on = the uninterrupted run`, async () => {
    const whole = await new DeviceRun(device, deviceTasks.mlp, m => new Mine(m, every2)).steps(7);
    assert.ok(whole.losses[6]! < whole.losses[0]!);
    const run = await new DeviceRun(device, deviceTasks.mlp, m => new Mine(m, every2)).steps(3);
    const second = new DeviceRun(device, deviceTasks.mlp, m => new Mine(m, every2));
    const move = async (state: StateDict) =>
      Object.fromEntries(
        await Promise.all(Object.entries(state).map(async ([key, x]) => [key, await x.cpu()] as const)),
      );
    second.model.loadStateDict(await move(run.model.stateDict()));
    second.optimizer.loadStateDict(await move(run.optimizer.stateDict()));
    second.losses.push(...run.losses);
    await second.steps(4);
    assert.deepEqual(second.losses, whole.losses);
    assert.deepEqual(await second.values(), await whole.values());
  });

law(t, 'rotate and rotateSquares are the products that they say, and a null side stays', () => {
  const X = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const RA = tensor([
    [0, 1, 0],
    [0, 0, -1],
    [1, 0, 0],
  ]);
  const RG = tensor([
    [0.6, -0.8],
    [0.8, 0.6],
  ]);
  const both = { RA, RG };
  assert.deepEqual(rotate(X, both).toArray(), RG.transpose().matmul(X).matmul(RA).toArray());
  assert.deepEqual(rotateSquares(X, both).toArray(), RG.square().transpose().matmul(X).matmul(RA.square()).toArray());
  assert.deepEqual(rotate(X, { RA, RG: null }).toArray(), X.matmul(RA).toArray());
  const same = rotate(X, { RA: null, RG: null });
  assert.ok(same !== X);
  assert.deepEqual(same.toArray(), X.toArray());
  assert.throws(() => rotate(X, { RA: RG, RG }), {
    message:
      'rotate: expected the rotation to be { RA, RG }, with RA [3,3] or null and RG [2,2] or null, got { RA, RG }',
  });
});

// --- handed over --------------------------------------------------------------------------------------------------------------

const js = (value: unknown) => value as never;
const ruleWith = (changes: object): Rule => Object.assign(new Scaled(), changes);

const refused: Record<string, readonly [kind: unknown, says: string]> = {
  'is nothing': [
    undefined,
    'expected the third argument of KroneckerPreconditioner to be an object such as { rule, lr, rest, rareStatistics, … }, got undefined',
  ],
  'has no rule': [
    { lr: 1, rest: () => null },
    "expected the third argument of KroneckerPreconditioner's rule to be a Rule, got undefined",
  ],
  'has no lr': [
    { rule: new Scaled(), rest: () => null },
    "expected the third argument of KroneckerPreconditioner's lr to be a finite number ≥ 0, got undefined",
  ],
  'has an lr that is text': [
    { rule: new Scaled(), lr: '1', rest: () => null },
    "expected the third argument of KroneckerPreconditioner's lr to be a finite number ≥ 0, got '1'",
  ],
  'has no rest': [
    { rule: new Scaled(), lr: 1 },
    "expected the third argument of KroneckerPreconditioner's rest to be a function, got undefined",
  ],
  'has a rule that is a class': [
    { rule: Scaled, lr: 1, rest: () => null },
    "expected the third argument of KroneckerPreconditioner's rule to be a Rule, got a function",
  ],
};
for (const method of ['needs', 'refreshed', 'direction'])
  refused[`has a rule without ${method}`] = [
    { rule: ruleWith({ [method]: undefined }), lr: 1, rest: () => null },
    `expected rule's ${method} to be a function, got undefined`,
  ];
for (const method of ['stepInBasis', 'together', 'dampingOf', 'nullsOf'])
  refused[`has a rule whose ${method} is no function`] = [
    { rule: ruleWith({ [method]: null }), lr: 1, rest: () => null },
    `expected rule's ${method} to be a function, got null`,
  ];
const slots: readonly [slots: unknown, says: string][] = [
  [undefined, "expected the rule's slots to be a list of names without dots, such as ['m'], got undefined"],
  ['m', "expected the rule's slots to be a list of names without dots, such as ['m'], got 'm'"],
  [['m', 1], "expected the rule's slots to be a list of names without dots, such as ['m'], got ['m', 1]"],
  [['a.b'], "expected the rule's slots to be a list of names without dots, such as ['m'], got ['a.b']"],
  [['m', 'm'], "the rule's slots have 'm' twice"],
  [['m', 'A'], "the rule's slots have 'A', under which a state dict has something else; taken are "],
  [['count'], "the rule's slots have 'count', under which a state dict has something else; taken are "],
];
for (const [value, says] of slots)
  refused[`has slots ${JSON.stringify(value)}`] = [{ rule: ruleWith({ slots: value }), lr: 1, rest: () => null }, says];
for (const gain of [undefined, NaN, -1, '1'])
  refused[`has a gain of ${gain}`] = [
    { rule: ruleWith({ gain }), lr: 1, rest: () => null },
    `expected rule's gain to be a number ≥ 0 or Infinity, got ${typeof gain === 'string' ? `'${gain}'` : gain}`,
  ];

for (const [what, [kind, says]] of Object.entries(refused))
  law(t, `a kind that ${what} is refused, and no hook is left behind`, () => {
    class Bad extends KroneckerPreconditioner {
      constructor(model: AnyModule) {
        super(model, {}, js(kind));
      }
    }
    const model = deviceTasks.mlp.model();
    assert.throws(
      () => new Bad(model),
      ({ name, message }: Error) =>
        name === 'TypeError' && message.startsWith(`Bad: ${says}`) && message.length > says.length,
      says,
    );
    new Mine(model).detach();
  });

law(t, 'options of another kind are refused by the base too', () => {
  class Unchecked extends KroneckerPreconditioner {
    constructor(model: AnyModule, o: unknown) {
      super(model, js(o), { rule: new Scaled(), lr: 1, rest: left => new SGD(left) });
    }
  }
  const model = deviceTasks.mlp.model();
  for (const [o, message] of [
    [undefined, 'Unchecked: expected its options to be an object of options, {} for none, got undefined'],
    [0.1, 'Unchecked: expected its options to be an object of options, {} for none, got 0.1'],
    [{ refreshEvery: '3' }, "Unchecked: expected refreshEvery to be a number, got '3'"],
    [{ rest: 3 }, 'Unchecked: expected rest to be a function, got 3'],
  ] as const)
    assert.throws(() => new Unchecked(model, o), { name: 'TypeError', message });
  new Unchecked(model, { ownOption: 3 }).detach();
});

// --- what it answers -----------------------------------------------------------------------------------------------------------

/** A rule that makes a mistake while it is told to, and the message, for the block '0' [5, 7] of the model. */
type Fault = { readonly bad: (rule: Rule, device: string) => Partial<Rule>; readonly says: (device: string) => RegExp };
const like = (device: string, shape: readonly number[] = [5, 7]) => zeros(shape, { device });
const onBlock0 =
  (direction: (D: Tensor, device: string) => unknown): Fault['bad'] =>
  (rule, device) => ({
    direction: (state, D, step) => js(state.block.path === '0' ? direction(D, device) : rule.direction(state, D, step)),
  });
const update =
  (got: string): Fault['says'] =>
  device =>
    new RegExp(
      `^Mine: expected direction\\(\\) of linear '0' to return an update float32\\[5,7\\] on '${device}', got ${got}; no parameter was changed$`,
    );
const kept =
  (got: string): Fault['says'] =>
  device =>
    new RegExp(
      `^Mine: no parameter was changed: after a step expected linear '0' to have the slots that slots of the rule says, 'm', 's', each float32\\[5,7\\] on '${device}'; got ${got}\\. A state dict of it could not be loaded$`,
    );
const slotsOf =
  (change: (state: BlockState, device: string) => void): Fault['bad'] =>
  (rule, device) => ({
    direction(state, D, step) {
      const answer = rule.direction(state, D, step);
      if (state.block.path === '0') change(state, device);
      return answer;
    },
  });

const faults: Record<string, Fault> = {
  'an update that is undefined': {
    bad: onBlock0(() => undefined),
    says: update('undefined; is its return missing\\?'),
  },
  'an update that is a promise': { bad: onBlock0(async D => D), says: update('a promise') },
  'an update of another shape': {
    bad: onBlock0((_, on) => like(on, [7, 5])),
    says: update("float32\\[7,5\\] on '\\w+'"),
  },
  'an update of another dtype': { bad: onBlock0(D => D.astype('float64')), says: update("float64\\[5,7\\] on '\\w+'") },
  'an update elsewhere': {
    bad: onBlock0((_, on) => like(on === 'cpu' ? 'reference' : 'cpu')),
    says: update("float32\\[5,7\\] on '\\w+'"),
  },
  'an update that is not finite': {
    bad: onBlock0(D => D.add(NaN)),
    says: () =>
      /^Mine: the update of (the weights of )?linear '0' has NaN or infinite elements; no parameter was changed\./,
  },
  'an error of its own': {
    bad: onBlock0(() => {
      throw new Error('mine');
    }),
    says: () => /^mine$/,
  },
  'a slot more': { bad: slotsOf(({ slots }, on) => slots.set('x', like(on))), says: kept("'x'") },
  'a slot less': { bad: slotsOf(({ slots }) => slots.delete('s')), says: kept("no 's'") },
  'a slot of another shape': {
    bad: slotsOf(({ slots }, on) => slots.set('s', like(on, [5]))),
    says: kept("'s' float32\\[5\\] on '\\w+'"),
  },
  'a slot that is a number': { bad: slotsOf(({ slots }) => slots.set('s', js(3))), says: kept("'s' 3") },
  'together that returns a promise': {
    bad: () => ({ together: async () => {} }),
    says: () =>
      /^Mine: expected together\(\) to return nothing, got a promise; rules are synchronous, and read no values; no parameter was changed$/,
  },
  'together with a scale that is no number': {
    bad: () => ({
      together(proposals: readonly Proposal[]) {
        proposals[0]!.scale = js('2');
      },
    }),
    says: () =>
      /^Mine: expected together\(\) of linear '0' to return a scale of one finite number, got '2'; no parameter was changed$/,
  },
  'together with an update of another shape': {
    bad: (_, on) => ({
      together(proposals: readonly Proposal[]) {
        proposals[0]!.update = like(on, [1]);
      },
    }),
    says: on =>
      new RegExp(
        `^Mine: expected together\\(\\) of linear '0' to return an update float32\\[5,7\\] on '${on}', got float32\\[1\\]`,
      ),
  },
  'stepInBasis that answers nothing': {
    bad: rule => ({
      stepInBasis(state, D, weight, lr, keep, step) {
        weight.addScaled_(rule.direction(state, D, step), -lr, keep);
        return js(undefined);
      },
    }),
    says: () =>
      /^Mine: expected stepInBasis\(\) of linear '0' to return true or false, got undefined; no parameter was changed$/,
  },
};

for (const device of DEVICES)
  for (const [what, { bad, says }] of Object.entries(faults))
    law(t, `${device}: ${what} is told by name, and nothing has changed`, async () => {
      // The first step, one between refreshes, and one that refreshes.
      for (const steps of [0, 3, 4]) {
        const rule = new Scaled();
        const route = what.startsWith('stepInBasis') ? ('resident' as const) : ('gradient' as const);
        // In the first step no weight is in a basis yet.
        if (route === 'resident' && steps !== 3) continue;
        const run = new DeviceRun(device, deviceTasks.mlp, m => new Mine(m, { ...every2, route }, { rule }));
        await run.steps(steps);
        const before = await run.values();
        const own = Object.getOwnPropertyNames(rule);
        Object.assign(rule, bad(new Scaled(), device));
        await assert.rejects(
          async () => {
            await run.step();
            await run.model.parameters()[0]!.data();
          },
          ({ message }: Error) => {
            assert.match(message, says(device));
            return true;
          },
        );
        // Where numbers are told later, averages and slots have taken the step in.
        const isLate = what === 'an update that is not finite' && device === 'later';
        const passes = isLate ? /^optimizer\./ : /\.(rows|misses|needsInputGrad)$/;
        const all = await run.values();
        assert.deepEqual(
          Object.entries(all).filter(([key]) => !passes.test(key)),
          Object.entries(before).filter(([key]) => !passes.test(key)),
          `after ${steps} steps`,
        );
        for (const key of Object.getOwnPropertyNames(rule)) if (!own.includes(key)) Reflect.deleteProperty(rule, key);
        await run.steps(3);
        assert.ok(run.losses.every(Number.isFinite));
      }
    });

law(
  t,
  'needs that answers something else is told in the forward pass or the step, and nothing has changed',
  async () => {
    const rule = new Scaled();
    const run = await new DeviceRun('cpu', deviceTasks.mlp, m => new Mine(m, every2, { rule })).steps(2);
    const before = [run.model.stateDict(), run.optimizer.stateDict()].map(bitsOf);
    Object.assign(rule, { needs: () => 'everything' });
    await assert.rejects(run.step(), {
      name: 'TypeError',
      message:
        "Mine: expected needs() of linear '3' to return 'squares', 'batch' or 'nothing', got 'everything'; no parameter was changed",
    });
    assert.deepEqual([run.model.stateDict(), run.optimizer.stateDict()].map(bitsOf), before);
  },
);

law(t, 'a rest that throws after the rule has answered is put back with the blocks', async () => {
  class Throws extends SGD {
    fails = false;
    override step(): void {
      super.step();
      if (this.fails) throw new Error('later');
    }
  }
  let rest: Throws | undefined;
  const run = new DeviceRun(
    'cpu',
    deviceTasks.mlp,
    m => new Mine(m, { ...every2, rest: left => (rest = new Throws(left, { momentum: 0.9 })) }),
  );
  await run.steps(4);
  const before = [run.model.stateDict(), run.optimizer.stateDict()].map(bitsOf);
  rest!.fails = true;
  await assert.rejects(run.step(), { message: 'later' });
  assert.deepEqual([run.model.stateDict(), run.optimizer.stateDict()].map(bitsOf), before);
});

law(t, 'a rule of the library in a class of the program is that rule', async () => {
  const rule = new AdamRule({ graft: true });
  const make = (kind: Partial<Kind>) => (m: AnyModule) => new Mine(m, every2, kind);
  for (const device of DEVICES) {
    const run = await new DeviceRun(device, deviceTasks.mlp, make({ rule })).steps(5);
    assert.ok(run.losses[4]! < run.losses[0]!);
  }
});
