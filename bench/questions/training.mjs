/** What does a whole training step with Adam cost: gradients cleared, forward, backward, update, the loss read? */

export async function* rows({ compare }) {
  yield {
    question: 'MLP 784-512-256-10, batch 128',
    unit: 'ms',
    values: await compare('mlp', { sizes: [784, 512, 256, 10], batch: 128 }, ['tfjs-wasm', 'jax-js', 'PyTorch']),
    targets: { 'tfjs-wasm': 15, 'jax-js': 2.5, PyTorch: 0.38 },
  };
  yield {
    question: 'transformer block, d 128, 4 heads, 64 positions, batch 16',
    unit: 'ms',
    values: await compare('transformer', {}, ['tfjs-wasm', 'jax-js', 'PyTorch']),
    targets: { 'jax-js': 2.8, PyTorch: 0.45 },
  };
  yield {
    // TensorFlow.js has no gradient of a convolution's filter on WebAssembly.
    question: 'CNN 16-32, 28×28, batch 64',
    unit: 'ms',
    values: await compare('cnn', { batch: 64 }, ['jax-js', 'PyTorch']),
  };
  yield {
    question: 'MLP 2-16-1, batch 4',
    unit: 'µs',
    scale: 1000,
    values: await compare('tiny', { sizes: [2, 16, 1], batch: 4 }, ['tfjs-wasm', 'jax-js', 'PyTorch']),
    targets: { PyTorch: 20 },
  };
  yield {
    question: "PINN of Burgers' equation, 2-32-32-32-1, 1,024 points, float64",
    unit: 'ms',
    values: await compare('pinn', { sizes: [2, 32, 32, 32, 1], points: 1024 }, ['PyTorch']),
    targets: { PyTorch: 0.8 },
  };
}
