/** The devices over which laws run: WebAssembly, plain loops, and one that is read with await alone. */

import { getBackend } from '@otimes/core';
import { laterDevice } from './later.ts';

export const DEVICES: readonly string[] = ['cpu', 'reference', laterDevice().device];

/** What laws compute in on a device: float64 where it has that. */
export const floatOf = (device: string): 'float32' | 'float64' =>
  (getBackend(device).dtypes ?? ['float64']).includes('float64') ? 'float64' : 'float32';
