/**
 * The loader of pictures: how many a second, and how that grows with worker threads.
 *
 *   npm run bench bench/loader.ts                       pictures in memory, and JPEG files that it makes
 *   npm run bench bench/loader.ts -- --folder DIR       JPEG and PNG files of your own, a folder for each class
 *
 * An epoch is read without using what is read. 'a core' is pictures a second of CPU time of all threads together, 'the clock' of time
 * as it passes; medians of 7 epochs, after one that starts the threads. JPEGs are 32×32 of quality 90, colours at half the resolution.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import encode, { init } from '@jsquash/jpeg/encode.js';
import { Generator, scope, setThreads } from '@otimes/core';
import { ImageLoader, type ImageTransform, type PictureSource, picturesInMemory, transforms as T } from '@otimes/data';
import { imageFolder } from '@otimes/data/node';

const ROUNDS = 7;
const at = process.argv.indexOf('--folder');
const folder = at < 0 ? undefined : process.argv[at + 1];
await setThreads(1);

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;

/** Epochs of a loader: pictures a second of CPU time and of the clock. */
function epochs(source: PictureSource, transforms: ImageTransform[], workers: number): { core: number; clock: number } {
  const o = { batchSize: 128, shuffle: true, dropLast: true, rng: new Generator(1), transforms, workers };
  const loader = new ImageLoader(source, o);
  const [core, clock]: number[][] = [[], []];
  for (let round = -1; round < ROUNDS; round++) {
    const [cpu, start] = [process.cpuUsage(), performance.now()];
    const batches = loader[Symbol.iterator]();
    // Each batch is given back as one of a training step would be.
    while (scope(() => batches.next().done !== true));
    const { user, system } = process.cpuUsage(cpu);
    const pictures = loader.length * loader.batchSize;
    if (round < 0) continue;
    core!.push((pictures * 1e6) / (user + system));
    clock!.push((pictures * 1e3) / (performance.now() - start));
  }
  loader.close();
  return { core: median(core!), clock: median(clock!) };
}

function row(name: string, source: PictureSource, transforms: ImageTransform[], counts = [0, 1, 2]): void {
  for (const workers of counts) {
    const { core, clock } = epochs(source, transforms, workers);
    const numbers = [core, clock].map(x => Math.round(x).toLocaleString('en').padStart(12));
    console.log(`${name.padEnd(52)}${String(workers).padStart(7)}${numbers.join('')}`);
  }
}

/** Smooth colours with some noise, [n, 3, side, side]. */
function pixelsOf(n: number, side: number): Uint8Array {
  const rng = new Generator(0);
  const pixels = new Uint8Array(new SharedArrayBuffer(n * 3 * side * side));
  for (let i = 0; i < n * 3; i++) {
    const [a, b, phase] = [rng.uniform() / 3, rng.uniform() / 3, 6 * rng.uniform()];
    for (let p = 0; p < side * side; p++)
      pixels[i * side * side + p] =
        128 + 90 * Math.sin(a * (p % side) + b * Math.floor(p / side) + phase) + 20 * rng.uniform();
  }
  return pixels;
}

/** JPEG files of these pictures, ten folders. */
async function jpegs(home: string, pixels: Uint8Array, n: number, side: number): Promise<void> {
  const path = createRequire(import.meta.url).resolve('@jsquash/jpeg/codec/enc/mozjpeg_enc.wasm');
  await init({ wasmBinary: readFileSync(path) });
  const area = side * side;
  for (let c = 0; c < 10; c++) mkdirSync(join(home, String(c)));
  for (let i = 0; i < n; i++) {
    const data = new Uint8ClampedArray(4 * area);
    for (let p = 0; p < 4 * area; p++) data[p] = p % 4 === 3 ? 255 : pixels[(3 * i + (p % 4)) * area + (p >> 2)]!;
    const file = await encode(
      { data, width: side, height: side, colorSpace: 'srgb' },
      { quality: 90, auto_subsample: true },
    );
    writeFileSync(join(home, String(i % 10), `${i}.jpg`), new Uint8Array(file));
  }
}

const normalize = T.normalize([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]);
const augment = [T.randomCrop(32, { padding: 4 }), T.randomHorizontalFlip(), normalize];
console.log(`${'pictures'.padEnd(52)}${'workers'.padStart(7)}${'a core'.padStart(12)}${'the clock'.padStart(12)}`);

if (folder !== undefined) {
  const source = await imageFolder(folder);
  row('files, size 32, crop, flip, normalize', source, [T.resize([32, 32]), ...augment]);
} else {
  const n = 12800;
  const pixels = pixelsOf(n, 32);
  const labels = Int32Array.from({ length: n }, (_, i) => i % 10);
  const memory = picturesInMemory({ pixels, channels: 3, height: 32, width: 32, labels, classes: [...'0123456789'] });
  row('memory 32×32, crop (padding 4), flip, normalize', memory, augment);
  row('memory 32×32, normalize', memory, [normalize], [0]);
  row(
    'memory 32×32, randomResizedCrop 32, flip, normalize',
    memory,
    [T.randomResizedCrop(32), T.randomHorizontalFlip(), normalize],
    [0],
  );
  row('memory 32×32, resize 64, normalize', memory, [T.resize(64), normalize], [0]);
  const home = mkdtempSync(join(tmpdir(), 'otimes-loader-'));
  try {
    await jpegs(home, pixels, 3840, 32);
    row('JPEG 32×32, crop (padding 4), flip, normalize', await imageFolder(home), augment);
  } finally {
    rmSync(home, { recursive: true });
  }
}
