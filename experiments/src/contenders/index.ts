/** All contenders, in the order of tables. */

import type { Contender } from '../experiment.ts';
import { adam, adamw, nadamw, scheduleFree, sgd } from './first-order.ts';
import { klShampoo, oneSidedSoap, shampoo, soap } from './gradient-factors.ts';
import { kbfgs, singd } from './inverse-free.ts';
import { ekfac, kfac, scheduleFreeSteve, steve } from './kronecker.ts';
import { lbfgs } from './lbfgs.ts';
import { muon } from './muon.ts';

export const CONTENDERS: readonly Contender[] = [
  ...[adamw, nadamw, adam, scheduleFree, sgd, muon],
  ...[steve, scheduleFreeSteve, ekfac, kfac, singd],
  ...[soap, oneSidedSoap, klShampoo, shampoo],
  ...[kbfgs, lbfgs],
];
