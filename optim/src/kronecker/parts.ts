/** What a Kronecker optimizer is made of, from its options. */

import { Generator } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import { defaultEigensolver } from '../curvature/basis.ts';
import { alone } from '../curvature/communicator.ts';
import { Decomposer } from '../curvature/decompose/here.ts';
import { Refresher, type RefreshOptions } from '../curvature/refresh.ts';
import { Labels } from '../curvature/sources/labels.ts';
import { Stopwatch } from '../curvature/stopwatch.ts';
import { assemble } from './assemble.ts';
import { StepDemand } from './demand.ts';
import type { KroneckerOptions } from './options.ts';
import type { Phase } from './report.ts';
import { Rest } from './rest.ts';
import type { Kind } from './rule.ts';
import { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';
import type { Parts } from './step.ts';

/** Σ n³ of the factors from which on they are decomposed in the background: 0.1 to 0.2 s on a core, more than most steps. */
const LONG = 3e8;

/** When and where bases are computed: by sizes alone, so that runs repeat. */
function refreshOf(
  o: KroneckerOptions,
  states: readonly BlockState[],
  awaits: boolean,
): Pick<RefreshOptions, 'mode' | 'lag'> {
  const { refresh = 'auto', refreshLag: lag = null, refreshEvery = 10, eigensolver, communicator = alone } = o;
  if (refresh !== 'auto') return { mode: refresh, lag };
  const work = states.reduce((sum, { decompositionCost }) => sum + decompositionCost, 0);
  const mayNot = eigensolver !== undefined || communicator.size > 1 || refreshEvery === 1;
  if (mayNot || awaits || work < LONG) return { mode: 'sync', lag: null };
  return { mode: 'background', lag: 'half' };
}

/**
 * Throws as `assemble` does, and for a rest that is none.
 *
 * @param name the optimizer's, for messages
 * @param made its class: one of the library's own has `builtIn`
 */
export function partsOf(name: string, made: object, model: AnyModule, o: KroneckerOptions, kind: Kind): Parts {
  const { communicator = alone } = o;
  const labels = new Labels(o.rng ?? new Generator(0), communicator);
  const { lr = kind.lr, refreshEvery = 10 } = o;
  const { rule, fixedBasis } = kind;
  const isRare = kind.rareStatistics === true && o.factorEvery === undefined;
  const told = isRare ? `. Statistics are taken when bases are, every ${refreshEvery} steps (factorEvery)` : '';
  const { states, paths, unclaimed, areOurs, isStructured } = assemble(name, model, o, lr, told, fixedBasis);
  const decomposer = new Decomposer(name, o.eigensolver ?? defaultEigensolver, refreshEvery);
  const { stagger = false, refreshThreshold: threshold = 0 } = o;
  const later = states.find(({ block }) => readsLater(block.parameters[0]!));
  if (threshold > 0 && later !== undefined)
    throw new TypeError(
      `${name}: refreshThreshold needs values at once, and ${later.label} is on '${later.block.parameters[0]!.device}', which is read with await`,
    );
  const when = { ...refreshOf(o, states, later !== undefined), stagger, threshold, every: refreshEvery };
  const refresher = new Refresher(name, states, decomposer, when);
  const factorEvery = o.factorEvery ?? (isRare && isStructured ? refreshEvery : 1);
  const settings = new StepSettings(lr, { ...o, factorEvery }, refresher);
  const demand = new StepDemand(name, states, rule, settings, refresher, communicator);
  const byDefault = (parameters: Parameter[]) => kind.rest(parameters, lr);
  const rest = new Rest(unclaimed, { name, lr, paths, make: o.rest, byDefault });
  const watch = new Stopwatch<Phase>({ statistics: 0, refresh: 0, precondition: 0, rest: 0 });
  const isOurs = areOurs && [made, rule.constructor].every(one => Object.hasOwn(one, 'builtIn'));
  return { name, isOurs, states, paths, rule, settings, refresher, demand, rest, communicator, labels, watch };
}
