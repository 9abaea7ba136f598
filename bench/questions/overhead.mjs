/** What does one operation cost beside its arithmetic? An addition of 8×8 tensors in a chain of 200. */

const PEERS = ['tfjs-wasm', 'jax-js', 'PyTorch'];

export async function* rows({ compare }) {
  for (const backward of [false, true])
    yield {
      question: `add of 8×8, ${backward ? 'forward and backward' : 'forward'}`,
      unit: 'µs',
      scale: 1000,
      values: await compare('add', { n: 8, ops: 200, backward }, PEERS, { tolerance: 1e-3 }),
      targets: { PyTorch: 3 },
    };
}
