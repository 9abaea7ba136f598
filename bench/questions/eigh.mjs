/** What does a symmetric eigendecomposition with vectors cost, in float64? */

export async function* rows({ compare }) {
  for (const n of [64, 128, 256, 512, 1024])
    yield {
      question: `eigh float64, n = ${n}`,
      unit: 'ms',
      // At 1024 ml-matrix takes seven seconds each time.
      values: await compare('eigh', { n }, n < 1024 ? ['ml-matrix', 'NumPy'] : ['NumPy'], { tolerance: 1e-6 }),
      targets: { 'ml-matrix': 10, NumPy: 0.6 },
    };
}
