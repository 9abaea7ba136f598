// The transforms of Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin & Gray 2016, "Fast algorithms for convolutional neural
// networks"): tiles of 6 × 6 pixels, filters of 3 × 3 and results of 4 × 4 become 36 numbers each, their values as polynomials at
// 6 × 6 points, and back. The points are 0, ±5/8, ±3/2 and ∞: exact in float32, and half the error of 0, ±1, ±2, ∞.
// float32; each vector has four tiles or filters, one a lane.
import { madd, zero } from './vector';

/** Pixels of a result's tile, and points, along an axis. */
export const M: i32 = 4;
export const T: i32 = 6;
/** Points of a tile. */
export const POINTS: i32 = 36;
/** Bytes that a transform works in: twice as many vectors as a tile has points. */
export const OWN_BYTES: usize = 2 * 36 * 16;
/** Bytes of a line of points. */
const LINE: usize = 96;

const P: f32 = 0.625;
const Q: f32 = 1.5;
const P2: f32 = 0.390625;
const Q2: f32 = 2.25;
const P3: f32 = 0.244140625;
const Q3: f32 = 3.375;
/** 1 ÷ the product of the differences to the other points. */
const N0: f32 = 1 / (P2 * Q2);
const NP: f32 = 1 / (2 * P2 * (P2 - Q2));
const NQ: f32 = 1 / (2 * Q2 * (Q2 - P2));

// @ts-ignore: decorator
@inline
function add(a: v128, b: v128): v128 {
  return f32x4.add(a, b);
}
// @ts-ignore: decorator
@inline
function sub(a: v128, b: v128): v128 {
  return f32x4.sub(a, b);
}
// @ts-ignore: decorator
@inline
function mul(a: v128, b: f32): v128 {
  return f32x4.mul(a, f32x4.splat(b));
}
// @ts-ignore: decorator
@inline
function fma(a: v128, b: f32, c: v128): v128 {
  return madd<f32>(a, f32x4.splat(b), c);
}

// --- one line, `s` bytes from vector to vector of the result -------------------------------------------------------------

/** Pixels to points: to ← Bᵀ d. */
// @ts-ignore: decorator
@inline
function dataLine(d0: v128, d1: v128, d2: v128, d3: v128, d4: v128, d5: v128, to: usize, s: usize): void {
  const u = fma(d2, -Q2, d4);
  const v = fma(d1, -Q2, d3);
  const x = fma(d2, -P2, d4);
  const y = fma(d1, -P2, d3);
  v128.store(to, fma(d0, P2 * Q2, fma(d2, -(P2 + Q2), d4)));
  v128.store(to + s, fma(v, P, u));
  v128.store(to + 2 * s, fma(v, -P, u));
  v128.store(to + 3 * s, fma(y, Q, x));
  v128.store(to + 4 * s, fma(y, -Q, x));
  v128.store(to + 5 * s, fma(d1, P2 * Q2, fma(d3, -(P2 + Q2), d5)));
}

/** Points of a result, `r` bytes apart, to its pixels: to ← Aᵀ p. */
// @ts-ignore: decorator
@inline
function resultLine(p: usize, r: usize, to: usize, s: usize): void {
  const p1 = v128.load(p + r);
  const p2 = v128.load(p + 2 * r);
  const p3 = v128.load(p + 3 * r);
  const p4 = v128.load(p + 4 * r);
  const e = add(p1, p2);
  const o = sub(p1, p2);
  const f = add(p3, p4);
  const g = sub(p3, p4);
  v128.store(to, add(v128.load(p), add(e, f)));
  v128.store(to + s, fma(o, P, mul(g, Q)));
  v128.store(to + 2 * s, fma(e, P2, mul(f, Q2)));
  v128.store(to + 3 * s, fma(o, P3, fma(g, Q3, v128.load(p + 5 * r))));
}

/** Pixels of a result's gradient to points: to ← A y. */
// @ts-ignore: decorator
@inline
function gradLine(y0: v128, y1: v128, y2: v128, y3: v128, to: usize, s: usize): void {
  const e = fma(y2, P2, y0);
  const o = fma(y3, P3, mul(y1, P));
  const f = fma(y2, Q2, y0);
  const g = fma(y3, Q3, mul(y1, Q));
  v128.store(to, y0);
  v128.store(to + s, add(e, o));
  v128.store(to + 2 * s, sub(e, o));
  v128.store(to + 3 * s, add(f, g));
  v128.store(to + 4 * s, sub(f, g));
  v128.store(to + 5 * s, y3);
}

/** A filter to points: to ← G w. */
// @ts-ignore: decorator
@inline
function filterLine(w0: v128, w1: v128, w2: v128, to: usize, s: usize): void {
  const e = mul(fma(w2, P2, w0), NP);
  const f = mul(fma(w2, Q2, w0), NQ);
  v128.store(to, mul(w0, N0));
  v128.store(to + s, fma(w1, P * NP, e));
  v128.store(to + 2 * s, fma(w1, -P * NP, e));
  v128.store(to + 3 * s, fma(w1, Q * NQ, f));
  v128.store(to + 4 * s, fma(w1, -Q * NQ, f));
  v128.store(to + 5 * s, w2);
}

/** Points of a filter's gradient, `r` bytes apart, to its elements: to ← Gᵀ p. */
// @ts-ignore: decorator
@inline
function filterGradLine(p: usize, r: usize, to: usize, s: usize): void {
  const p1 = v128.load(p + r);
  const p2 = v128.load(p + 2 * r);
  const p3 = v128.load(p + 3 * r);
  const p4 = v128.load(p + 4 * r);
  const e = add(p1, p2);
  const o = sub(p1, p2);
  const f = add(p3, p4);
  const g = sub(p3, p4);
  v128.store(to, fma(f, NQ, fma(e, NP, mul(v128.load(p), N0))));
  v128.store(to + s, fma(g, Q * NQ, mul(o, P * NP)));
  v128.store(to + 2 * s, fma(f, Q2 * NQ, fma(e, P2 * NP, v128.load(p + 5 * r))));
}

// --- four tiles, `s` bytes from point to point; `own` is memory to work in -------------------------------------------------

/** Tiles of 6 × 6 pixels that begin at p0 … p3, with rows `row` bytes apart, to their points. */
export function dataTiles(p0: usize, p1: usize, p2: usize, p3: usize, row: usize, own: usize, to: usize, s: usize): void {
  for (let i = 0; i < T; i++) {
    const a = v128.load(p0);
    const b = v128.load(p1);
    const c = v128.load(p2);
    const d = v128.load(p3);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    const e = v128.load64_lane(p1 + 16, v128.load64_zero(p0 + 16), 1);
    const f = v128.load64_lane(p3 + 16, v128.load64_zero(p2 + 16), 1);
    dataLine(
      v128.shuffle<f64>(ab, cd, 0, 2), v128.shuffle<f64>(ab, cd, 1, 3),
      v128.shuffle<f64>(AB, CD, 0, 2), v128.shuffle<f64>(AB, CD, 1, 3),
      v128.shuffle<f32>(e, f, 0, 2, 4, 6), v128.shuffle<f32>(e, f, 1, 3, 5, 7), own + <usize>i * LINE, 16,
    );
    p0 += row;
    p1 += row;
    p2 += row;
    p3 += row;
  }
  for (let j = 0; j < T; j++, own += 16, to += s)
    dataLine(
      v128.load(own), v128.load(own + LINE), v128.load(own + 2 * LINE), v128.load(own + 3 * LINE),
      v128.load(own + 4 * LINE), v128.load(own + 5 * LINE), to, <usize>T * s,
    );
}

/** The same of 4 × 4 pixels of a result's gradient. */
export function gradTiles(p0: usize, p1: usize, p2: usize, p3: usize, row: usize, own: usize, to: usize, s: usize): void {
  for (let i = 0; i < M; i++) {
    const a = v128.load(p0);
    const b = v128.load(p1);
    const c = v128.load(p2);
    const d = v128.load(p3);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    gradLine(
      v128.shuffle<f64>(ab, cd, 0, 2), v128.shuffle<f64>(ab, cd, 1, 3),
      v128.shuffle<f64>(AB, CD, 0, 2), v128.shuffle<f64>(AB, CD, 1, 3), own + <usize>i * LINE, 16,
    );
    p0 += row;
    p1 += row;
    p2 += row;
    p3 += row;
  }
  for (let j = 0; j < T; j++, own += 16, to += s)
    gradLine(
      v128.load(own), v128.load(own + LINE), v128.load(own + 2 * LINE), v128.load(own + 3 * LINE), to, <usize>T * s,
    );
}

/** Points of results to their pixels: own [4, 4] vectors. */
export function resultTiles(p: usize, s: usize, own: usize): void {
  const work = own + <usize>(M * M) * 16;
  for (let j = 0; j < T; j++) resultLine(p + <usize>j * s, <usize>T * s, work + <usize>j * 16, LINE);
  for (let i = 0; i < M; i++) resultLine(work + <usize>i * LINE, 16, own + <usize>(i * M) * 16, 16);
}

/** The number at p, p + step, … of up to four, zeros behind. */
// @ts-ignore: decorator
@inline
export function gather(p: usize, step: usize, count: i32): v128 {
  let v = v128.load32_zero(p);
  if (count > 1) v = v128.load32_lane(p + step, v, 1);
  if (count > 2) v = v128.load32_lane(p + 2 * step, v, 2);
  if (count > 3) v = v128.load32_lane(p + 3 * step, v, 3);
  return v;
}

/**
 * Filters that begin at p, p + outer, … (`count` of them, up to four) to their points, `s` bytes apart; `step` lies between
 * their elements: 4 bytes, or −4 where they are turned by 180° and p is the last one.
 */
export function filterTiles(p: usize, outer: usize, count: i32, step: usize, own: usize, to: usize, s: usize): void {
  for (let y = 0; y < 3; y++, p += 3 * step)
    filterLine(
      gather(p, outer, count), gather(p + step, outer, count), gather(p + 2 * step, outer, count),
      own + <usize>y * LINE, 16,
    );
  for (let j = 0; j < T; j++, own += 16, to += s)
    filterLine(v128.load(own), v128.load(own + LINE), v128.load(own + 2 * LINE), to, <usize>T * s);
}

/** Points of filters' gradients to their elements: own [3, 3] vectors. */
export function filterGradTiles(p: usize, s: usize, own: usize): void {
  const work = own + 9 * 16;
  for (let j = 0; j < T; j++) filterGradLine(p + <usize>j * s, <usize>T * s, work + <usize>j * 16, LINE);
  for (let y = 0; y < 3; y++) filterGradLine(work + <usize>y * LINE, 16, own + <usize>(y * 3) * 16, 16);
}

/** Whether all lanes of a sum are finite. NOTE: what is NaN or infinite stays so whatever is added. */
// @ts-ignore: decorator
@inline
export function allFinite(sum: v128): bool {
  return !v128.any_true(f32x4.ne(f32x4.sub(sum, sum), zero<f32>()));
}
