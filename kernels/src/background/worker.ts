/**
 * What the worker of `Background` runs, as text, for the reasons that threads/worker.ts gives: it decomposes one matrix
 * after the other in a memory of its own. Between jobs it sits in its event loop, where messages reach it although the event
 * loop of who sends them stands still.
 */

/** A job's first word (int32), where both sides say how far it is. */
export const STATUS = {
  /** Nobody has begun with it. */
  waiting: 0,
  /** The worker computes. */
  running: 1,
  /** The results are there. */
  done: 2,
  /** The matrix is not finite, or not symmetric. */
  refused: 3,
  /** The iteration did not converge. */
  diverged: 4,
  /** The worker broke; its text says why. */
  failed: 5,
  /** Taken away from the worker. */
  taken: 6,
} as const;

/** Characters of the text. */
export const TEXT = 192;
const TEXT_AT = 64;
const VALUES_AT = TEXT_AT + 2 * TEXT;

const align = (bytes: number) => (bytes + 63) & ~63;

/**
 * Where a job's parts lie in its buffer, in bytes: a word, a text (UTF-16), eigenvalues [n], the matrix, eigenvectors [n, n]
 * and, unless 0, the basis [n, n] that is to turn into them.
 */
export function layoutOf(n: number, bytesPerElement: number, turns: boolean) {
  const square = bytesPerElement * n * n;
  const matrix = align(VALUES_AT + 8 * n);
  const vectors = align(matrix + square);
  const after = align(vectors + square);
  const common = { text: TEXT_AT, values: VALUES_AT, matrix, vectors };
  return turns ? { ...common, basis: after, end: align(after + square) } : { ...common, basis: 0, end: after };
}

/** What the worker is started with: the compiled modules for unshared memories, and two words. */
export type Start = {
  readonly kernels: object;
  readonly eigen: object;
  /** 1 once it runs; and how many messages it has begun with. */
  readonly words: ArrayBufferLike;
};

/** What is posted for each job. */
export type Message = ReturnType<typeof layoutOf> & {
  readonly buffer: ArrayBufferLike;
  readonly n: number;
  /** Whether matrix, vectors and basis are float32; values are always float64. */
  readonly single: boolean;
  /** What passes as symmetric, see `symmetrise` of `EigenExports`. */
  readonly tolerance: number;
};

/** Bytes of memory that outlive a job. */
const KEEP = 256 * 2 ** 20;

/**
 * Defines `start(data, ready)`, which returns the function for jobs, and `failed(data, error)`. NOTE: scales by the same power
 * of two as `powerOfTwo` of @otimes/linalg, and otherwise calls what its `eigh` calls, and what core's `matmul` calls for
 * basisᵀ · vectors: results are the same to the last bit.
 */
export const WORKER = `'use strict';
let job = null;
function finish(status) {
  const words = new Int32Array(job.buffer, 0, 1);
  job = null;
  Atomics.store(words, 0, status);
  Atomics.notify(words, 0);
}
function failed(data, error) {
  if (job === null) return;
  const message = String(error && error.message || error);
  const text = new Uint16Array(job.buffer, job.text, ${TEXT});
  for (let i = 0; i < ${TEXT}; i++) text[i] = i < message.length ? message.charCodeAt(i) : 0;
  finish(${STATUS.failed});
}
function start({ kernels, eigen, words }, ready) {
  const progress = new Int32Array(words);
  let room = null;
  const open = () => {
    let memory = null;
    // A lower maximum for systems that set aside the address space of all of it.
    for (let maximum = 65536; memory === null; maximum /= 4)
      try {
        memory = new WebAssembly.Memory({ initial: 64, maximum });
      } catch (error) {
        if (maximum <= 256) throw error;
      }
    const products = new WebAssembly.Instance(kernels, { env: { memory } }).exports;
    return { memory, products, exports: new WebAssembly.Instance(eigen, { env: { memory }, kernels: products }).exports };
  };
  const decompose = ({ buffer, n, single, tolerance, values, matrix, vectors, basis }) => {
    if (room === null) room = open();
    const { memory, products, exports } = room;
    const size = n * n;
    const Matrix = single ? Float32Array : Float64Array;
    const scratch = 1024;
    let end = scratch + products.gemmScratch();
    const place = bytes => {
      const at = Math.ceil(end / 64) * 64;
      end = at + bytes;
      return at;
    };
    const a = place(8 * size);
    const w = place(8 * n);
    const v = place(8 * size);
    const work = place(exports.eighWork_f64(n) >>> 0);
    const product = place(basis === 0 ? 0 : (single ? 4 : 8) * size);
    const missing = Math.ceil((end - memory.buffer.byteLength) / 65536);
    if (missing > 0)
      try {
        memory.grow(missing);
      } catch {
        throw new Error('no memory for ' + end + ' bytes');
      }
    const f64 = new Float64Array(memory.buffer);
    f64.set(new Matrix(buffer, matrix, size), a / 8);
    const max = exports.symmetrise_f64(n, a, tolerance);
    if (max < 0) return ${STATUS.refused};
    const scale = max === 0 ? 1 : 2 ** Math.max(-1074, Math.min(1023, Math.floor(Math.log2(max))));
    if (scale !== 1) exports.divide_f64(size, scale, a);
    if (exports.eigh_f64(n, a, w, v, work, scratch) === 0) return ${STATUS.diverged};
    const scaled = new Float64Array(buffer, values, n);
    for (let i = 0; i < n; i++) scaled[i] = f64[w / 8 + i] * scale;
    const found = new Matrix(buffer, vectors, size);
    found.set(f64.subarray(a / 8, a / 8 + size));
    if (basis !== 0) {
      // In the places of what is done with: the vectors as they were rounded, and the basis.
      const old = new Matrix(buffer, basis, size);
      new Matrix(memory.buffer, v, size).set(found);
      new Matrix(memory.buffer, a, size).set(old);
      const gemm = single ? products.sgemm : products.dgemm;
      gemm(n, n, n, a, 1, n, v, n, 1, product, n, 0, 0, 0, 1, 0, 0, 0, scratch);
      old.set(new Matrix(memory.buffer, product, size));
    }
    return ${STATUS.done};
  };
  Atomics.store(progress, 0, 1);
  ready();
  return message => {
    Atomics.add(progress, 1, 1);
    if (Atomics.compareExchange(new Int32Array(message.buffer, 0, 1), 0, ${STATUS.waiting}, ${STATUS.running}) !== ${STATUS.waiting}) return;
    job = message;
    try {
      finish(decompose(message));
    } catch (error) {
      room = null;
      failed(null, error);
    }
    if (room !== null && room.memory.buffer.byteLength > ${KEEP}) room = null;
  };
}
`;
