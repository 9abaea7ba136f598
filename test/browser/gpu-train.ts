/** What test/gpu-browser.test.ts trains in Node and in a browser. */

import type { GpuInfo } from '@otimes/gpu';
import type { Module } from '@otimes/nn';
import { Adam, type Optimizer, STEVE } from '@otimes/optim';
import { losses } from '../suites/float32.ts';

/** What a page or a worker reports; or the message of the error that came instead. */
export type GpuReport =
  | string
  | { readonly info: GpuInfo; readonly losses: Readonly<Record<string, readonly number[]>> };

const runs: Record<string, (model: Module) => Optimizer> = {
  Adam: model => new Adam(model.parameters(), { lr: 0.01 }),
  STEVE: model => new STEVE(model, { lr: 0.01, refreshEvery: 3 }),
};

/** Losses of each run whose name has `only` in it. */
export async function train(device: string, only = ''): Promise<Record<string, readonly number[]>> {
  const found: Record<string, readonly number[]> = {};
  for (const [name, make] of Object.entries(runs))
    if (name.includes(only)) found[name] = await losses('MLP', make, device);
  return found;
}
