/** How fast are products of float32 matrices? */

const PEERS = ['tfjs-wasm', 'jax-js', 'numpy-ts', 'NumPy', 'PyTorch'];

export async function* rows({ compare }) {
  for (const n of [256, 512, 1024]) {
    const ms = await compare('sgemm', { n }, PEERS, { tolerance: 1e-3 });
    const values = Object.fromEntries(Object.entries(ms).map(([name, t]) => [name, (2 * n ** 3) / t / 1e6]));
    const targets = { 'tfjs-wasm': 1.5, 'jax-js': 2, 'numpy-ts': 1.5 };
    yield { question: `sgemm ${n}³`, unit: 'GFLOP/s', larger: true, values, targets };
  }
}
