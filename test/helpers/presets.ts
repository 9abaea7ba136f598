/** Presets of otimes-experiments with few samples, for tests. */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { StateDict } from '@otimes/core';
import type { Experiment, JsonRecord, OpenTask } from '../../experiments/src/experiment.ts';
import { TASKS } from '../../experiments/src/tasks/index.ts';

const IMAGES: JsonRecord = { train: 200, validation: 60, test: 80, batchSize: 64 };

/** What makes each task small. */
const SMALL: Readonly<Record<string, JsonRecord>> = {
  digits: IMAGES,
  fashion: IMAGES,
  autoencoder: IMAGES,
  chars: { train: 24, validation: 8, test: 10, batchSize: 8, length: 16 },
  'pinn-poisson': { inside: 40, edge: 5, measured: 50, stepsPerEpoch: 3 },
};

const FASHION = '/usr/share/datasets/fashion-mnist';

/** Options of a test that opens the preset: it is skipped without the data. */
export function presetsToOpen({ task }: Experiment): { skip?: string } {
  if (task === 'fashion' && !existsSync(FASHION)) return { skip: `no Fashion-MNIST in ${FASHION}` };
  return {};
}

export async function openSmall({ task: name, taskOptions }: Experiment): Promise<OpenTask> {
  const task = TASKS.find(one => one.name === name)!;
  return task.open({ data: null, device: 'cpu', workers: 0, options: { ...taskOptions, ...SMALL[name] } });
}

/** A hash of the names and bits of a state: comparing large ones number by number takes long. */
export function bitsOf(state: StateDict): string {
  const hash = createHash('sha256');
  for (const [name, x] of Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const data = x.dataSync();
    hash.update(`${name}:${x.dtype}[${x.shape}]`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}
