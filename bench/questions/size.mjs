/** How long from the start of a process to the first training step, and how much does a browser download? */

import { ADAM, bundledSize, STEVE } from '../bundle.mjs';

const TFJS = `
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
await tf.setBackend('wasm');
const sizes = [784, 512, 256, 10];
const weights = [0, 1, 2].map(i => tf.variable(tf.randomNormal([sizes[i], sizes[i + 1]])));
const biases = [0, 1, 2].map(i => tf.variable(tf.zeros([sizes[i + 1]])));
const optimizer = tf.train.adam(1e-3);
const x = tf.randomNormal([128, 784]), y = tf.oneHot(tf.randomUniform([128], 0, 10, 'int32'), 10);
for (let i = 0; i < 100; i++) {
  const loss = optimizer.minimize(() => {
    let h = x;
    for (let l = 0; l < 3; l++) { h = tf.add(tf.matMul(h, weights[l]), biases[l]); if (l < 2) h = tf.relu(h); }
    return tf.losses.softmaxCrossEntropy(y, h);
  }, true);
  console.log(loss.dataSync()[0]);
}`;

/** Smaller than it should be: jax-js has its optimizers in a package of their own. */
const JAX = `
import { init, jit, nn, numpy as np, valueAndGrad } from '@jax-js/jax';
await init('wasm');
const step = jit((w, x, y) => valueAndGrad(w => nn.logSoftmax(np.matmul(x, w)).mul(y).sum().mul(-1))(w));
const [loss, gradient] = step(np.ones([784, 10]), np.ones([128, 784]), np.ones([128, 10]));
console.log(await loss.data(), await gradient.data());`;

export async function* rows({ gzippedFile, coldStarts, peers }) {
  const args = { sizes: [2, 16, 1], batch: 4 };
  const starts = coldStarts('tiny', args, ['tfjs-wasm', 'jax-js', 'PyTorch']);
  yield { question: 'CPU time from nothing to the first training step', unit: 'ms', values: starts };

  const kB = async program => (await bundledSize(program)) / 1000;
  // The WebAssembly of otimes is in its script, that of TensorFlow.js in a file beside it, and jax-js makes its own.
  const values = { otimes: await kB(ADAM) };
  if (peers.has('tfjs-wasm'))
    values['tfjs-wasm'] =
      (await kB(TFJS)) + (await gzippedFile('@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm')) / 1000;
  if (peers.has('jax-js')) values['jax-js'] = await kB(JAX);
  yield { question: 'training script with Adam for a browser, minified and gzipped', unit: 'kB', values, limit: 80 };
  yield { question: 'the same with STEVE', unit: 'kB', values: { otimes: await kB(STEVE) }, limit: 80 };
}
