/** What do the other factorisations cost, in float64? NumPy inverts by LU, having no Cholesky-based inverse. */

const TASKS = { cholesky: 'Cholesky', inverse: 'inverse, positive definite', qr: 'QR' };

export async function* rows({ compare }) {
  for (const [task, name] of Object.entries(TASKS))
    for (const n of [64, 256, 1024])
      yield {
        question: `${name} float64, n = ${n}`,
        unit: 'ms',
        values: await compare(task, { n }, n < 1024 ? ['ml-matrix', 'NumPy'] : ['NumPy'], { tolerance: 1e-6 }),
      };
}
