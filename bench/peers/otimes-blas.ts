/** The tasks in otimes with a native BLAS, in a process of its own; see otimes.ts. */

import { useBlas } from '@otimes/core';

export const blas = await useBlas();
export { tasks } from './otimes.ts';
