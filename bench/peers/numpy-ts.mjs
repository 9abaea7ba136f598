/** The tasks that numpy-ts has: no autograd. */

import * as np from 'numpy-ts';
import { noise } from './data.mjs';

export const tasks = {
  sgemm({ n }) {
    const [a, b] = [1, 2].map(seed => np.array(Array.from(noise(n * n, seed)), 'float32').reshape([n, n]));
    return {
      run() {
        const c = np.matmul(a, b);
        const value = c.data[n * n - n] + c.data[n * n - 1];
        c.dispose?.();
        return value;
      },
    };
  },
};
