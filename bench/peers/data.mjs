/** Numbers that the peers in both languages compute alike, so that their results can be compared. */

/** Entry i is in [−scale/2, scale/2); numpy does the same in worker.py. */
export function noise(size, seed, scale = 1) {
  const data = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const x = Math.sin(i + 1 + 1000 * seed) * 43758.5453;
    data[i] = (x - Math.floor(x) - 0.5) * scale;
  }
  return data;
}

export const labels = (size, classes, seed) =>
  Int32Array.from(noise(size, seed), x => Math.min(classes - 1, Math.floor((x + 0.5) * classes)));

export function oneHot(size, classes, seed) {
  const hot = new Float32Array(size * classes);
  for (const [i, label] of labels(size, classes, seed).entries()) hot[i * classes + label] = 1;
  return hot;
}

/** X Xᵀ/n, row-major: a covariance matrix, with X [n, n] of noise whose rows fade. */
export function gram(n) {
  const x = Float64Array.from(noise(n * n, 5), (value, i) => value / (1 + 0.05 * Math.floor(i / n)));
  const a = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += x[i * n + k] * x[j * n + k];
      a[i * n + j] = a[j * n + i] = sum / n;
    }
  return a;
}

/** The same, positive definite. */
export function definite(n) {
  const a = gram(n);
  for (let i = 0; i < n; i++) a[i * n + i] += 0.1;
  return a;
}

/** How many batches the training tasks take turns with. */
export const BATCHES = 8;
/** The transformer block: features, heads, hidden features, positions, batch. */
export const BLOCK = { d: 128, heads: 4, hidden: 512, positions: 64, batch: 16 };
/** The transformer over characters: symbols, features, heads, blocks, positions, batch. */
export const CHARS = { vocabulary: 65, d: 128, heads: 4, depth: 4, length: 64, batch: 16 };
