/** The tasks in jax-js on its WebAssembly backend: training steps under jit, single operations eagerly. */

import { blockUntilReady, defaultDevice, init, jit, lax, nn, numpy as np, tree, valueAndGrad } from '@jax-js/jax';
import { BATCHES, BLOCK, noise, oneHot } from './data.mjs';

await init('wasm');
defaultDevice('wasm');

const of = (shape, seed, scale) =>
  np.array(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
      scale,
    ),
    { shape },
  );
const batches = make => Array.from({ length: BATCHES }, (_, i) => make(10 + i));

/** Adam in jax-js operations, so that jit sees all of a step. */
const adam = {
  init: p => ({
    m: tree.map(x => np.zerosLike(x), tree.ref(p)),
    v: tree.map(x => np.zerosLike(x), tree.ref(p)),
    t: np.array(0),
  }),
  update(p, g, s) {
    const t = s.t.add(1);
    const [c1, c2] = [0.9, 0.999].map(beta => np.subtract(1, np.power(beta, t.ref)));
    const next = { p: {}, m: {}, v: {}, t };
    for (const k of Object.keys(p)) {
      next.m[k] = s.m[k].mul(0.9).add(g[k].ref.mul(0.1));
      next.v[k] = s.v[k].mul(0.999).add(g[k].ref.mul(g[k]).mul(0.001));
      const root = np.sqrt(next.v[k].ref.div(c2.ref)).add(1e-8);
      next.p[k] = p[k].sub(next.m[k].ref.div(c1.ref).mul(1e-3).div(root));
    }
    c1.dispose();
    c2.dispose();
    const { p: parameters, ...state } = next;
    return [parameters, state];
  },
};

function training(parameters, data, lossOf) {
  const lossAndGradient = valueAndGrad(lossOf);
  const update = jit((p, s, x, y) => {
    const [loss, gradient] = lossAndGradient(tree.ref(p), x, y);
    return [loss, ...adam.update(p, gradient, s)];
  });
  let p = tree.ref(parameters);
  let s = adam.init(p);
  let step = 0;
  const run = async () => {
    const [x, y] = data[step++ % BATCHES];
    let loss;
    [loss, p, s] = update(p, s, x.ref, y.ref);
    await blockUntilReady(p);
    return (await loss.data())[0];
  };
  return { run };
}

function layers(sizes) {
  const parameters = {};
  for (let i = 1; i < sizes.length; i++) {
    parameters[`w${i}`] = of([sizes[i - 1], sizes[i]], i, 2 * Math.sqrt(1 / sizes[i - 1]));
    parameters[`b${i}`] = np.zeros([sizes[i]]);
  }
  const forward = (p, x, activation) => {
    let h = x;
    for (let i = 1; i < sizes.length; i++) {
      h = np.matmul(h, p[`w${i}`]).add(p[`b${i}`]);
      if (i < sizes.length - 1) h = activation(h);
    }
    return h;
  };
  return { parameters, forward };
}

const crossEntropy = (logits, hot, batch) =>
  nn
    .logSoftmax(logits)
    .mul(hot)
    .sum()
    .mul(-1 / batch);
const hotLabels = (batch, seed) => np.array(oneHot(batch, 10, seed + 50), { shape: [batch, 10] });

export const tasks = {
  sgemm({ n }) {
    const [a, b] = [of([n, n], 1), of([n, n], 2)];
    return {
      async run() {
        const c = np.matmul(a.ref, b.ref);
        // Or only the row would be computed.
        await blockUntilReady(c);
        const last = await c.slice(n - 1).data();
        return last[0] + last[n - 1];
      },
    };
  },

  add({ n, ops, backward }) {
    const [x, y] = [of([n, n], 1), of([n, n], 2)];
    const chain = first => {
      let z = first;
      for (let i = 0; i < ops; i++) z = z.add(y.ref);
      return z;
    };
    const both = valueAndGrad(first => chain(first).sum());
    const run = async () => {
      if (!backward) return (await chain(x.ref).data())[0];
      const [value, gradient] = both(x.ref);
      value.dispose();
      return (await gradient.data())[0];
    };
    return { run, units: ops };
  },

  mlp({ sizes, batch }) {
    const { parameters, forward } = layers(sizes);
    const data = batches(seed => [of([batch, sizes[0]], seed, 3), hotLabels(batch, seed)]);
    return training(parameters, data, (p, x, y) => crossEntropy(forward(p, x, nn.relu), y, batch));
  },

  tiny({ sizes, batch }) {
    const { parameters, forward } = layers(sizes);
    const data = batches(seed => [of([batch, sizes[0]], seed), of([batch, sizes.at(-1)], -seed)]);
    return training(parameters, data, (p, x, y) => np.square(forward(p, x, np.tanh).sub(y)).mean());
  },

  transformer() {
    const { d, heads, hidden, positions, batch } = BLOCK;
    const head = d / heads;
    const parameters = {
      scale1: np.ones([d]),
      shift1: np.zeros([d]),
      qkv: of([d, 3 * d], 1, 0.15),
      qkvBias: np.zeros([3 * d]),
      o: of([d, d], 2, 0.15),
      oBias: np.zeros([d]),
      scale2: np.ones([d]),
      shift2: np.zeros([d]),
      w1: of([d, hidden], 3, 0.15),
      b1: np.zeros([hidden]),
      w2: of([hidden, d], 4, 0.08),
      b2: np.zeros([d]),
    };
    const rows = [batch * positions, d];
    const shape = [batch, positions, d];
    const norm = (x, scale, shift) => nn.standardize(x, -1).mul(scale).add(shift);
    const forward = (p, x) => {
      const qkv = np
        .matmul(norm(x.ref, p.scale1, p.shift1).reshape(rows), p.qkv)
        .add(p.qkvBias)
        .reshape([batch, positions, 3, heads, head])
        .transpose([2, 0, 3, 1, 4]);
      const [q, k, v] = [qkv.ref.slice(0), qkv.ref.slice(1), qkv.slice(2)];
      const scores = np.matmul(q, k.transpose([0, 1, 3, 2])).mul(1 / Math.sqrt(head));
      const gathered = np.matmul(nn.softmax(scores, -1), v).transpose([0, 2, 1, 3]).reshape(rows);
      const y = x.add(np.matmul(gathered, p.o).add(p.oBias).reshape(shape));
      const inner = nn.gelu(np.matmul(norm(y.ref, p.scale2, p.shift2).reshape(rows), p.w1).add(p.b1));
      return y.add(np.matmul(inner, p.w2).add(p.b2).reshape(shape));
    };
    const data = batches(seed => [of(shape, seed, 3), of(shape, -seed, 3)]);
    return training(parameters, data, (p, x, y) => np.square(forward(p, x).sub(y)).mean());
  },

  cnn({ batch }) {
    const parameters = {
      w1: of([16, 1, 3, 3], 1, 0.6),
      b1: np.zeros([16, 1, 1]),
      w2: of([32, 16, 3, 3], 2, 0.2),
      b2: np.zeros([32, 1, 1]),
      w3: of([1568, 10], 3, 0.05),
      b3: np.zeros([10]),
    };
    const block = (x, w, b) =>
      lax.reduceWindow(nn.relu(lax.convGeneralDilated(x, w, [1, 1], 'SAME').add(b)), np.max, [2, 2], [2, 2]);
    const data = batches(seed => [of([batch, 1, 28, 28], seed, 3), hotLabels(batch, seed)]);
    return training(parameters, data, (p, x, y) => {
      const features = block(block(x, p.w1, p.b1), p.w2, p.b2).reshape([batch, 1568]);
      return crossEntropy(np.matmul(features, p.w3).add(p.b3), y, batch);
    });
  },
};
