/** The optimizers on Kronecker factors of the Fisher: KFAC, EKFAC and STEVE. */

import { Generator } from '@otimes/core';
import type { Module } from '@otimes/nn';
import {
  Adam,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  ScheduleFree,
  SGD,
  STEVE,
} from '@otimes/optim';
import type { Contender, MakeContext, Setting, Space } from '../experiment.ts';
import { adamLike, decades, decay } from './spaces.ts';
import { AveragedKroneckerTrainer, KroneckerTrainer, numberOf, optionsOf } from './trainer.ts';

/** What all of them share in an experiment, and the setting, which comes later and so wins. */
const withShared = (name: string, setting: Setting, { kronecker, seed }: MakeContext): KroneckerOptions =>
  ({ ...kronecker, rng: new Generator(seed), ...optionsOf(name, setting) }) as KroneckerOptions;

/** Who trains the parameters that no block claims, at the same rate. */
export function restOf(
  name: string,
  { rest = 'adam', ...setting }: Setting,
): { rest: 'adam' | 'sgd'; setting: Setting } {
  if (rest === 'adam' || rest === 'sgd') return { rest, setting };
  throw new RangeError(`${name}: expected rest to be 'adam' or 'sgd', got '${rest}'`);
}

/** Moments in the eigenbasis are Adam's; so are those of the parameters that no block claims, unless the setting `rest` is 'sgd'. */
export const steve: Contender = {
  name: 'steve',
  label: 'STEVE',
  family: 'kronecker',
  space: { lr: adamLike(1e-2), weightDecay: decay(0) },
  make(model, given, context) {
    const { rest, setting } = restOf('steve', given);
    const lr = numberOf('steve', setting, 'lr', 1e-2);
    const o = withShared('steve', setting, context);
    return new KroneckerTrainer(
      new STEVE(model, rest === 'adam' ? o : { ...o, rest: unclaimed => new SGD(unclaimed, { lr }) }),
    );
  },
};

/**
 * STEVE without first moments, whose place the average takes, as schedule-free AdamW is AdamW without them. Weights are not kept in the basis, since
 * the average moves them after each step.
 */
export const scheduleFreeSteve: Contender = {
  name: 'schedule-free-steve',
  label: 'Schedule-free STEVE',
  family: 'kronecker',
  space: { lr: adamLike(1e-2), weightDecay: decay(0) },
  make(model, given, context) {
    const name = 'schedule-free-steve';
    const { momentum: _, beta2 = 0.999, ...setting } = given;
    const base = withShared(name, { route: 'gradient', ...setting, beta1: 0, beta2 }, context);
    return new AveragedKroneckerTrainer(
      new ScheduleFree(new STEVE(model, base), { momentum: numberOf(name, given, 'momentum', 0.9) }),
    );
  },
};

/**
 * Rates and damping with a decade to each side of the defaults, damping being what these two depend on (Martens & Grosse 2015, §6). The setting `rest`
 * says who trains the parameters that no block claims: 'adam' with the same rate, since SGD, the optimizers' default, hardly moves them
 * at rates like these; or 'sgd', that default.
 */
const damped: Space = { lr: decades(1e-3, 1e-2), damping: decades(3e-4, 3e-3) };

type Damped = new (model: Module, o: KroneckerOptions) => KroneckerPreconditioner;

function dampedContender(name: string, label: string, Class: Damped): Contender {
  return {
    name,
    label,
    family: 'kronecker',
    space: damped,
    make(model, given, context) {
      const { rest, setting } = restOf(name, given);
      const lr = numberOf(name, setting, 'lr', 1e-2);
      const o = withShared(name, setting, context);
      return new KroneckerTrainer(
        new Class(model, rest === 'sgd' ? o : { ...o, rest: unclaimed => new Adam(unclaimed, { lr }) }),
      );
    },
  };
}

export const kfac = dampedContender('kfac', 'KFAC', KFAC);
export const ekfac = dampedContender('ekfac', 'EKFAC', EKFAC);
