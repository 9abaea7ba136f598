/** What a Kronecker optimizer saves, and how that is read: all of it or nothing. */

import { type Generator, type StateDict, type Tensor, tensor } from '@otimes/core';
import type { RefreshJob } from '../curvature/refresh.ts';
import type { Optimizer } from '../optimizer.ts';
import { StateReader, scalar } from '../state-dict.ts';
import type { BlockState } from './state.ts';

/** What a run needs to go on: rate, steps, the generator's state, the blocks, and the rest. */
type Saveable = {
  readonly lr: number;
  readonly steps: number;
  readonly rng: Generator;
  readonly states: readonly BlockState[];
  readonly rest: Optimizer | null;
};

/** What was read and is not taken over yet. `rng` is a generator's state. */
type Loaded = Pick<Saveable, 'lr' | 'steps'> & {
  readonly rng: Parameters<Generator['setState']>[0];
  readonly states: BlockState[];
};

/** `lr`, `steps`, `rng`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
export function save({ lr, steps, rng, states, rest }: Saveable): StateDict {
  const into: StateDict = { lr: scalar(lr), steps: scalar(steps), rng: tensor(rng.getState()) };
  for (const block of states) block.save(into);
  for (const [key, value] of Object.entries(rest?.stateDict() ?? {})) into[`rest.${key}`] = value;
  return into;
}

/**
 * Reads what `save` wrote. The rest's state is taken over as the last thing that may fail; nothing else is. Throws a list of all
 * that is wrong.
 *
 * @param name the optimizer's
 * @param start begins a decomposition that was under way, of a loaded block
 */
export function load(
  saved: StateDict,
  { states, rest }: Pick<Saveable, 'states' | 'rest'>,
  name: string,
  slotNames: readonly string[],
  start: (state: BlockState, A: Tensor, G: Tensor, step: number) => RefreshJob,
): Loaded {
  const reader = new StateReader(name, saved);
  const [lr, steps] = [reader.rate('lr'), reader.count('steps')];
  const rng = reader.tensor('rng', { shape: [4], dtype: 'int32' }).dataSync();
  if (reader.has('rng') && rng.every(word => word === 0))
    reader.problem('does not fit: rng is no state of a generator');
  const pending: { state: BlockState; A: Tensor; G: Tensor; step: number }[] = [];
  const loaded = states.map(state =>
    state.loaded(reader, name, slotNames, (one, A, G, step) => pending.push({ state: one, A, G, step })),
  );
  const ofRest = reader.section('rest.');
  if (rest === null && Object.keys(ofRest).length > 0) reader.problem('unexpected: rest.…, no parameter is unclaimed');
  reader.finish();
  // All that may still fail comes first, and the rest's own check last: then nothing has been taken over yet.
  for (const { state, A, G, step } of pending) state.job = start(state, A, G, step);
  rest?.loadStateDict(ofRest);
  return { lr, steps, rng, states: loaded };
}
