// The sums of planes.ts: what multiplies. Eight vectors of results at a time over all taps, or nine taps at a time over all vectors.
import { lanes, madd } from './vector';

/** Bytes of an entry of the table of taps: distance and where its weight lies, in bytes; then the weight in all lanes. */
export const TAP: usize = 32;
/** Bytes of the sums of nine taps. */
export const SUMS: usize = 144;

/**
 * The vectors of results at `out` ← `start` and the sums over `count` taps from `first` on, which read what is laid out at `from`. Where
 * vectors are read, and go, stands from `places` to `last`.
 */
// @ts-ignore: decorator
@inline
export function sums<T>(
  first: usize, count: i32, start: v128, from: usize, places: usize, last: usize, out: usize,
): void {
  const end = first + <usize>count * TAP;
  for (let at = places; at < last; at += 64) {
    const p0 = from + load<i32>(at);
    const p1 = from + load<i32>(at, 8);
    const p2 = from + load<i32>(at, 16);
    const p3 = from + load<i32>(at, 24);
    const p4 = from + load<i32>(at, 32);
    const p5 = from + load<i32>(at, 40);
    const p6 = from + load<i32>(at, 48);
    const p7 = from + load<i32>(at, 56);
    let s0 = start;
    let s1 = start;
    let s2 = start;
    let s3 = start;
    let s4 = start;
    let s5 = start;
    let s6 = start;
    let s7 = start;
    for (let entry = first; entry < end; entry += TAP) {
      const d = <usize>load<i32>(entry);
      const w = v128.load(entry, 16);
      s0 = madd<T>(w, v128.load(p0 + d), s0);
      s1 = madd<T>(w, v128.load(p1 + d), s1);
      s2 = madd<T>(w, v128.load(p2 + d), s2);
      s3 = madd<T>(w, v128.load(p3 + d), s3);
      s4 = madd<T>(w, v128.load(p4 + d), s4);
      s5 = madd<T>(w, v128.load(p5 + d), s5);
      s6 = madd<T>(w, v128.load(p6 + d), s6);
      s7 = madd<T>(w, v128.load(p7 + d), s7);
    }
    v128.store(out + load<i32>(at, 4), s0);
    v128.store(out + load<i32>(at, 12), s1);
    v128.store(out + load<i32>(at, 20), s2);
    v128.store(out + load<i32>(at, 28), s3);
    v128.store(out + load<i32>(at, 36), s4);
    v128.store(out + load<i32>(at, 44), s5);
    v128.store(out + load<i32>(at, 52), s6);
    v128.store(out + load<i32>(at, 60), s7);
  }
}

/** The sums at `work` of nine taps from `entry` on += products of `vectors` vectors of each row at g, and what the taps read at p. */
// @ts-ignore: decorator
@inline
export function dots<T>(
  entry: usize, p: usize, step: usize, g: usize, line: usize, rows: i32, vectors: i32, mask: v128, work: usize,
): void {
  const d0 = <usize>load<i32>(entry);
  const d1 = <usize>load<i32>(entry, 32);
  const d2 = <usize>load<i32>(entry, 64);
  const d3 = <usize>load<i32>(entry, 96);
  const d4 = <usize>load<i32>(entry, 128);
  const d5 = <usize>load<i32>(entry, 160);
  const d6 = <usize>load<i32>(entry, 192);
  const d7 = <usize>load<i32>(entry, 224);
  const d8 = <usize>load<i32>(entry, 256);
  let s0 = v128.load(work);
  let s1 = v128.load(work, 16);
  let s2 = v128.load(work, 32);
  let s3 = v128.load(work, 48);
  let s4 = v128.load(work, 64);
  let s5 = v128.load(work, 80);
  let s6 = v128.load(work, 96);
  let s7 = v128.load(work, 112);
  let s8 = v128.load(work, 128);
  for (let i = 0; i < rows; i++, p += step, g += line)
    for (let q = p, r = g, end = g + (<usize>vectors << 4); r < end; q += 16, r += 16) {
      const v = v128.and(v128.load(r), mask);
      s0 = madd<T>(v, v128.and(v128.load(q + d0), mask), s0);
      s1 = madd<T>(v, v128.and(v128.load(q + d1), mask), s1);
      s2 = madd<T>(v, v128.and(v128.load(q + d2), mask), s2);
      s3 = madd<T>(v, v128.and(v128.load(q + d3), mask), s3);
      s4 = madd<T>(v, v128.and(v128.load(q + d4), mask), s4);
      s5 = madd<T>(v, v128.and(v128.load(q + d5), mask), s5);
      s6 = madd<T>(v, v128.and(v128.load(q + d6), mask), s6);
      s7 = madd<T>(v, v128.and(v128.load(q + d7), mask), s7);
      s8 = madd<T>(v, v128.and(v128.load(q + d8), mask), s8);
    }
  v128.store(work, s0);
  v128.store(work, s1, 16);
  v128.store(work, s2, 32);
  v128.store(work, s3, 48);
  v128.store(work, s4, 64);
  v128.store(work, s5, 80);
  v128.store(work, s6, 96);
  v128.store(work, s7, 112);
  v128.store(work, s8, 128);
}

/** The sum of the lanes of the vector at p. */
export function total<T>(p: usize): T {
  let sum = load<T>(p);
  for (let lane = 1; lane < lanes<T>(); lane++) sum += load<T>(p + sizeof<T>() * lane);
  return sum;
}
