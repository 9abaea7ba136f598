/** The devices over which laws run: WebAssembly, plain loops, and one that is read with await alone. */

import { laterDevice } from './later.ts';

export const DEVICES: readonly string[] = ['cpu', 'reference', laterDevice().device];
