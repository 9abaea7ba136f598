/**
 * What do the choices inside STEVE cost? Variants of it as contenders of otimes-experiments, none of them tuned: structured factors
 * beside exact ones, how often statistics are taken and bases computed, and what scales a direction.
 *
 *   npx otimes-experiments list --with bench/ablations.ts
 *   npx otimes-experiments run structures-digits-cnn --with bench/ablations.ts
 *   npm run bench bench/league.ts -- --ablations --cifar FOLDER        all of them, with their reports
 */

import { adam } from '../experiments/src/contenders/first-order.ts';
import { steve } from '../experiments/src/contenders/kronecker.ts';
import type { Contender, Experiment, Setting } from '../experiments/src/experiment.ts';
import { PRESETS as OWN } from '../experiments/src/presets/index.ts';

/** STEVE with options that win over those of the experiment. */
const variant = (name: string, label: string, options: Setting): Contender => ({
  ...steve,
  name: `steve-${name}`,
  label: `STEVE, ${label}`,
  make: (model, setting, context) => steve.make(model, { ...setting, ...options }, context),
});

/** Blocks of 32 coordinates, since the factors of these networks are small. */
const STRUCTURES = [
  variant('taps', 'taps', { structure: 'taps' }),
  variant('channels', 'channels', { structure: 'channels' }),
  variant('blocks', 'blocks of 32', { structure: 'blocks', blockDim: 32 }),
];

const every = (refreshEvery: number, factorEvery: number): Contender =>
  variant(`${refreshEvery}-${factorEvery}`, `${refreshEvery} and ${factorEvery}`, { refreshEvery, factorEvery });
const INTERVALS = [every(10, 1), every(50, 1), every(50, 10), every(200, 10)];

const SCALES = [
  variant('no-graft', 'graft: false', { graft: false }),
  variant('null-none', "nullRule: 'none'", { nullRule: 'none' }),
  variant('example', "secondMoment: 'example'", { secondMoment: 'example' }),
];

export const CONTENDERS: readonly Contender[] = [...STRUCTURES, ...INTERVALS, ...SCALES];

const LR = { lr: 1e-2 };

/** The network, the data and the target of a preset of the league; STEVE as it is, the variants, and Adam, all with lr .01. */
function ablation(
  kind: string,
  preset: string,
  variants: readonly Contender[],
  about: string,
  own: Partial<Experiment> = {},
): Experiment {
  const { name, title, ...rest } = OWN.find(({ name }) => name === preset)!;
  const contenders = [steve, ...variants, adam].map(({ name }) => name);
  return {
    ...rest,
    name: `${kind}-${name}`,
    title: `${title}: ${kind}`,
    about: `${about} ${rest.about} Nothing is tuned: lr .01 for all.`,
    seeds: 12,
    tuning: { trials: 0, seed: 100, giveUp: null },
    schedules: ['constant'],
    contenders,
    fixed: Object.fromEntries(contenders.map(contender => [contender, LR])),
    kronecker: { refreshEvery: 10, factorEvery: 10, refresh: 'sync' },
    ...own,
  };
}

export const PRESETS: readonly Experiment[] = [
  ...['digits-cnn', 'fashion-cnn', 'cifar-resnet'].map(preset =>
    ablation(
      'structures',
      preset,
      STRUCTURES,
      'What do cheaper factors cost?',
      preset === 'cifar-resnet' ? { seeds: 5 } : {},
    ),
  ),
  ...['digits-cnn', 'fashion-mlp', 'fashion-cnn'].map(preset =>
    ablation(
      'intervals',
      preset,
      INTERVALS,
      'How often must bases be computed, and statistics taken? STEVE does both every 10 steps, the others as their names say, in this order.',
    ),
  ),
  ...['digits-cnn', 'fashion-mlp'].map(preset =>
    ablation(
      'scales',
      preset,
      SCALES,
      'What do grafting, the rule for null directions and the kind of second moment do?',
    ),
  ),
];
