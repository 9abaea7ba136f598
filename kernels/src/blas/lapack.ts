/**
 * Factorisations by LAPACK, and what follows from them, on typed arrays in place. Its matrices are column-major, so that what
 * it takes for the upper triangle is the lower one of ours.
 */

import type { NativeBlas } from '../blas.ts';
import type { Library } from './library.ts';

type Real = Float32Array | Float64Array;

// What CBLAS calls them.
const ROW_MAJOR = 101;
const LEFT = 141;
const LOWER = 122;
const [PLAIN, TRANSPOSED] = [111, 112];
const NON_UNIT = 131;

export function lapackOf({ int, func }: Library): Omit<NativeBlas, 'info' | 'override'> {
  const pointers = (count: number) => new Array<string>(count).fill('void *');
  // NOTE: Fortran compilers append the length of every character argument; libraries that do without ignore it.
  const syevd = (name: string) => func(name, 'void', ['str', 'str', ...pointers(9), 'size_t', 'size_t']);
  // And potri.
  const potrf = (name: string) => func(name, 'void', ['str', ...pointers(4), 'size_t']);
  const trsm = (name: string, real: string) =>
    func(name, 'void', ['int', 'int', 'int', 'int', 'int', int, int, real, 'void *', int, 'void *', int]);
  const [ssyevd, dsyevd, spotrf, dpotrf] = [syevd('ssyevd_'), syevd('dsyevd_'), potrf('spotrf_'), potrf('dpotrf_')];
  const [spotri, dpotri] = [potrf('spotri_'), potrf('dpotri_')];
  const [strsm, dtrsm] = [trsm('cblas_strsm', 'float'), trsm('cblas_dtrsm', 'double')];
  const integers = (length: number) => (int === 'int' ? new Int32Array(length) : new BigInt64Array(length));
  const integer = (value: number) => (int === 'int' ? Int32Array.of(value) : BigInt64Array.of(BigInt(value)));

  return {
    eigh(n, a, values) {
      const single = a instanceof Float32Array;
      const [run, name] = single ? [ssyevd, 'ssyevd'] : [dsyevd, 'dsyevd'];
      const reals = (length: number): Real => (single ? new Float32Array(length) : new Float64Array(length));
      const [size, leading, info] = [integer(n), integer(Math.max(1, n)), integer(0)];
      const call = (work: Real, lwork: number, iwork: ReturnType<typeof integers>, liwork: number) => {
        run('V', 'U', size, a, leading, values, work, integer(lwork), iwork, integer(liwork), info, 1, 1);
        if (Number(info[0]) !== 0) throw new Error(`eigh: ${name} of a ${n} × ${n} matrix failed with info ${info[0]}`);
      };
      const [work, iwork] = [reals(1), integers(1)];
      call(work, -1, iwork, -1);
      // The answer is a float, which may have been rounded down; the documented minimum is exact.
      const lwork = Math.max(work[0]!, 1 + 6 * n + 2 * n * n);
      const liwork = Math.max(Number(iwork[0]), 3 + 5 * n);
      call(reals(lwork), lwork, integers(liwork), liwork);
    },

    cholesky(n, a) {
      const [run, name] = a instanceof Float32Array ? [spotrf, 'spotrf'] : [dpotrf, 'dpotrf'];
      const info = integer(0);
      run('U', integer(n), a, integer(Math.max(1, n)), info, 1);
      if (Number(info[0]) < 0) throw new Error(`cholesky: ${name} refused its argument ${-Number(info[0])}`);
      return Number(info[0]) - 1;
    },

    cholInverse(n, l) {
      const [run, name] = l instanceof Float32Array ? [spotri, 'spotri'] : [dpotri, 'dpotri'];
      const info = integer(0);
      run('U', integer(n), l, integer(Math.max(1, n)), info, 1);
      if (Number(info[0]) !== 0)
        throw new Error(`inverse: ${name} of a ${n} × ${n} factor failed with info ${info[0]}`);
    },

    solveLower(n, l, x, k, transposed) {
      if (n === 0 || k === 0) return;
      const run = l instanceof Float32Array ? strsm : dtrsm;
      run(ROW_MAJOR, LEFT, LOWER, transposed ? TRANSPOSED : PLAIN, NON_UNIT, n, k, 1, l, n, x, k);
    },
  };
}
