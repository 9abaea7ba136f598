/** Every function of the namespace linalg of core, with wrong arguments of every kind. */

import { eye, linalg, ones } from '@otimes/core';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const matrix = () => eye(3, { requiresGrad: true });
const right = () => ones([3, 2]);
const door = (call: Door['call'], ...args: unknown[]): Door => ({
  call,
  args: () => args,
  says: `linalg.${call.name}`,
});

checkDoors(
  t,
  'linalg of @otimes/core',
  Object.keys(linalg),
  {
    cholesky: door(linalg.cholesky, matrix(), { upper: true }),
    det: door(linalg.det, matrix()),
    eigh: door(linalg.eigh, matrix()),
    eigvalsh: door(linalg.eigvalsh, matrix()),
    inv: door(linalg.inv, matrix()),
    logdet: { ...door(linalg.logdet, matrix()), says: 'linalg.slogdet' },
    lstsq: door(linalg.lstsq, matrix(), right(), { rtol: 1e-9 }),
    matrixNorm: door(linalg.matrixNorm, matrix(), 'fro', { axis: [0, 1], keepdim: true }),
    matrixPower: door(linalg.matrixPower, matrix(), 3),
    matrixRank: door(linalg.matrixRank, matrix(), { atol: 0, rtol: 1e-9 }),
    pinv: door(linalg.pinv, matrix(), { atol: 0, rtol: 1e-9 }),
    qr: door(linalg.qr, matrix()),
    slogdet: door(linalg.slogdet, matrix()),
    solve: door(linalg.solve, matrix(), right()),
    solveTriangular: door(linalg.solveTriangular, matrix(), right(), {
      upper: true,
      left: true,
      unitriangular: false,
      transpose: false,
    }),
    svd: door(linalg.svd, matrix()),
    svdvals: door(linalg.svdvals, matrix()),
  },
  { LinAlgError: 'takes a message' },
);
