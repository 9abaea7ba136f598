/** The contenders, and the grid of settings for each of them. */

import { Adam, EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import type { Make } from './run.ts';

/** What is tuned. */
export type Setting = {
  readonly lr: number;
  readonly damping?: number;
  /** Of Adam, for what no block claims; else KFAC and EKFAC leave that to SGD, which hardly moves it. */
  readonly rest?: number;
};

/** What all Kronecker optimizers of a task have in common; everything else is at its default. */
export type Common = Pick<KroneckerOptions, 'refreshEvery' | 'factorEvery' | 'sharing'>;

const damped = ({ rest, ...setting }: Setting, common: Common): KroneckerOptions => ({
  ...setting,
  ...common,
  ...(rest !== undefined && { rest: unclaimed => new Adam(unclaimed, { lr: rest }) }),
});

type Contender = { readonly damped: boolean; readonly make: (setting: Setting, common: Common) => Make };

export const CONTENDERS: Readonly<Record<string, Contender>> = {
  adam: { damped: false, make: setting => model => new Adam(model.parameters(), setting) },
  kfac: { damped: true, make: (setting, common) => model => new KFAC(model, damped(setting, common)) },
  ekfac: { damped: true, make: (setting, common) => model => new EKFAC(model, damped(setting, common)) },
  steve: {
    damped: false,
    make:
      ({ lr }, common) =>
      model =>
        new STEVE(model, { lr, ...common }),
  },
};

export function settings(
  name: string,
  { lrs, dampings, rest }: { lrs: readonly number[]; dampings: readonly number[]; rest?: number | undefined },
): Setting[] {
  const contender = CONTENDERS[name];
  if (contender === undefined)
    throw new Error(`epochs: expected optimizers of ${Object.keys(CONTENDERS).join(', ')}, got '${name}'`);
  return lrs.flatMap(lr =>
    contender.damped ? dampings.map(damping => ({ lr, damping, ...(rest !== undefined && { rest }) })) : [{ lr }],
  );
}

export const describe = ({ lr, damping }: Setting): string =>
  damping === undefined ? `lr ${lr}` : `lr ${lr}, damping ${damping}`;
