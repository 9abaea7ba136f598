// Selection by int32 indices along the middle axis of contiguous [outer, length, inner]. Indices are not checked.
import { bytesOf } from './elementwise-lanes';
import { lanes } from './vector';

/** out[o, i, :] ← x[o, index[i], :] for x [outer, length, inner] and `count` indices. */
export function indexSelect<T>(
  outer: i32, length: i32, inner: i32, count: i32, x: usize, index: usize, out: usize,
): void {
  const bytes = bytesOf<T>(inner);
  for (; outer > 0; outer--, x += <usize>length * bytes)
    for (let i = 0; i < count; i++, out += bytes) {
      const from = x + <usize>load<i32>(index + (<usize>i << 2)) * bytes;
      if (inner == 1) store<T>(out, load<T>(from));
      else memory.copy(out, from, bytes);
    }
}

/** out[o, index[i], :] += x[o, i, :] for out [outer, length, inner] and `count` indices, in their order. */
export function indexAdd<T>(outer: i32, length: i32, inner: i32, count: i32, x: usize, index: usize, out: usize): void {
  const bytes = bytesOf<T>(inner);
  for (; outer > 0; outer--, out += <usize>length * bytes)
    for (let i = 0; i < count; i++) {
      let to = out + <usize>load<i32>(index + (<usize>i << 2)) * bytes;
      let n = inner;
      for (; n >= lanes<T>(); n -= lanes<T>(), x += 16, to += 16)
        v128.store(to, v128.add<T>(v128.load(to), v128.load(x)));
      for (; n > 0; n--, x += sizeof<T>(), to += sizeof<T>()) store<T>(to, load<T>(to) + load<T>(x));
    }
}

/** out[o, i, j] ← x[o, index[o, i, j], j] for index and out [outer, count, inner]. */
export function gather<T>(outer: i32, length: i32, inner: i32, count: i32, x: usize, index: usize, out: usize): void {
  for (; outer > 0; outer--, x += bytesOf<T>(length * inner))
    for (let i = 0; i < count; i++)
      for (let j = 0; j < inner; j++, index += 4, out += sizeof<T>())
        store<T>(out, load<T>(x + bytesOf<T>(load<i32>(index) * inner + j)));
}

/** out[o, index[o, i, j], j] += x[o, i, j] for index and x [outer, count, inner], in row-major order of x. */
export function scatterAdd<T>(
  outer: i32, length: i32, inner: i32, count: i32, x: usize, index: usize, out: usize,
): void {
  for (; outer > 0; outer--, out += bytesOf<T>(length * inner))
    for (let i = 0; i < count; i++)
      for (let j = 0; j < inner; j++, index += 4, x += sizeof<T>()) {
        const to = out + bytesOf<T>(load<i32>(index) * inner + j);
        store<T>(to, load<T>(to) + load<T>(x));
      }
}
