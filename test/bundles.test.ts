/** What a browser downloads: a training script with Adam and one with STEVE, and the device 'gpu'; bundled, minified and gzipped. */

import assert from 'node:assert/strict';
import t from 'tap';
import { law } from './helpers/law.ts';

/**
 * Limits in kB (1000 bytes): what was reached. They are lowered with what becomes smaller; whoever raises one says in
 * docs/decisions/ what the bytes are for.
 */
const LIMITS = { ADAM: 67.01, STEVE: 136.2 };

/** Of @otimes/gpu alone, without the packages that it imports and without gpu.js; and of what gpu.js is for it. */
const GPU_LIMIT = 60;
const GPUJS_LIMIT = 64;

type Bundle = Record<keyof typeof LIMITS | 'GPU', string> & {
  ELSEWHERE: readonly string[];
  bundledSize(program: string, external?: readonly string[]): Promise<number>;
  bundled(program: string): Promise<string>;
};
const bundle: Bundle = await import(new URL('../bench/bundle.mjs', import.meta.url).href);

for (const [name, limit] of Object.entries(LIMITS) as [keyof typeof LIMITS, number][])
  law(t, `a training script with ${name} is at most ${limit} kB for a browser`, async () => {
    const kB = (await bundle.bundledSize(bundle[name])) / 1000;
    assert.ok(kB <= limit, `${kB} kB, limit ${limit}; LIMITS in test/bundles.test.ts`);
    assert.ok(kB > limit - 1.5, `${kB} kB, and the limit is still ${limit}: lower it in test/bundles.test.ts`);
  });

law(t, `the device 'gpu' is at most ${GPU_LIMIT} kB, and gpu.js's compiler adds at most ${GPUJS_LIMIT}`, async () => {
  const others = ['@otimes/core', '@otimes/kernels'];
  const alone = (await bundle.bundledSize(bundle.GPU, [...others, 'gpu.js', 'acorn'])) / 1000;
  const compiler = (await bundle.bundledSize(bundle.GPU, others)) / 1000 - alone;
  console.log(`@otimes/gpu: ${alone.toFixed(1)} kB, and ${compiler.toFixed(1)} kB of gpu.js`);
  assert.ok(alone <= GPU_LIMIT, `${alone} kB, limit ${GPU_LIMIT}`);
  assert.ok(compiler <= GPUJS_LIMIT, `${compiler} kB of gpu.js, limit ${GPUJS_LIMIT}`);
});

law(t, 'a program with STEVE has nothing of SINGD and K-BFGS', async () => {
  const words = ['lrCov', 'normalizeLrCov', 'wantsCorrection', 'mu1'];
  const steve = await bundle.bundled(bundle.STEVE);
  assert.deepEqual(
    words.filter(word => steve.includes(word)),
    [],
  );
  const both = await bundle.bundled("export { KBFGS, SINGD } from '@otimes/optim';");
  assert.ok(words.every(word => both.includes(word)));
});

law(t, 'a program has the code of no operation, layer or optimizer that it does not call', async () => {
  const adam = await bundle.bundled(bundle.ADAM);
  assert.deepEqual(
    bundle.ELSEWHERE.filter(word => adam.includes(word)),
    [],
  );
  const others = "export { cumprod, lstm } from '@otimes/core'; export { ConvTranspose2d, ctcLoss } from '@otimes/nn';";
  const found = await bundle.bundled(others);
  for (const word of ['cumprod', 'lstm', 'ConvTranspose', 'ctcLoss']) assert.ok(found.includes(word), word);
});

law(t, 'a program with STEVE has nothing of the matrix optimizers', async () => {
  const words = ['SOAP', 'Shampoo', 'Muon', 'hostWork'];
  const steve = await bundle.bundled(bundle.STEVE);
  assert.deepEqual(
    words.filter(word => steve.includes(word)),
    [],
  );
  const all = await bundle.bundled("export { KLShampoo, Muon, SOAP } from '@otimes/optim';");
  for (const word of words) assert.ok(all.includes(word), word);
});

/** What a bundled program exports. */
const run = async (program: string): Promise<Record<string, unknown>> =>
  import(`data:text/javascript;base64,${Buffer.from(await bundle.bundled(program)).toString('base64')}`);

/** Calls `unfold` of devices, which is a kernel of convolutions. */
const KERNELS = `
import { ReferenceBackend, WasmBackend, getBackend, ones } from '@otimes/core';
const operand = ({ storage, dtype, shape, strides, offset }) => ({ storage, dtype, shape, strides, offset });
const window = { kernel: [1, 1], stride: [1, 1], padding: [0, 0], dilation: [1, 1] };
class Counting extends ReferenceBackend {
  calls = 0;
  unfold(...x) { this.calls++; super.unfold(...x); }
}
export const counting = new Counting('counting');
export const patchesOn = backend => {
  const [x, out] = [ones([1, 1, 2, 2]), ones([1, 4, 1])];
  backend.unfold(operand(x), operand(out), window);
  return [...out.dataSync()];
};
export { getBackend };
`;

law(t, 'kernels of a convolution come with it, also to classes that replace one; without it they say so', async () => {
  const without = await run(KERNELS);
  const plain = without as {
    patchesOn(backend: unknown): number[];
    counting: { calls: number };
    getBackend(name: string): unknown;
  };
  for (const backend of [plain.getBackend('cpu'), plain.getBackend('reference'), plain.counting])
    assert.throws(
      () => plain.patchesOn(backend),
      /^Error: unfold: this bundle has no such kernel; it comes with conv2d/,
    );
  const whole = (await run(`${KERNELS}\nexport { conv2d } from '@otimes/core';`)) as typeof plain;
  for (const backend of [whole.getBackend('cpu'), whole.getBackend('reference'), whole.counting])
    assert.deepEqual(whole.patchesOn(backend), [1, 1, 1, 1]);
  assert.equal(whole.counting.calls, 1);
});
