/** The optimizers on Kronecker factors of gradients: Shampoo, KL-Shampoo and SOAP. */

import type { Module } from '@otimes/nn';
import {
  KLShampoo,
  type KLShampooOptions,
  type Optimizer,
  Shampoo,
  type ShampooOptions,
  SOAP,
  type SOAPOptions,
} from '@otimes/optim';
import type { Contender, MakeContext, Setting, Space } from '../experiment.ts';
import { sharedWith } from './shared.ts';
import { adamLike, decades, decay } from './spaces.ts';
import { GradientTrainer, optionsOf } from './trainer.ts';

/** Of what the Kronecker optimizers of an experiment share they have this alone: no statistics are taken but gradients. */
const OWN = ['refreshEvery'] as const;

function contender(
  name: string,
  label: string,
  space: Space,
  make: (model: Module, o: Record<string, unknown>) => Optimizer,
): Contender {
  return {
    ...{ name, label, space, family: 'kronecker' },
    make: (model, setting: Setting, { kronecker }: MakeContext) =>
      new GradientTrainer(make(model, { ...sharedWith(name, kronecker, OWN), ...optionsOf(name, setting) })),
  };
}

/** What no factor claims has AdamW with the same rate, the optimizer's default. */
const soapSpace: Space = { lr: adamLike(3e-3), weightDecay: decay(0.01) };

export const soap = contender('soap', 'SOAP', soapSpace, (model, o) => new SOAP(model, o as SOAPOptions));

/** A basis of the smaller side of each matrix alone. */
export const oneSidedSoap = contender(
  'one-sided-soap',
  'One-sided SOAP',
  soapSpace,
  (model, o) => new SOAP(model, { oneSided: true, ...o } as SOAPOptions),
);

export const klShampoo = contender(
  'kl-shampoo',
  'KL-Shampoo',
  soapSpace,
  (model, o) => new KLShampoo(model, o as KLShampooOptions),
);

/**
 * Each step as long as Adam's (Anil et al. 2020, grafting), which its heavy ball of .9 makes ten times as long in the end: so rates a
 * decade around 1e-3. The second dimension is ε beside the eigenvalues, a decade to each side of its default.
 */
export const shampoo = contender(
  'shampoo',
  'Shampoo',
  { lr: decades(1e-4, 1e-3), eps: decades(1e-5, 1e-4) },
  (model, o) => new Shampoo(model, { grafting: 'adam', ...o } as ShampooOptions),
);
