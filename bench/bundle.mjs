/** What a browser downloads of a training script. `test/bundles.test.ts` holds the sizes to their limits. */

import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

export const ADAM = `
import { randint, randn } from '@otimes/core';
import { crossEntropy, mlp } from '@otimes/nn';
import { Adam } from '@otimes/optim';
const model = mlp([784, 512, 256, 10]);
const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
const x = randn([128, 784]), y = randint(0, 10, [128]);
for (let i = 0; i < 100; i++) {
  optimizer.zeroGrad();
  const loss = crossEntropy(model.call(x), y);
  loss.backward();
  optimizer.step();
  console.log(loss.item());
}`;
export const STEVE = ADAM.replaceAll('Adam', 'STEVE').replace('model.parameters()', 'model');

/** Words in the code of operations, layers and optimizers that neither of these programs calls. */
export const ELSEWHERE = [
  ...['conv1d', 'conv3d', 'convTranspose', 'winograd', 'maxPool1d', 'interpolate', 'attention'],
  ...['cumprod', 'logsumexp', 'silu', 'softplus', 'argsort', 'topk', 'scatterMax', 'nonzero', 'unique', 'multinomial'],
  ...['bernoulli', 'lstm', 'ctcLoss', 'cdist', 'einsum', 'tril', 'cholesky', 'svd', 'jacobian', 'safetensors'],
  ...['LSTM', 'Conv1d', 'ConvTranspose', 'RMSNorm', 'BatchNorm', 'Embedding', 'PReLU', 'LBFGS', 'Lion'],
];

/** The package for the GPU, of which everything is used. */
export const GPU = "export * from '@otimes/gpu';";

/** The parser that gpu.js has, as the published package has it once for both (gpu/bundle.mjs). */
const require = createRequire(import.meta.url);
const acorn = createRequire(require.resolve('gpu.js')).resolve('acorn').replace(/\.js$/, '.mjs');

/** The files of a program as a browser gets it, bundled and minified, but for what is `external`. */
async function bundle(program, external = []) {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: import.meta.dirname, loader: 'ts' },
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'esm',
    conditions: ['@otimes/source'],
    external,
    alias: external.includes('acorn') ? {} : { acorn },
    write: false,
    outdir: '.build',
    logLevel: 'error',
  });
  return outputFiles;
}

/** The size of these in bytes, gzipped. */
export async function bundledSize(program, external) {
  return (await bundle(program, external)).reduce((sum, { contents }) => sum + gzipSync(contents).length, 0);
}

/** The text of the only one. */
export const bundled = async program => (await bundle(program))[0].text;
