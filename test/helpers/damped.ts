// The Kronecker family with a damping of 0.1.

import type { AnyModule } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';

export type Make = (model: AnyModule, o: KroneckerOptions) => KroneckerPreconditioner;

export const family: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'KFAC without trust': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, trust: false, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, klClip: false, ...o }),
  'EKFAC batch': (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, klClip: false, secondMoment: 'batch', ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.02, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.1, secondMoment: 'example', ...o }),
};
