/** Checks of rules, and of what they answer: those of a program come from plain JavaScript too. */

import { Tensor } from '@otimes/core';
import {
  aBoolean,
  aFunction,
  checkFinite,
  dropPromise,
  type Kind as Expected,
  readsLater,
  received,
} from '@otimes/core/extend';
import { aRate, checkMembers, checkNames, checkSlots, isLike, showOn } from '../check.ts';
import { SAVED } from '../curvature/layer.ts';
import { foundIn } from './finite.ts';
import type { Kind, Proposal, Rule } from './rule.ts';
import { type BlockState, SAVED_COUNTS } from './state.ts';

const left = (kind: Expected): Expected => ({ ...kind, is: v => v === undefined || kind.is(v) });
const aGain: Expected = { expected: 'a number ≥ 0 or Infinity', is: v => typeof v === 'number' && v >= 0 };

const KIND: { readonly [K in keyof Required<Kind>]: Expected } = {
  rule: { expected: 'a Rule', is: v => typeof v === 'object' && v !== null },
  lr: aRate,
  rest: aFunction,
  rareStatistics: left(aBoolean),
  fixedBasis: left(aFunction),
};

const RULE: { readonly [K in keyof Omit<Required<Rule>, 'slots'>]: Expected } = {
  shapeOf: left(aFunction),
  gain: aGain,
  needs: aFunction,
  refreshed: aFunction,
  direction: aFunction,
  stepInBasis: left(aFunction),
  together: left(aFunction),
  numbers: left({ expected: 'null, or an object with get, problem and set', is: v => typeof v === 'object' }),
  dampingOf: left(aFunction),
  nullsOf: left(aFunction),
};

/** Throws unless it is a Kind whose rule has all that a rule must have. `name` is the optimizer's. */
export function checkKind(name: string, kind: unknown): void {
  const { rule } = checkMembers<Kind>(name, 'the third argument of KroneckerPreconditioner', kind, KIND);
  checkMembers(name, 'rule', rule, RULE);
  checkNames(name, "the rule's slots", rule.slots, [...SAVED, ...SAVED_COUNTS]);
}

const NEEDS = ['squares', 'batch', 'nothing'] as const;

/** What a rule asks of a block's statistics. */
export function checkedNeeds(name: string, { label }: BlockState, answer: (typeof NEEDS)[number]): typeof answer {
  if (NEEDS.includes(answer)) return answer;
  dropPromise(answer);
  throw refusal(name, `needs() of ${label}`, "'squares', 'batch' or 'nothing'", received(answer));
}

/** Throws for a promise: what comes later would meet another step. */
export function checkNothing(name: string, method: string, answer: unknown): void {
  if (dropPromise(answer))
    throw refusal(name, method, 'nothing', 'a promise; rules are synchronous, and read no values');
}

/** Whether `stepInBasis` has made the step. */
export function checkedStepped(name: string, { label }: BlockState, answer: boolean): boolean {
  if (typeof answer === 'boolean') return answer;
  dropPromise(answer);
  throw refusal(name, `stepInBasis() of ${label}`, 'true or false', received(answer));
}

/** The update of a block: a tensor like its gradient D. `by` is the method that it comes from. */
export function checkedUpdate(name: string, by: string, { label }: BlockState, D: Tensor, update: unknown): Tensor {
  if (isLike(update, D)) return update;
  dropPromise(update);
  const hint = update === undefined ? '; is its return missing?' : '';
  throw refusal(name, `${by}() of ${label}`, `an update ${showOn(D)}`, showOn(update) + hint);
}

/** Throws unless `together` left updates like the gradients, and scales that are one finite number each. */
export function checkProposals(name: string, proposals: readonly Proposal[]): void {
  for (const { state, gradient, update, scale } of proposals) {
    checkedUpdate(name, 'together', state, gradient, update);
    const isScale = scale instanceof Tensor ? scale.size === 1 : Number.isFinite(scale);
    if (!isScale) throw refusal(name, `together() of ${state.label}`, 'a scale of one finite number', showOn(scale));
    if (readsLater(update)) checkFinite(update, foundIn(name, 'update', state.label));
  }
}

/** Throws unless a block has exactly the slots that the rule says, as they are saved. */
export function checkBlockSlots(name: string, rule: Rule, state: BlockState): void {
  const { slots, label, sizes, block } = state;
  const { dtype, device } = block.parameters[0]!;
  const what = `${name}: no parameter was changed: after a step expected ${label}`;
  // One by one, where they have shapes of their own.
  for (const name of rule.shapeOf === undefined ? [null] : new Set([...rule.slots, ...slots.keys()])) {
    const isOwn = (slot: string) => name === null || slot === name;
    const own = new Map([...slots].filter(([slot]) => isOwn(slot)));
    const shape = name === null ? sizes : rule.shapeOf!(name, state);
    checkSlots(what, 'slots of the rule', rule.slots.filter(isOwn), own, { shape, dtype, device });
  }
}

const refusal = (name: string, method: string, expected: string, got: string): TypeError =>
  new TypeError(`${name}: expected ${method} to return ${expected}, got ${got}; no parameter was changed`);
