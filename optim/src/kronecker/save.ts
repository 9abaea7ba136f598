/** What a Kronecker optimizer saves, and how that is read: all of it or nothing. */

import { type StateDict, type Tensor, tensor } from '@otimes/core';
import { StateReader, scalar } from '../state-dict.ts';
import type { BlockState } from './state.ts';
import type { Parts } from './step.ts';

/** `lr`, `steps`, `rng`, `rule.…`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
export function save({ settings, refresher, labels, states, rule, rest }: Parts): StateDict {
  const rng = tensor(labels.common.getState());
  const into: StateDict = { lr: scalar(settings.lr), steps: scalar(refresher.steps), rng };
  for (const [key, value] of Object.entries(rule.numbers?.get() ?? {}))
    into[`rule.${key}`] = typeof value === 'number' ? scalar(value) : value.clone();
  for (const block of states) block.save(into);
  for (const [key, value] of Object.entries(rest.optimizer?.stateDict() ?? {})) into[`rest.${key}`] = value;
  return into;
}

/**
 * Takes over what `save` wrote, into an optimizer of these parts: all of it or nothing. Throws a list of all that is wrong. A
 * decomposition that was under way begins again.
 */
export function load(saved: StateDict, { name, states, rule, rest, settings, refresher, ...parts }: Parts): void {
  const reader = new StateReader(name, saved);
  const [lr, steps] = [reader.rate('lr'), reader.count('steps')];
  const rng = reader.tensor('rng', { shape: [4], dtype: 'int32' }).dataSync();
  if (reader.has('rng') && rng.every(word => word === 0))
    reader.problem('does not fit: rng is no state of a generator');
  const numbers = Object.fromEntries(
    Object.keys(rule.numbers?.get() ?? {}).map(key => [key, reader.number(`rule.${key}`)] as const),
  );
  const wrong = rule.numbers?.problem(numbers) ?? null;
  if (wrong !== null) reader.problem(`does not fit: ${wrong}`);
  const pending: { state: BlockState; A: Tensor; G: Tensor; step: number }[] = [];
  const loaded = states.map(state =>
    state.loaded(reader, name, rule, (one, A, G, step) => pending.push({ state: one, A, G, step })),
  );
  const ofRest = reader.section('rest.');
  if (rest.optimizer === null && Object.keys(ofRest).length > 0)
    reader.problem('unexpected: rest.…, no parameter is unclaimed');
  if (pending.length > 0 && parts.communicator.size > 1)
    reader.problem(
      "does not fit: decompositions are under way in it, of refresh: 'background', which is for a process that trains alone",
    );
  reader.finish();
  // All that may still fail comes first, and the rest's own check last: then nothing has been taken over yet.
  for (const { state, A, G, step } of pending) state.job = refresher.start(state, A, G, step);
  rest.optimizer?.loadStateDict(ofRest);
  rest.loaded(lr);
  for (const [i, state] of states.entries()) state.become(loaded[i]!);
  rule.numbers?.set(numbers);
  settings.lr = lr;
  refresher.steps = steps;
  parts.labels.setState(rng);
  parts.demand.reset();
}
