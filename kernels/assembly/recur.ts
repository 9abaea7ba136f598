// Recurrent layers over whole sequences (Elman 1990; Hochreiter & Schmidhuber 1997, with forget gates; Cho et al. 2014, as PyTorch
// computes it), and their gradients. The products with the inputs come from outside, all steps at once; a step here is the product of
// the state with the weight, which is packed once for all steps, and then a row of the batch after the other, whose gates lie in the
// first-level cache until they are done. Sequences that have ended keep their state, and the rows of their results are 0.
import { all, bytesOf, loadUpTo, storeUpTo } from './elementwise-lanes';
import { relu, sigmoid, tanh } from './elementwise-math';
import { edge, KC, part } from './gemm';
import { MR, rows } from './generated/blocks';
import { panelOf } from './pack';
import { product } from './products';
import { lanes } from './vector';

/** Bytes of a row of a register block, and of a panel of 8 or 4 columns for each step of k. */
const LINE: usize = 32;

// The cells, by the argument `cell`.
const RELU: i32 = 0;
const LSTM: i32 = 2;
const GRU: i32 = 3;

/** Rows of the weight for each hidden unit. */
// @ts-ignore: decorator
@inline
function gatesOf(cell: i32): i32 {
  return cell == LSTM ? 4 : cell == GRU ? 3 : 1;
}

/** Numbers that are saved of each hidden unit and step: lstm i, f, g, o, c before, tanh c; gru r, z, q, n; else y. */
// @ts-ignore: decorator
@inline
function savedOf(cell: i32): i32 {
  return cell == LSTM ? 6 : cell == GRU ? 4 : 1;
}

// --- products -------------------------------------------------------------------------------------------------------------

/** Packs B [k, n] in panels of as many columns as have place side by side, parts of k one after the other. */
function packed<T>(n: i32, k: i32, b: usize, br: usize, bc: usize, to: usize): void {
  const NR = 2 * lanes<T>();
  const step = part(k, KC, 4);
  for (let from = 0; from < k; from += step) {
    const count = min(step, k - from);
    for (let j = 0; j < n; j += NR, to += <usize>count * LINE)
      panelOf<T>(min(n - j, NR), NR, count, b + <usize>from * br + <usize>j * bc, bc, br, to);
  }
}

/** C [m, n] ← A [m, k] · B + what lies at `from`, if that is not 0, for a B that `packed` has packed. */
function times<T>(
  m: i32, n: i32, k: i32, a: usize, ar: usize, panels: usize, c: usize, cr: usize, from: usize, fr: usize, scratch: usize,
): void {
  const NR = 2 * lanes<T>();
  const step = part(k, KC, 4);
  const high = part(m, MR, 1);
  for (let p = 0; p < k; p += step) {
    const count = min(step, k - p);
    if (p > 0) {
      from = c;
      fr = cr;
    }
    for (let j = 0; j < n; j += NR, panels += <usize>count * LINE) {
      const at = bytesOf<T>(j);
      const whole = n - j >= NR;
      for (let i = 0; i < m; i += high) {
        const rowsHere = min(high, m - i);
        const to = c + <usize>i * cr + at;
        const source = from ? from + <usize>i * fr + at : 0;
        rows<T>(
          rowsHere, count, a + <usize>i * ar + bytesOf<T>(p), ar, sizeof<T>(), panels, LINE,
          whole ? to : scratch, whole ? cr : LINE, whole ? source : 0, fr,
        );
        if (!whole) edge<T>(rowsHere, n - j, scratch, to, cr, source, fr, false);
      }
    }
  }
}

// --- rows of n elements ---------------------------------------------------------------------------------------------------

// NOTE: loops over functions test their end last; see elementwise.mjs.

function sigmoids<T>(n: i32, x: usize): void {
  do {
    storeUpTo<T>(x, sigmoid<T>(loadUpTo<T>(x, n, all<T>(0))), n);
    n -= lanes<T>();
    x += 16;
  } while (n > 0);
}

function tanhs<T>(n: i32, x: usize, to: usize): void {
  do {
    storeUpTo<T>(to, tanh<T>(loadUpTo<T>(x, n, all<T>(0))), n);
    n -= lanes<T>();
    x += 16;
    to += 16;
  } while (n > 0);
}

function relus<T>(n: i32, x: usize, to: usize): void {
  for (; n > 0; n -= lanes<T>(), x += 16, to += 16) storeUpTo<T>(to, relu<T>(loadUpTo<T>(x, n, all<T>(0))), n);
}

/** x ← σ(x + p) */
function sigmoidSums<T>(n: i32, x: usize, p: usize): void {
  do {
    const sum = v128.add<T>(loadUpTo<T>(x, n, all<T>(0)), loadUpTo<T>(p, n, all<T>(0)));
    storeUpTo<T>(x, sigmoid<T>(sum), n);
    n -= lanes<T>();
    x += 16;
    p += 16;
  } while (n > 0);
}

// @ts-ignore: decorator
@inline
function get<T>(x: usize, at: usize, n: i32): v128 {
  return loadUpTo<T>(x + at, n, all<T>(0));
}

/** Of one sequence: x holds i, f, g, o before their functions; c is replaced, h and y get the new state. */
function lstmRow<T>(n: i32, x: usize, c: usize, h: usize, y: usize): void {
  const line = bytesOf<T>(n);
  sigmoids<T>(2 * n, x);
  tanhs<T>(n, x + 2 * line, x + 2 * line);
  sigmoids<T>(n, x + 3 * line);
  const tops = x + 5 * line;
  let at: usize = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const before = get<T>(c, at, left);
    const input = v128.mul<T>(get<T>(x, at, left), get<T>(x + 2 * line, at, left));
    const after = v128.add<T>(v128.mul<T>(get<T>(x + line, at, left), before), input);
    storeUpTo<T>(x + 4 * line + at, before, left);
    storeUpTo<T>(c + at, after, left);
  }
  tanhs<T>(n, c, tops);
  at = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const state = v128.mul<T>(get<T>(x + 3 * line, at, left), get<T>(tops, at, left));
    storeUpTo<T>(h + at, state, left);
    storeUpTo<T>(y + at, state, left);
  }
}

/** Of one sequence: x holds the products of the state for r, z, n, and p those of the input. */
function gruRow<T>(n: i32, x: usize, p: usize, h: usize, y: usize): void {
  const line = bytesOf<T>(n);
  sigmoidSums<T>(2 * n, x, p);
  const q = x + 2 * line;
  const news = x + 3 * line;
  let at: usize = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const reset = v128.mul<T>(get<T>(x, at, left), get<T>(q, at, left));
    storeUpTo<T>(news + at, v128.add<T>(get<T>(p + 2 * line, at, left), reset), left);
  }
  tanhs<T>(n, news, news);
  at = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const fresh = get<T>(news, at, left);
    const kept = v128.mul<T>(get<T>(x + line, at, left), v128.sub<T>(get<T>(h, at, left), fresh));
    const state = v128.add<T>(fresh, kept);
    storeUpTo<T>(h + at, state, left);
    storeUpTo<T>(y + at, state, left);
  }
}

/** x (1 − x), the slope of the logistic function whose value is x. */
// @ts-ignore: decorator
@inline
function slope<T>(x: v128): v128 {
  return v128.mul<T>(x, v128.sub<T>(all<T>(1), x));
}

/** 1 − x², that of tanh. */
// @ts-ignore: decorator
@inline
function slopeOfTanh<T>(x: v128): v128 {
  return v128.sub<T>(all<T>(1), v128.mul<T>(x, x));
}

/** g is the gradient that comes to the row of the result, dh and dc those of the state: dc is replaced, dh becomes 0. */
function lstmRowBackward<T>(n: i32, x: usize, g: usize, dp: usize, dh: usize, dc: usize): void {
  const line = bytesOf<T>(n);
  let at: usize = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const d = v128.add<T>(get<T>(g, at, left), get<T>(dh, at, left));
    const i = get<T>(x, at, left);
    const f = get<T>(x + line, at, left);
    const u = get<T>(x + 2 * line, at, left);
    const o = get<T>(x + 3 * line, at, left);
    const top = get<T>(x + 5 * line, at, left);
    const through = v128.mul<T>(v128.mul<T>(d, o), slopeOfTanh<T>(top));
    const c = v128.add<T>(get<T>(dc, at, left), through);
    storeUpTo<T>(dp + at, v128.mul<T>(v128.mul<T>(c, u), slope<T>(i)), left);
    storeUpTo<T>(dp + line + at, v128.mul<T>(v128.mul<T>(c, get<T>(x + 4 * line, at, left)), slope<T>(f)), left);
    storeUpTo<T>(dp + 2 * line + at, v128.mul<T>(v128.mul<T>(c, i), slopeOfTanh<T>(u)), left);
    storeUpTo<T>(dp + 3 * line + at, v128.mul<T>(v128.mul<T>(d, top), slope<T>(o)), left);
    storeUpTo<T>(dc + at, v128.mul<T>(c, f), left);
    storeUpTo<T>(dh + at, all<T>(0), left);
  }
}

/** `h` is the state before the step; dq is the gradient by the products of the state, dh what comes to the state past them. */
function gruRowBackward<T>(n: i32, x: usize, h: usize, g: usize, dp: usize, dq: usize, dh: usize): void {
  const line = bytesOf<T>(n);
  let at: usize = 0;
  for (let left = n; left > 0; left -= lanes<T>(), at += 16) {
    const d = v128.add<T>(get<T>(g, at, left), get<T>(dh, at, left));
    const r = get<T>(x, at, left);
    const z = get<T>(x + line, at, left);
    const fresh = get<T>(x + 3 * line, at, left);
    const dn = v128.mul<T>(v128.mul<T>(d, v128.sub<T>(all<T>(1), z)), slopeOfTanh<T>(fresh));
    const dz = v128.mul<T>(v128.mul<T>(d, v128.sub<T>(get<T>(h, at, left), fresh)), slope<T>(z));
    const dr = v128.mul<T>(v128.mul<T>(dn, get<T>(x + 2 * line, at, left)), slope<T>(r));
    storeUpTo<T>(dp + at, dr, left);
    storeUpTo<T>(dp + line + at, dz, left);
    storeUpTo<T>(dp + 2 * line + at, dn, left);
    storeUpTo<T>(dq + at, dr, left);
    storeUpTo<T>(dq + line + at, dz, left);
    storeUpTo<T>(dq + 2 * line + at, v128.mul<T>(dn, r), left);
    storeUpTo<T>(dh + at, v128.mul<T>(d, z), left);
  }
}

function plainRowBackward<T>(n: i32, rectified: bool, y: usize, g: usize, dp: usize, dh: usize): void {
  for (; n > 0; n -= lanes<T>(), y += 16, g += 16, dp += 16, dh += 16) {
    const d = v128.add<T>(loadUpTo<T>(g, n, all<T>(0)), loadUpTo<T>(dh, n, all<T>(0)));
    const x = loadUpTo<T>(y, n, all<T>(0));
    storeUpTo<T>(dp, rectified ? v128.and(d, v128.gt<T>(x, all<T>(0))) : v128.mul<T>(d, slopeOfTanh<T>(x)), n);
    storeUpTo<T>(dh, all<T>(0), n);
  }
}

// --- sequences ------------------------------------------------------------------------------------------------------------

export function recur<T>(
  cell: i32, reverse: bool, steps: i32, batch: i32, hidden: i32, p: usize, w: usize, bias: usize, h0: usize, c0: usize,
  lengths: usize, saved: usize, savedStep: i32, before: usize, beforeStep: i32, out: usize, work: usize, scratch: usize,
): void {
  const line = bytesOf<T>(hidden);
  const all = line * batch;
  const n = gatesOf(cell) * hidden;
  const wide = bytesOf<T>(n);
  const row = line * savedOf(cell);
  // The state is where its last value is to be.
  const h = out + all * steps;
  const c = h + all;
  memory.copy(h, h0, all);
  if (cell == LSTM) memory.copy(c, c0, all);
  if (work && steps > 0) packed<T>(n, hidden, w, sizeof<T>(), line, work);
  for (let s = 0; s < steps; s++) {
    const t = reverse ? steps - 1 - s : s;
    const gates = saved + bytesOf<T>(t * savedStep);
    const inputs = p + wide * batch * t;
    memory.copy(before + bytesOf<T>(t * beforeStep), h, all);
    if (work) times<T>(batch, n, hidden, h, line, work, gates, row, cell == GRU ? bias : inputs, cell == GRU ? 0 : wide, scratch);
    else {
      // A product adds what lies as its result does, or one row.
      if (cell != GRU) for (let b = 0; b < batch; b++) memory.copy(gates + row * b, inputs + wide * b, wide);
      const from = cell == GRU ? bias : gates;
      const fr: usize = cell == GRU ? 0 : row;
      product<T>(batch, n, hidden, h, line, sizeof<T>(), w, sizeof<T>(), line, gates, row, from, fr, scratch);
    }
    for (let b = 0; b < batch; b++) {
      const y = out + all * t + line * b;
      if (lengths && load<i32>(lengths + 4 * b) <= t) {
        memory.fill(y, 0, line);
        memory.fill(gates + row * b, 0, row);
        continue;
      }
      const x = gates + row * b;
      const state = h + line * b;
      if (cell == LSTM) lstmRow<T>(hidden, x, c + line * b, state, y);
      else if (cell == GRU) gruRow<T>(hidden, x, inputs + wide * b, state, y);
      else {
        if (cell == RELU) relus<T>(hidden, x, x);
        else tanhs<T>(hidden, x, x);
        memory.copy(state, x, line);
        memory.copy(y, x, line);
      }
    }
  }
}

export function recurBackward<T>(
  cell: i32, reverse: bool, steps: i32, batch: i32, hidden: i32, dy: usize, w: usize, lengths: usize, saved: usize,
  before: usize, dp: usize, dq: usize, dh: usize, dc: usize, work: usize, scratch: usize,
): void {
  const line = bytesOf<T>(hidden);
  const all = line * batch;
  const n = gatesOf(cell) * hidden;
  const wide = bytesOf<T>(n);
  const row = line * savedOf(cell);
  memory.copy(dh, dy + all * steps, all);
  if (cell == LSTM) memory.copy(dc, dy + all * (steps + 1), all);
  if (work && steps > 0) packed<T>(hidden, n, w, line, sizeof<T>(), work);
  for (let s = steps - 1; s >= 0; s--) {
    const t = reverse ? steps - 1 - s : s;
    const own = dp + wide * batch * t;
    const products = cell == GRU ? dq + wide * batch * t : own;
    for (let b = 0; b < batch; b++) {
      const at = line * b;
      if (lengths && load<i32>(lengths + 4 * b) <= t) {
        memory.fill(own + wide * b, 0, wide);
        if (cell == GRU) memory.fill(products + wide * b, 0, wide);
        continue;
      }
      const x = saved + row * batch * t + row * b;
      const g = dy + all * t + at;
      if (cell == LSTM) lstmRowBackward<T>(hidden, x, g, own + wide * b, dh + at, dc + at);
      else if (cell == GRU)
        gruRowBackward<T>(hidden, x, before + all * t + at, g, own + wide * b, products + wide * b, dh + at);
      else plainRowBackward<T>(hidden, cell == RELU, x, g, own + wide * b, dh + at);
    }
    if (work) times<T>(batch, hidden, n, products, wide, work, dh, line, dh, line, scratch);
    else product<T>(batch, hidden, n, products, wide, sizeof<T>(), w, line, sizeof<T>(), dh, line, dh, line, scratch);
  }
}
