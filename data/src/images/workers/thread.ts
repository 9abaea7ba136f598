/** A thread that reads pictures: the file that `node.ts` starts. It answers each order in turn, with a batch or an error. */

import { type MessagePort, workerData } from 'node:worker_threads';
import { OutOfMemoryError } from '@otimes/core';
import { openSource } from '../files/folder.ts';
import { ImagePlan } from '../plan.ts';
import type { PictureSource } from '../source.ts';
import { type Answer, type Order, type ReaderData, SIGNALS } from './readers.ts';

const { recipe, transforms, signals, port } = workerData as ReaderData & { port: MessagePort };

const tell = (): void => {
  Atomics.add(signals, SIGNALS.answers, 1);
  Atomics.notify(signals, SIGNALS.answers);
};
process.on('exit', () => {
  Atomics.store(signals, SIGNALS.stopped, 1);
  tell();
});

const plan = new ImagePlan(transforms);

function sharedMemory(shape: readonly number[], size: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(size);
  } catch (cause) {
    throw new OutOfMemoryError(`ImageLoader: no memory for a batch [${shape}], ${size} bytes`, { cause });
  }
}

function filled({ id, indices, key, dropped, memory }: Order, source: PictureSource): Answer {
  const answer: { -readonly [K in keyof Answer]: Answer[K] } = {
    id,
    shape: [],
    memory: null,
    error: null,
    errorName: '',
  };
  const allocate = (shape: readonly number[]): Float32Array => {
    const size = shape.reduce((a, b) => a * b);
    const enough = memory !== null && memory.byteLength >= 4 * size;
    if (!enough) answer.memory = sharedMemory(shape, 4 * size);
    answer.shape = shape;
    return new Float32Array(enough ? memory : answer.memory!, 0, size);
  };
  plan.fill('ImageLoader', source, indices, key, allocate, index => {
    Atomics.store(signals, SIGNALS.reading, index);
    return Atomics.load(dropped, 0) === 0;
  });
  return answer;
}

// A source that cannot be opened is an error of every batch.
const opened = openSource(recipe).then(
  source => ({ source, error: null }),
  error => ({ source: null, error }),
);

port.on('message', async (order: Order) => {
  const { source, error } = await opened;
  let answer: Answer;
  try {
    if (source === null) throw error;
    answer = filled(order, source);
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    answer = { id: order.id, shape: [], memory: null, error, errorName: error.name };
  }
  Atomics.store(signals, SIGNALS.reading, -1);
  port.postMessage(answer);
  tell();
});
