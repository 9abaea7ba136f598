/**
 * What a worker thread runs, as text: so it needs no file and no URL, and is the same from the sources, from `dist` and
 * from any bundle. It is plain JavaScript without imports; the host puts in front of it how it gets its first message.
 */

/**
 * A call lies in a SharedArrayBuffer of its own, so that it does not move when the kernels' memory grows: words (int32)
 * at these places, then a text, then for each piece a row of arguments (float64, as addresses go beyond 2³¹).
 */
export const WORD = {
  /** Counts calls; workers sleep on it. */
  generation: 0,
  /** Pieces that nobody took yet. Who lowers it from n to n − 1 has taken piece n − 1. */
  left: 1,
  /** Pieces that are finished; the caller sleeps on it. */
  done: 2,
  /** Which export, of how many arguments, and which of them is the scratch (−1: none). */
  export: 3,
  arity: 4,
  scratch: 5,
  /** What the exports returned, joined by "or". */
  result: 6,
  /** How many workers sleep, and whether the caller does. */
  sleeping: 7,
  waiting: 8,
  /** `FAILED` once a worker has failed and its message is there. */
  failed: 9,
  /** Unless 0, workers end. */
  stop: 10,
  /** So often a worker looks for the next call before it sleeps. */
  spin: 11,
  /** How many modules were loaded beside the first one, and where the bytes of each lie in the memory: address and length. */
  parts: 12,
  part: 13,
  /** How many workers have come up. */
  up: 45,
  /** From here on one word a worker, 1 while it may hold a piece. */
  busy: 46,
} as const;

export const FAILED = 2;
/** Modules that a call has words for. */
export const MOST_PARTS = (WORD.up - WORD.part) / 2;
/** Workers that a call has words for. */
export const MOST_WORKERS = 63;
/** Pieces of one call, and arguments of one piece, at most. */
export const MOST_PIECES = 256;
export const ROW = 32;
/** Characters of the message of a failed worker. */
export const TEXT = 256;

const TEXT_AT = 4 * (WORD.busy + MOST_WORKERS + 1);
const TABLE_AT = Math.ceil((TEXT_AT + 2 * TEXT) / 64) * 64;

/** Bytes of the buffer, and views of its parts. */
export const CALL_BYTES = TABLE_AT + MOST_PIECES * ROW * 8;
export const wordsOf = (buffer: ArrayBufferLike) => new Int32Array(buffer, 0, TEXT_AT / 4);
export const textOf = (buffer: ArrayBufferLike) => new Uint16Array(buffer, TEXT_AT, TEXT);
export const tableOf = (buffer: ArrayBufferLike) => new Float64Array(buffer, TABLE_AT, MOST_PIECES * ROW);

/** What a worker is started with. */
export type Start = {
  /** The compiled module of the kernels and their memory. */
  readonly module: object;
  readonly memory: object;
  readonly call: ArrayBufferLike;
  /** Which worker it is, from 0. */
  readonly index: number;
  /** The address of its own scratch. */
  readonly scratch: number;
};

/**
 * Defines `start(data, ready)`, which returns when the workers are to end, and `failed(data, error)`, which tells the caller
 * that this one is no good any more.
 */
export const WORKER = `'use strict';
function failed({ call }, error) {
  const words = new Int32Array(call, 0, ${TEXT_AT / 4});
  if (Atomics.compareExchange(words, ${WORD.failed}, 0, 1) === 0) {
    const message = String(error && error.message || error);
    const text = new Uint16Array(call, ${TEXT_AT}, ${TEXT});
    for (let i = 0; i < ${TEXT}; i++) text[i] = i < message.length ? message.charCodeAt(i) : 0;
    Atomics.store(words, ${WORD.failed}, ${FAILED});
  }
  Atomics.notify(words, ${WORD.done});
}
function start(data, ready) {
  const { module, memory, call, index, scratch } = data;
  const words = new Int32Array(call, 0, ${TEXT_AT / 4});
  const table = new Float64Array(call, ${TABLE_AT}, ${MOST_PIECES * ROW});
  const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const exported = Object.values(kernels);
  Atomics.add(words, ${WORD.up}, 1);
  ready();
  let parts = 0;
  const piece = at => {
    for (; parts < words[${WORD.parts}]; parts++) {
      const [from, length] = [words[${WORD.part} + 2 * parts] >>> 0, words[${WORD.part} + 2 * parts + 1]];
      const part = new WebAssembly.Module(new Uint8Array(memory.buffer, from, length).slice());
      exported.push(...Object.values(new WebAssembly.Instance(part, { env: { memory }, kernels }).exports));
    }
    const args = [];
    for (let i = 0; i < words[${WORD.arity}]; i++) args.push(table[at * ${ROW} + i]);
    if (words[${WORD.scratch}] >= 0) args[words[${WORD.scratch}]] = scratch;
    const result = exported[words[${WORD.export}]].apply(undefined, args);
    if (result) Atomics.or(words, ${WORD.result}, result);
  };
  for (;;) {
    const generation = Atomics.load(words, ${WORD.generation});
    if (Atomics.load(words, ${WORD.stop}) !== 0) return;
    Atomics.store(words, ${WORD.busy} + index, 1);
    for (let left; (left = Atomics.load(words, ${WORD.left})) > 0; ) {
      if (Atomics.compareExchange(words, ${WORD.left}, left, left - 1) !== left) continue;
      try {
        piece(left - 1);
      } catch (error) {
        Atomics.store(words, ${WORD.busy} + index, 0);
        failed(data, error);
        return;
      }
      Atomics.add(words, ${WORD.done}, 1);
      if (Atomics.load(words, ${WORD.waiting}) !== 0) Atomics.notify(words, ${WORD.done});
    }
    Atomics.store(words, ${WORD.busy} + index, 0);
    for (let i = words[${WORD.spin}]; i > 0 && Atomics.load(words, ${WORD.generation}) === generation; i--);
    if (Atomics.load(words, ${WORD.generation}) !== generation) continue;
    Atomics.add(words, ${WORD.sleeping}, 1);
    Atomics.wait(words, ${WORD.generation}, generation);
    Atomics.sub(words, ${WORD.sleeping}, 1);
  }
}
`;
