/** Presets of otimes-experiments with few samples, and synthetic sets in the place of those that lie in folders, for tests. */

import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StateDict } from '@otimes/core';
import type { Experiment, JsonRecord, OpenTask } from '../../experiments/src/experiment.ts';
import { TASKS } from '../../experiments/src/tasks/index.ts';
import {
  writeSyntheticCifar10,
  writeSyntheticCifar100,
  writeSyntheticMnist,
  writeSyntheticTinyImageNet,
} from './image-sets.ts';

const IMAGES: JsonRecord = { train: 150, validation: 40, test: 60, batchSize: 50 };

/** What makes each task small. */
const SMALL: Readonly<Record<string, JsonRecord>> = {
  digits: IMAGES,
  fashion: IMAGES,
  cifar10: IMAGES,
  cifar100: IMAGES,
  'tiny-imagenet': IMAGES,
  autoencoder: IMAGES,
  chars: { train: 24, validation: 8, test: 10, batchSize: 8, length: 16 },
  'pinn-poisson': { inside: 40, edge: 5, measured: 50, stepsPerEpoch: 3 },
};

/** In the place of the networks of the paper, whose factors take minutes to decompose. */
const NARROW: JsonRecord = { network: 'cnn', channels: [4, 4, 4], size: 32 };

const WRITERS: Readonly<Record<string, (folder: string) => unknown>> = {
  fashion: folder => writeSyntheticMnist(folder, { train: 200, test: 80 }),
  cifar10: folder => writeSyntheticCifar10(folder, { train: 200, test: 80 }),
  cifar100: folder => writeSyntheticCifar100(folder, { train: 200, test: 100 }),
  'tiny-imagenet': folder => writeSyntheticTinyImageNet(folder, { train: 1, test: 100, classes: 200 }),
};

const folders = new Map<string, string>();
process.on('exit', () => {
  for (const folder of folders.values()) rmSync(folder, { recursive: true, force: true });
});

/** A folder with a synthetic set of the task, the same at every call; null for a task that needs none. */
export async function dataFor(task: string): Promise<string | null> {
  const write = WRITERS[task];
  if (write === undefined) return null;
  const known = folders.get(task);
  if (known !== undefined) return known;
  const folder = mkdtempSync(join(tmpdir(), 'otimes-presets-'));
  folders.set(task, folder);
  await write(folder);
  return folder;
}

/** @param more options that come last */
export async function openSmall({ name, task, taskOptions }: Experiment, more: JsonRecord = {}): Promise<OpenTask> {
  const options = { ...taskOptions, ...(name.startsWith('paper/') && NARROW), ...SMALL[task], ...more };
  const data = await dataFor(task);
  return TASKS.find(one => one.name === task)!.open({ data, device: 'cpu', workers: 0, options });
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
