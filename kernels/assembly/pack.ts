// Packing for the matrix product: an operand becomes panels of `width` lines (rows of A, columns of B) side by side, so
// that the register blocks read memory in order. Strides are in bytes: `outer` from line to line, `inner` along k.

import { lanes } from './vector';

/** Four lines of k elements to p, p + step, …; the vectors are transposed 4 × 4 where lines are contiguous. */
function lines4<T>(k: i32, q: usize, outer: usize, inner: usize, p: usize, step: usize): void {
  if (sizeof<T>() == 8) {
    lines2<T>(k, q, outer, inner, p, step);
    lines2<T>(k, q + 2 * outer, outer, inner, p + 16, step);
    return;
  }
  if (outer == sizeof<T>()) {
    for (; k > 0; k--) {
      v128.store(p, v128.load(q));
      p += step;
      q += inner;
    }
    return;
  }
  let q1 = q + outer;
  let q2 = q1 + outer;
  let q3 = q2 + outer;
  if (inner == sizeof<T>()) {
    for (; k >= 4; k -= 4) {
      const a = v128.load(q);
      const b = v128.load(q1);
      const c = v128.load(q2);
      const d = v128.load(q3);
      const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
      const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
      const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
      const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      v128.store(p, v128.shuffle<f64>(ab, cd, 0, 2));
      p += step;
      v128.store(p, v128.shuffle<f64>(ab, cd, 1, 3));
      p += step;
      v128.store(p, v128.shuffle<f64>(AB, CD, 0, 2));
      p += step;
      v128.store(p, v128.shuffle<f64>(AB, CD, 1, 3));
      p += step;
      q += 16;
      q1 += 16;
      q2 += 16;
      q3 += 16;
    }
  }
  for (; k > 0; k--) {
    store<T>(p, load<T>(q));
    store<T>(p, load<T>(q1), 4);
    store<T>(p, load<T>(q2), 8);
    store<T>(p, load<T>(q3), 12);
    p += step;
    q += inner;
    q1 += inner;
    q2 += inner;
    q3 += inner;
  }
}

/** Two lines. */
function lines2<T>(k: i32, q: usize, outer: usize, inner: usize, p: usize, step: usize): void {
  let r = q + outer;
  if (inner == sizeof<T>()) {
    for (; k >= lanes<T>(); k -= lanes<T>()) {
      const a = v128.load(q);
      const b = v128.load(r);
      if (sizeof<T>() == 4) {
        const low = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
        const high = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
        v128.store64_lane(p, low, 0);
        p += step;
        v128.store64_lane(p, low, 1);
        p += step;
        v128.store64_lane(p, high, 0);
        p += step;
        v128.store64_lane(p, high, 1);
        p += step;
      } else {
        v128.store(p, v128.shuffle<f64>(a, b, 0, 2));
        p += step;
        v128.store(p, v128.shuffle<f64>(a, b, 1, 3));
        p += step;
      }
      q += 16;
      r += 16;
    }
  }
  for (; k > 0; k--) {
    store<T>(p, load<T>(q));
    store<T>(p, load<T>(r), sizeof<T>());
    p += step;
    q += inner;
    r += inner;
  }
}

/** One line. */
function line<T>(k: i32, q: usize, inner: usize, p: usize, step: usize): void {
  for (; k > 0; k--) {
    store<T>(p, load<T>(q));
    p += step;
    q += inner;
  }
}

/**
 * `panels` panels of whole rows of two vectors each, `step` bytes apart, from k rows in which their vectors lie together: row
 * by row, because whoever reads memory in order reads it several times as fast.
 */
export function panelsOf(panels: i32, k: i32, q: usize, inner: usize, p: usize, step: usize): void {
  for (; k > 0; k--) {
    let from = q;
    let to = p;
    for (let i = panels; i > 0; i--) {
      v128.store(to, v128.load(from));
      v128.store(to, v128.load(from, 16), 16);
      from += 32;
      to += step;
    }
    q += inner;
    p += 32;
  }
}

/** One panel: `count` ≤ `width` lines of k elements; the lines that are missing are zero. */
export function panelOf<T>(count: i32, width: i32, k: i32, q: usize, outer: usize, inner: usize, p: usize): void {
  const step = <usize>width * sizeof<T>();
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    lines4<T>(k, q, outer, inner, p, step);
    q += 4 * outer;
    p += 4 * sizeof<T>();
  }
  if (i + 2 <= count) {
    lines2<T>(k, q, outer, inner, p, step);
    q += 2 * outer;
    p += 2 * sizeof<T>();
    i += 2;
  }
  if (i < count) {
    line<T>(k, q, inner, p, step);
    p += sizeof<T>();
    i++;
  }
  for (; i < width; i++) {
    let z = p;
    for (let left = k; left > 0; left--) {
      store<T>(z, <T>0);
      z += step;
    }
    p += sizeof<T>();
  }
}
