/** The tasks in TensorFlow.js on its WebAssembly backend, one thread. It has no eager eigendecomposition. */

import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { BATCHES, BLOCK, noise, oneHot } from './data.mjs';

const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
tf.env().set('PROD', true);
wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}/dist/`);
if (!(await tf.setBackend('wasm'))) throw new Error('tfjs: no wasm backend');
await tf.ready();

const of = (shape, seed, scale) =>
  tf.tensor(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
      scale,
    ),
    shape,
  );
const variable = (shape, seed, scale) => tf.variable(of(shape, seed, scale));
const constant = (n, value = 0) => tf.variable(tf.fill([n], value));
const batches = make => Array.from({ length: BATCHES }, (_, i) => make(10 + i));

function training(parameters, data, lossOf) {
  const optimizer = tf.train.adam(1e-3);
  let step = 0;
  const run = () => {
    const [x, y] = data[step++ % BATCHES];
    const loss = optimizer.minimize(() => lossOf(x, y), true, parameters);
    const value = loss.dataSync()[0];
    loss.dispose();
    return value;
  };
  return { run };
}

function layers(sizes) {
  const list = sizes
    .slice(1)
    .map((out, i) => [variable([sizes[i], out], i + 1, 2 * Math.sqrt(1 / sizes[i])), constant(out)]);
  const forward = (x, activation) =>
    list.reduce((h, [w, b], i) => {
      const z = h.matMul(w).add(b);
      return i < list.length - 1 ? activation(z) : z;
    }, x);
  return { parameters: list.flat(), forward };
}

export const tasks = {
  sgemm({ n }) {
    const [a, b] = [of([n, n], 1), of([n, n], 2)];
    return {
      run: () =>
        tf.tidy(() => {
          const last = tf
            .matMul(a, b)
            .slice([n - 1, 0], [1, n])
            .dataSync();
          return last[0] + last[n - 1];
        }),
    };
  },

  add({ n, ops, backward }) {
    const [x, y] = [of([n, n], 1), of([n, n], 2)];
    const chain = first => {
      let z = first;
      for (let i = 0; i < ops; i++) z = z.add(y);
      return z;
    };
    const gradient = tf.grad(first => chain(first).sum());
    return { run: () => tf.tidy(() => (backward ? gradient(x) : chain(x)).dataSync()[0]), units: ops };
  },

  mlp({ sizes, batch }) {
    const { parameters, forward } = layers(sizes);
    const data = batches(seed => [
      of([batch, sizes[0]], seed, 3),
      tf.tensor(oneHot(batch, 10, seed + 50), [batch, 10]),
    ]);
    return training(parameters, data, (x, y) =>
      tf.losses.softmaxCrossEntropy(
        y,
        forward(x, h => h.relu()),
      ),
    );
  },

  tiny({ sizes, batch }) {
    const { parameters, forward } = layers(sizes);
    const data = batches(seed => [of([batch, sizes[0]], seed), of([batch, sizes.at(-1)], -seed)]);
    return training(parameters, data, (x, y) =>
      forward(x, h => h.tanh())
        .sub(y)
        .square()
        .mean(),
    );
  },

  transformer() {
    const { d, heads, hidden, positions, batch } = BLOCK;
    const head = d / heads;
    const p = {
      scale1: constant(d, 1),
      shift1: constant(d),
      qkv: variable([d, 3 * d], 1, 0.15),
      qkvBias: constant(3 * d),
      o: variable([d, d], 2, 0.15),
      oBias: constant(d),
      scale2: constant(d, 1),
      shift2: constant(d),
      w1: variable([d, hidden], 3, 0.15),
      b1: constant(hidden),
      w2: variable([hidden, d], 4, 0.08),
      b2: constant(d),
    };
    const norm = (x, scale, shift) => {
      const centred = x.sub(x.mean(-1, true));
      return centred.mul(centred.square().mean(-1, true).add(1e-5).rsqrt()).mul(scale).add(shift);
    };
    const linear = (x, w, b) =>
      x
        .reshape([batch * positions, w.shape[0]])
        .matMul(w)
        .add(b)
        .reshape([batch, positions, w.shape[1]]);
    // By its tanh approximation; erf would be slower.
    const gelu = x => {
      const cubic = x.add(x.mul(x).mul(x).mul(0.044715));
      return x.mul(0.5).mul(tf.tanh(cubic.mul(Math.sqrt(2 / Math.PI))).add(1));
    };
    const forward = x => {
      const parts = tf.split(linear(norm(x, p.scale1, p.shift1), p.qkv, p.qkvBias), 3, -1);
      const [q, k, v] = parts.map(t => t.reshape([batch, positions, heads, head]).transpose([0, 2, 1, 3]));
      const attention = tf.softmax(tf.matMul(q, k, false, true).mul(1 / Math.sqrt(head)));
      const gathered = tf.matMul(attention, v).transpose([0, 2, 1, 3]).reshape([batch, positions, d]);
      const y = x.add(linear(gathered, p.o, p.oBias));
      return y.add(linear(gelu(linear(norm(y, p.scale2, p.shift2), p.w1, p.b1)), p.w2, p.b2));
    };
    const shape = [batch, positions, d];
    const data = batches(seed => [of(shape, seed, 3), of(shape, -seed, 3)]);
    return training(Object.values(p), data, (x, y) => forward(x).sub(y).square().mean());
  },
};
