// Interpolation along the middle axis of contiguous [outer, length, inner]: each result is made of one or two elements.
import { bytesOf } from './elementwise-lanes';
import { lanes, splatAt } from './vector';

/** Where index · bytes begins, for the index at `index`. */
function rowAt(x: usize, index: usize, bytes: usize): usize {
  return x + <usize>load<i32>(index) * bytes;
}

/** a · x[p] + b · x[q]. */
function blend<T>(a: T, b: T, p: usize, q: usize): T {
  return a * load<T>(p) + b * load<T>(q);
}

/** out[o, j, :] ← (1 − weight[j]) · x[o, left[j], :] + weight[j] · x[o, right[j], :]; without `right` x[o, left[j], :]. */
export function resample<T>(
  outer: i32, length: i32, inner: i32, count: i32, x: usize, left: usize, right: usize, weight: usize, out: usize,
): void {
  if (inner == 1) return alongRows<T>(outer, length, count, x, left, right, weight, out);
  const bytes = bytesOf<T>(inner);
  const end = left + (<usize>count << 2);
  for (; outer > 0; outer--, x += <usize>length * bytes)
    for (let l = left, r = right, w = weight; l < end; l += 4, r += 4, w += sizeof<T>()) {
      let p = rowAt(x, l, bytes);
      let n = inner;
      if (right == 0) {
        for (; n >= lanes<T>(); n -= lanes<T>(), p += 16, out += 16) v128.store(out, v128.load(p));
        for (; n > 0; n--, p += sizeof<T>(), out += sizeof<T>()) store<T>(out, load<T>(p));
        continue;
      }
      const b = load<T>(w);
      const a = <T>1 - b;
      const va = v128.splat<T>(a);
      const vb = splatAt<T>(w);
      let q = rowAt(x, r, bytes);
      for (; n >= lanes<T>(); n -= lanes<T>(), p += 16, q += 16, out += 16)
        v128.store(out, v128.add<T>(v128.mul<T>(va, v128.load(p)), v128.mul<T>(vb, v128.load(q))));
      for (; n > 0; n--, p += sizeof<T>(), q += sizeof<T>(), out += sizeof<T>()) store<T>(out, blend<T>(a, b, p, q));
    }
}

/** The same for inner = 1: four rows at a time share the taps. */
function alongRows<T>(
  outer: i32, length: i32, count: i32, x: usize, left: usize, right: usize, weight: usize, out: usize,
): void {
  const from = bytesOf<T>(length);
  const to = bytesOf<T>(count);
  const end = left + (<usize>count << 2);
  for (; outer > 0; ) {
    const rows = outer < 4 ? 1 : 4;
    let y = out;
    for (let l = left, r = right, w = weight; l < end; l += 4, r += 4, w += sizeof<T>(), y += sizeof<T>()) {
      const p = rowAt(x, l, sizeof<T>());
      if (right == 0) {
        store<T>(y, load<T>(p));
        if (rows == 1) continue;
        store<T>(y + to, load<T>(p + from));
        store<T>(y + 2 * to, load<T>(p + 2 * from));
        store<T>(y + 3 * to, load<T>(p + 3 * from));
        continue;
      }
      const q = rowAt(x, r, sizeof<T>());
      const b = load<T>(w);
      const a = <T>1 - b;
      store<T>(y, blend<T>(a, b, p, q));
      if (rows == 1) continue;
      store<T>(y + to, blend<T>(a, b, p + from, q + from));
      store<T>(y + 2 * to, blend<T>(a, b, p + 2 * from, q + 2 * from));
      store<T>(y + 3 * to, blend<T>(a, b, p + 3 * from, q + 3 * from));
    }
    outer -= rows;
    x += <usize>rows * from;
    out += <usize>rows * to;
  }
}

/** out[:] += factor · dy for `inner` elements. */
function addTo<T>(inner: i32, factor: T, dy: usize, out: usize): void {
  const f = v128.splat<T>(factor);
  let n = inner;
  for (; n >= lanes<T>(); n -= lanes<T>(), dy += 16, out += 16)
    v128.store(out, v128.add<T>(v128.load(out), v128.mul<T>(f, v128.load(dy))));
  for (; n > 0; n--, dy += sizeof<T>(), out += sizeof<T>()) addOne<T>(factor, dy, out);
}

function addOne<T>(factor: T, dy: usize, out: usize): void {
  store<T>(out, load<T>(out) + factor * load<T>(dy));
}

/** out ← 0, then each dy[o, j, :] adds its shares to what it was made of, in the order of j. */
export function resampleBackward<T>(
  outer: i32, length: i32, inner: i32, count: i32, dy: usize, left: usize, right: usize, weight: usize, out: usize,
): void {
  const bytes = bytesOf<T>(inner);
  memory.fill(out, 0, <usize>outer * <usize>length * bytes);
  if (inner == 1) return backAlongRows<T>(outer, length, count, dy, left, right, weight, out);
  const end = left + (<usize>count << 2);
  for (; outer > 0; outer--, out += <usize>length * bytes)
    for (let l = left, r = right, w = weight; l < end; l += 4, r += 4, w += sizeof<T>(), dy += bytes) {
      const b = right == 0 ? <T>0 : load<T>(w);
      addTo<T>(inner, <T>1 - b, dy, rowAt(out, l, bytes));
      if (right != 0) addTo<T>(inner, b, dy, rowAt(out, r, bytes));
    }
}

/** The same for inner = 1: four rows at a time share the taps. */
function backAlongRows<T>(
  outer: i32, length: i32, count: i32, dy: usize, left: usize, right: usize, weight: usize, out: usize,
): void {
  const to = bytesOf<T>(length);
  const from = bytesOf<T>(count);
  const end = left + (<usize>count << 2);
  for (; outer > 0; ) {
    const rows = outer < 4 ? 1 : 4;
    let g = dy;
    for (let l = left, r = right, w = weight; l < end; l += 4, r += 4, w += sizeof<T>(), g += sizeof<T>()) {
      const b = right == 0 ? <T>0 : load<T>(w);
      const p = rowAt(out, l, sizeof<T>());
      addRows<T>(rows, <T>1 - b, g, from, p, to);
      if (right != 0) addRows<T>(rows, b, g, from, rowAt(out, r, sizeof<T>()), to);
    }
    outer -= rows;
    dy += <usize>rows * from;
    out += <usize>rows * to;
  }
}

function addRows<T>(rows: i32, factor: T, dy: usize, from: usize, out: usize, to: usize): void {
  addOne<T>(factor, dy, out);
  if (rows == 1) return;
  addOne<T>(factor, dy + from, out + to);
  addOne<T>(factor, dy + 2 * from, out + 2 * to);
  addOne<T>(factor, dy + 3 * from, out + 3 * to);
}
