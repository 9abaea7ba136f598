/** Threads that read pictures ahead: errors where they are due, threads that die, memory, and programs that end. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MessagePort, Worker } from 'node:worker_threads';
import { ImageLoader, transforms as T } from '@otimes/data';
import { openSource } from '@otimes/data/node';
import { type BuildOptions, build } from 'esbuild';
import { encode } from 'fast-png';
import t from 'tap';
import { law } from './helpers/law.ts';
import { root, run } from './helpers/packages.ts';
import { bits, epochNow, loaderOf, randomSource } from './helpers/pictures.ts';

/** Files of PNG, of these sizes; `broken` ends in the middle. */
async function files(t: { testdir(): string }, sizes: readonly (readonly [number, number])[], broken = -1) {
  const folder = t.testdir();
  const paths = sizes.map(([height, width], i) => {
    const path = join(folder, `${i}.png`);
    const file = encode({ width, height, channels: 1, depth: 8, data: new Uint8Array(width * height).fill(i) });
    writeFileSync(path, i === broken ? file.subarray(0, file.length - 20) : file);
    return path;
  });
  const labels = Int32Array.from(sizes, () => 0);
  return openSource({ kind: 'files', paths, labels, classes: ['only'], channels: 1 });
}

law(
  t,
  'an error in the third batch surfaces at the third batch, names the file, and leaves the loader fit to go on',
  async t => {
    const from = await files(t, Array<[number, number]>(8).fill([4, 4]), 5);
    for (const workers of [0, 1]) {
      const loader = new ImageLoader(from, { batchSize: 2, workers, prefetch: 3 });
      const unhandled: unknown[] = [];
      const listen = (error: unknown) => void unhandled.push(error);
      process.on('unhandledRejection', listen);
      for (const later of [false, true]) {
        let seen = 0;
        const all = async () => {
          if (later) for await (const _ of loader) seen++;
          else for (const _ of loader) seen++;
        };
        await assert.rejects(all, { name: 'FormatError', message: /\/5\.png: not a whole PNG/ });
        assert.equal(seen, 2);
        seen = 0;
        for await (const _ of loader) if (++seen === 2) break;
      }
      process.off('unhandledRejection', listen);
      assert.deepEqual(unhandled, []);
      loader.close();
    }
  },
);

law(
  t,
  'pictures of different sizes in a batch are an error that names two; of one size each batch may have its own',
  async t => {
    const from = await files(t, [
      [4, 4],
      [4, 4],
      [6, 5],
      [6, 5],
      [4, 4],
      [4, 5],
    ]);
    for (const workers of [0, 1]) {
      const loader = new ImageLoader(from, { batchSize: 2, workers });
      const shapes: (readonly number[])[] = [];
      assert.throws(
        () => {
          for (const [images] of loader) shapes.push(images.shape);
        },
        {
          name: 'ShapeError',
          message: /^ImageLoader: .*\[1,4,4\] of .*4\.png and \[1,4,5\] of .*5\.png; transforms\.resize/,
        },
      );
      assert.deepEqual(shapes, [
        [2, 1, 4, 4],
        [2, 1, 6, 5],
      ]);
      const sized = new ImageLoader(from, { batchSize: 6, transforms: [T.resize([3, 3])] });
      assert.deepEqual(
        [...sized].map(([images]) => images.shape),
        [[6, 1, 3, 3]],
      );
      loader.close();
    }
  },
);

/** The workers that are started while `during` runs. */
async function workersOf(during: () => unknown): Promise<Worker[]> {
  const { unref } = Worker.prototype;
  const workers = new Set<Worker>();
  Worker.prototype.unref = function (this: Worker) {
    workers.add(this);
    return unref.call(this);
  };
  try {
    await during();
  } finally {
    Worker.prototype.unref = unref;
  }
  return [...workers];
}

law(t, 'a thread that dies while it reads is an error that names the picture', async () => {
  // Batches that take a while: the thread is at one of those ahead when the first has come.
  const o = { batchSize: 10, workers: 1, prefetch: 5, transforms: [T.resize([600, 600])] };
  const loader = new ImageLoader(randomSource(60, [1, 8, 8]), o);
  const batches = loader[Symbol.asyncIterator]();
  const [worker] = await workersOf(() => batches.next());
  void worker!.terminate();
  const rest = async () => {
    for await (const _ of batches);
  };
  await assert.rejects(rest, {
    message:
      /^ImageLoader: a worker thread stopped \(exit code 1\) while it read picture \d+; workers: 0 reads in this/,
  });
  loader.close();
});

law(t, 'a thread that dies with nothing to do is an error of the batch that would be next for it', async () => {
  const loader = loaderOf({ workers: 1, prefetch: 0 });
  const batches = loader[Symbol.asyncIterator]();
  const [worker] = await workersOf(() => batches.next());
  await worker!.terminate();
  await new Promise(resolve => setTimeout(resolve, 5));
  await assert.rejects(batches.next(), {
    message: /^ImageLoader: a worker thread stopped \(exit code 1\); workers: 0/,
  });
  assert.equal(epochNow(loader).length, loader.length);
  loader.close();
});

law(
  t,
  'a thread that dies is an error of its batch, by for await and by for…of; the next loop has a new thread',
  async () => {
    const loader = loaderOf({ workers: 1, prefetch: 2 });
    const batches = loader[Symbol.asyncIterator]();
    const [worker] = await workersOf(() => batches.next());
    void worker!.terminate();
    const rest = async () => {
      for await (const _ of batches);
    };
    await assert.rejects(rest, {
      message: /^ImageLoader: a worker thread stopped \(exit code 1\).*; workers: 0 reads in this thread$/,
    });

    const again = loader[Symbol.iterator]();
    again.next();
    const { postMessage } = MessagePort.prototype;
    MessagePort.prototype.postMessage = function (this: MessagePort) {
      // Nothing that a thread understands.
      postMessage.call(this, null);
    };
    const after = () => {
      for (const _ of again);
    };
    try {
      assert.throws(after, { message: /^ImageLoader: a worker thread stopped/ });
    } finally {
      MessagePort.prototype.postMessage = postMessage;
    }
    assert.equal(epochNow(loader).length, loader.length);
    loader.close();
  },
);

law(t, 'threads begin prefetch batches beyond the one in use, and an epoch has memory for these alone', async () => {
  const { postMessage } = MessagePort.prototype;
  let orders: { memory: SharedArrayBuffer | null }[] = [];
  MessagePort.prototype.postMessage = function (this: MessagePort, ...message: Parameters<typeof postMessage>) {
    const [order] = message;
    // The worker itself is started by a message, too.
    if (typeof order === 'object' && order !== null && 'memory' in order) orders.push(order as (typeof orders)[number]);
    postMessage.apply(this, message);
  };
  try {
    const loader = loaderOf({ workers: 1, prefetch: 2, batchSize: 2 });
    for (const later of [true, false]) {
      orders = [];
      let used = 0;
      const see = () => assert.equal(orders.length, Math.min(loader.length, ++used + 2), `batch ${used}`);
      if (later) for await (const _ of loader) see();
      else for (const _ of loader) see();
      assert.equal(used, 19);
    }
    assert.equal(new Set(orders.map(({ memory }) => memory)).size, 3);
    loader.close();
  } finally {
    MessagePort.prototype.postMessage = postMessage;
  }
});

law(t, 'two loops over one loader with threads do not disturb each other', async () => {
  const loader = loaderOf({ workers: 1 });
  const plain = loaderOf();
  const expected = [epochNow(plain), epochNow(plain)];
  const loops = [loader[Symbol.iterator](), loader[Symbol.asyncIterator]()] as const;
  const seen: string[][] = [[], []];
  for (let i = 0; i < loader.length; i++) {
    seen[0]!.push(bits(loops[0].next().value));
    seen[1]!.push(bits((await loops[1].next()).value));
  }
  assert.deepEqual(seen, expected);
  loader.close();
});

law(t, 'a closed loader reads no more, and says so where a loop goes on', async () => {
  for (const workers of [0, 1]) {
    const loader = loaderOf({ workers });
    const batches = loader[Symbol.asyncIterator]();
    await batches.next();
    const waiting = workers === 0 ? null : loader[Symbol.asyncIterator]().next();
    loader.close();
    loader.close();
    const closed = { message: 'ImageLoader: the loader is closed' };
    if (waiting !== null) await assert.rejects(waiting, closed);
    await assert.rejects(batches.next(), closed);
    assert.throws(() => [...loader], closed);
  }
});

law(t, 'threads of a loader that is garbage end', async () => {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  const [worker] = await workersOf(async () => {
    for await (const _ of loaderOf({ workers: 1 })) break;
  });
  const ended = new Promise(resolve => worker!.once('exit', resolve));
  const timer = setInterval(gc, 20);
  await ended;
  clearInterval(timer);
});

const PROGRAM = (body: string) => `
import { ImageLoader, picturesInMemory } from '@otimes/data';
const pixels = new Uint8Array(new SharedArrayBuffer(64 * 48));
const source = picturesInMemory({ pixels, channels: 3, height: 4, width: 4, labels: new Int32Array(64), classes: ['a'] });
const loader = new ImageLoader(source, { batchSize: 4, workers: 1 });
${body}
console.log('end');
`;

law(t, 'a program ends though it left loops early, waits for none, and closed nothing', async () => {
  const program = PROGRAM(`
for (const _ of loader) break;
for await (const _ of loader) break;
const open = loader[Symbol.asyncIterator]();
await open.next();
`);
  const sources = ['--conditions=@otimes/source', '--import', 'tsx', '--input-type=module', '-e', program];
  assert.equal(await run(process.execPath, sources, root), 'end');
});

law(t, 'answers that are under way when a loader is closed are for nobody, and no error', async () => {
  // While this thread sleeps, the other one reads all that is ahead: some answers are events by then, some are at the port.
  const program = PROGRAM(`
for (const event of [false, true]) {
  const ahead = new ImageLoader(source, { batchSize: 4, workers: 1, prefetch: 9 });
  for await (const _ of ahead) { await null; break; }
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  if (event) await null;
  ahead.close();
  await new Promise(resolve => setTimeout(resolve, 50));
}
`);
  const sources = ['--conditions=@otimes/source', '--import', 'tsx', '--input-type=module', '-e', program];
  assert.equal(await run(process.execPath, sources, root), 'end');
});

law(t, 'in a bundle, which leaves out the file of the threads, a loader with threads says so', async t => {
  const outfile = join(t.testdir(), 'bundle.mjs');
  const contents = PROGRAM('');
  const stdin = { contents, resolveDir: join(root, 'test') };
  const o = { bundle: true, platform: 'node', format: 'esm', conditions: ['@otimes/source'] } satisfies BuildOptions;
  await build({ stdin, outfile, logLevel: 'silent', ...o });
  await assert.rejects(run(process.execPath, [outfile], root), {
    message: /workers: 1 cannot be, the file of its threads is not at .*; workers: 0 works/,
  });
});
