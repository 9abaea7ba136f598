// Convolutions in which each channel has kernels of its own, `each` of them (depthwise ones), and their gradients. A plane is laid
// out with zeros around it and, where the kernel moves by s columns, its columns 0, s, 2 s, … side by side, then 1, s + 1, …. So what
// a tap multiplies is a plane of the output's form, a fixed distance from that of any other tap, and vectors are loaded as they lie.
// The gradient by the planes is such a convolution for each of the sy · sx kinds of pixels, which see different taps.
import { bytesOf } from './elementwise-lanes';
import { lanes, madd, splatAt, zero } from './vector';

/** Bytes of an entry of the table of taps: distance and where its weight lies, in bytes; then the weight in all lanes. */
const TAP: usize = 32;
/** Bytes of the sums of nine taps. */
const SUMS: usize = 144;
const FORWARD: i32 = 0;
const INPUT: i32 = 1;
const WEIGHT: i32 = 2;

// The call that runs, as `plan` sets it: planes x [images, channels, rows, cols], weights [channels, each, kRows, kCols], results
// [images, channels, each, outRows, outCols].
let images: i32 = 0;
let channels: i32 = 0;
let rows: i32 = 0;
let cols: i32 = 0;
let each: i32 = 0;
let taps: i32 = 0;
let outRows: i32 = 0;
let outCols: i32 = 0;
let strideY: i32 = 0;
let strideX: i32 = 0;
// Of a plane as it is laid out: where it begins, how many columns are apart, lines, elements of each part of a line, bytes.
let top: i32 = 0;
let left: i32 = 0;
let apart: i32 = 0;
let lines: i32 = 0;
let length: i32 = 0;
let plane: usize = 0;
// Of results as they are computed: rows and columns, and whether they lie in place.
let high: i32 = 0;
let wide: i32 = 0;
let inPlace: bool = false;
// In the memory to work in: counts of taps, the table of taps, places of vectors, planes, results that are not in place.
let counts: usize = 0;
let table: usize = 0;
let places: usize = 0;
let placesEnd: usize = 0;
let laid: usize = 0;
let results: usize = 0;

function up(n: usize): usize {
  return (n + 15) & ~15;
}

/** Sets what is above, and returns the bytes of `work`. */
function plan(
  kind: i32, size: i32, n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32,
  sy: i32, sx: i32, py: i32, px: i32, dy: i32, dx: i32, work: usize,
): i32 {
  images = n;
  channels = c;
  rows = h;
  cols = w;
  each = m;
  taps = kh * kw;
  outRows = ho;
  outCols = wo;
  strideY = sy;
  strideX = sx;
  const back = kind == INPUT;
  const perVector = 16 / size;
  if (back) {
    top = max(0, ((kh - 1) * dy - py + sy - 1) / sy);
    left = max(0, ((kw - 1) * dx - px + sx - 1) / sx);
    apart = 1;
    high = (h - 1) / sy + 1;
    wide = (w - 1) / sx + 1;
    lines = high + (sy - 1 + py) / sy + top;
    length = wide + (sx - 1 + px) / sx + left + 4;
  } else {
    top = py;
    left = px;
    apart = sx;
    high = ho;
    wide = wo;
    lines = (ho - 1) * sy + (kh - 1) * dy + 1;
    length = wo + ((kw - 1) * dx) / sx + 4;
  }
  inPlace = wide >= perVector && (!back || (sy == 1 && sx == 1));
  plane = up(<usize>(lines * apart * length * size));
  counts = work + SUMS;
  table = counts + up(<usize>(sy * sx) << 2);
  places = table + <usize>(each * taps + 8) * TAP;
  const vectors = high * ((wide + perVector - 1) / perVector);
  laid = up(places + (<usize>((vectors + 7) & ~7) << 3));
  results = laid + (back ? <usize>each : 1) * plane;
  const line = max(perVector, wide);
  return <i32>(results + up(<usize>(high * (line + 4) * size)) - work);
}

export function depthwiseScratch(
  kind: i32, size: i32, n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32,
  sy: i32, sx: i32, py: i32, px: i32, dy: i32, dx: i32,
): i32 {
  return plan(kind, size, n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, 0);
}

/** to ← `count` elements from p. */
// @ts-ignore: decorator
@inline
function copy<T>(count: i32, p: usize, to: usize): void {
  if (count < lanes<T>()) {
    for (; count > 0; count--, p += sizeof<T>(), to += sizeof<T>()) store<T>(to, load<T>(p));
    return;
  }
  const end = bytesOf<T>(count) - 16;
  for (let at: usize = 0; at < end; at += 16) v128.store(to + at, v128.load(p + at));
  v128.store(to + end, v128.load(p + end));
}

/** Lays the plane [h, w] at p out at `to`, where there are zeros around it already. */
function lay<T>(p: usize, h: i32, w: i32, to: usize): void {
  const s = apart;
  const part = bytesOf<T>(length);
  const a = max(0, -left);
  const b = min(w, s * length - left);
  const start = s == 1 ? a + left : (a + left) / s;
  const first = a + left - start * s;
  for (let y = max(0, -top), end = min(h, lines - top); y < end; y++) {
    const line = to + <usize>((y + top) * s) * part;
    let from = p + bytesOf<T>(y * w + a);
    let x = a;
    let phase = first;
    let q = line + <usize>phase * part + bytesOf<T>(start);
    if (s == 1) {
      copy<T>(b - a, from, q);
      continue;
    }
    if (s == 2) {
      let other = phase == 0 ? q + part : q - part + sizeof<T>();
      for (; x + 2 * lanes<T>() <= b; x += 2 * lanes<T>(), from += 32, q += 16, other += 16) {
        const v = v128.load(from);
        const u = v128.load(from, 16);
        if (sizeof<T>() == 4) {
          v128.store(q, v128.shuffle<f32>(v, u, 0, 2, 4, 6));
          v128.store(other, v128.shuffle<f32>(v, u, 1, 3, 5, 7));
        } else {
          v128.store(q, v128.shuffle<f64>(v, u, 0, 2));
          v128.store(other, v128.shuffle<f64>(v, u, 1, 3));
        }
      }
    }
    for (; x < b; x++, from += sizeof<T>()) {
      store<T>(q, load<T>(from));
      q += part;
      if (++phase < s) continue;
      phase = 0;
      q = q - <usize>s * part + sizeof<T>();
    }
  }
}

/** Entry `at` of the table ← a tap: its distance, and the place of its weight. */
function tap(at: i32, distance: usize, weight: usize): void {
  const entry = table + <usize>at * TAP;
  store<i32>(entry, <i32>distance);
  store<i32>(entry, <i32>weight, 4);
}

/** The weights at w in all lanes, in the table. */
function spread<T>(w: usize, count: i32): void {
  for (let entry = table; count > 0; count--, entry += TAP) v128.store(entry, splatAt<T>(w + load<i32>(entry, 4)), 16);
}

/** Distances of the taps of a convolution of the planes. */
function tapsAhead<T>(kw: i32, dy: i32, dx: i32): void {
  for (let t = 0; t < taps; t++) {
    const x = (t % kw) * dx;
    const y = (t / kw) * dy;
    tap(t, bytesOf<T>((y * apart + (x % apart)) * length + x / apart), bytesOf<T>(t));
  }
  store<i32>(counts, taps);
}

/** The same for the gradient by the planes: the taps that pixels of each kind see, and how many. */
function tapsBack<T>(kw: i32, py: i32, px: i32, dy: i32, dx: i32): void {
  let at = 0;
  for (let kind = 0; kind < strideY * strideX; kind++) {
    const before = at;
    for (let j = 0; j < each; j++)
      for (let t = 0; t < taps; t++) {
        const y = top * strideY + kind / strideX + py - (t / kw) * dy;
        const x = left * strideX + (kind % strideX) + px - (t % kw) * dx;
        if (y % strideY != 0 || x % strideX != 0) continue;
        tap(at++, <usize>j * plane + bytesOf<T>((y / strideY) * length + x / strideX), bytesOf<T>(j * taps + t));
      }
    store<i32>(counts + (<usize>kind << 2), at - before);
  }
}

/** Where the vectors of results lie, and what the tap at distance 0 reads for them; as often as makes eights. */
function place<T>(step: usize, line: usize): void {
  let at = places;
  for (let i = 0; i < high; i++)
    for (let j = 0; j < wide; j += lanes<T>(), at += 8) {
      const x = bytesOf<T>(max(0, min(j, wide - lanes<T>())));
      store<i32>(at, <i32>(<usize>i * step + x));
      store<i32>(at, <i32>(<usize>i * line + x), 4);
    }
  for (; (at - places) & 63; at += 8) store<i64>(at, load<i64>(at - 8));
  placesEnd = at;
}

/** The vectors of results at `out` ← `start` and the sums over `count` taps of the table. */
function sums<T>(first: usize, count: i32, start: v128, out: usize): void {
  const end = first + <usize>count * TAP;
  const from = laid;
  for (let at = places, last = placesEnd; at < last; at += 64) {
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

/** Every `strideY`-th row and `strideX`-th column of the plane [h, w] at `to` ← the results, each line of `line` bytes. */
function scatter<T>(line: usize, to: usize, h: i32, w: i32, sy: i32, sx: i32, y: i32, x: i32): void {
  let from = results;
  const step = bytesOf<T>(sx);
  for (; y < h; y += sy, from += line) {
    const end = to + bytesOf<T>((y + 1) * w);
    for (let q = to + bytesOf<T>(y * w + x), p = from; q < end; q += step, p += sizeof<T>()) store<T>(q, load<T>(p));
  }
}

/** out [images, channels, each, outRows, outCols] ← the convolution and `bias`, if there is one, of the channels from … to − 1. */
export function depthwiseForward<T>(
  n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32, py: i32, px: i32,
  dy: i32, dx: i32, x: usize, weights: usize, bias: usize, out: usize, work: usize, bytes: i32, from: i32, to: i32,
): void {
  plan(FORWARD, sizeof<T>(), n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, work);
  const line = bytesOf<T>(max(wide, lanes<T>()));
  tapsAhead<T>(kw, dy, dx);
  place<T>(bytesOf<T>(sy * apart * length), line);
  memory.fill(laid, 0, plane);
  const end = to > 0 ? to : c;
  for (let channel = from; channel < end; channel++)
    for (let image = 0; image < n; image++) {
      const at = image * c + channel;
      lay<T>(x + bytesOf<T>(at * h * w), h, w, laid);
      for (let j = 0; j < m; j++) {
        const own = channel * m + j;
        if (m > 1 || image == 0) spread<T>(weights + bytesOf<T>(own * taps), taps);
        const y = out + bytesOf<T>((at * m + j) * ho * wo);
        sums<T>(table, taps, bias != 0 ? splatAt<T>(bias + bytesOf<T>(own)) : zero<T>(), inPlace ? y : results);
        if (!inPlace) scatter<T>(line, y, ho, wo, 1, 1, 0, 0);
      }
    }
}

/** out [images, channels, rows, cols] ← the gradient by the planes, of the channels from … to − 1. */
export function depthwiseInputGrad<T>(
  n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32, py: i32, px: i32,
  dy: i32, dx: i32, gy: usize, weights: usize, out: usize, work: usize, bytes: i32, from: i32, to: i32,
): void {
  plan(INPUT, sizeof<T>(), n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, work);
  const line = bytesOf<T>(max(wide, lanes<T>()));
  tapsBack<T>(kw, py, px, dy, dx);
  place<T>(bytesOf<T>(length), line);
  memory.fill(laid, 0, <usize>m * plane);
  const end = to > 0 ? to : c;
  for (let channel = from; channel < end; channel++) {
    spread<T>(weights + bytesOf<T>(channel * m * taps), m * taps);
    for (let image = 0; image < n; image++) {
      const at = image * c + channel;
      for (let j = 0; j < m; j++)
        lay<T>(gy + bytesOf<T>((at * m + j) * ho * wo), ho, wo, laid + <usize>j * plane);
      const planes = out + bytesOf<T>(at * h * w);
      let first = table;
      for (let kind = 0; kind < sy * sx; kind++) {
        const count = load<i32>(counts + (<usize>kind << 2));
        sums<T>(first, count, zero<T>(), inPlace ? planes : results);
        if (!inPlace) scatter<T>(line, planes, h, w, sy, sx, kind / sx, kind % sx);
        first += <usize>count * TAP;
      }
    }
  }
}

/** The sums at `work` of nine taps from `entry` on += products of `vectors` vectors of each row at g, and what the taps read at p. */
function dots<T>(entry: usize, p: usize, step: usize, g: usize, line: usize, vectors: i32, mask: v128, work: usize): void {
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
  for (let i = 0; i < outRows; i++, p += step, g += line)
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

/** out [channels, each, kRows, kCols] ← the gradient by the weights, of the channels from … to − 1. */
export function depthwiseWeightGrad<T>(
  n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32, py: i32, px: i32,
  dy: i32, dx: i32, x: usize, gy: usize, out: usize, work: usize, bytes: i32, from: i32, to: i32,
): void {
  plan(WEIGHT, sizeof<T>(), n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, work);
  tapsAhead<T>(kw, dy, dx);
  for (let t = taps; t < taps + 8; t++) tap(t, 0, 0);
  memory.fill(laid, 0, plane);
  const step = bytesOf<T>(sy * apart * length);
  const whole = wo / lanes<T>();
  // The last vector of a row ends with it, and of its lanes the first ones were in the vector before; or it is alone and too long.
  const rest = wo - whole * lanes<T>();
  for (let k = 0; k < 16 / <i32>sizeof<T>(); k++)
    store<T>(results + bytesOf<T>(k), reinterpretOnes<T>(whole > 0 ? k >= lanes<T>() - rest : k < rest));
  const mask = v128.load(results);
  const end = to > 0 ? to : c;
  for (let channel = from; channel < end; channel++)
    for (let j = 0; j < m; j++)
      for (let t = 0; t < taps; t += 9) {
        memory.fill(work, 0, SUMS);
        for (let image = 0; image < n; image++) {
          const at = image * c + channel;
          if (n > 1 || (j == 0 && t == 0)) lay<T>(x + bytesOf<T>(at * h * w), h, w, laid);
          let g = gy + bytesOf<T>((at * m + j) * ho * wo);
          const entry = table + <usize>t * TAP;
          let line = bytesOf<T>(wo);
          let tail = whole > 0 ? line - 16 : 0;
          if (whole > 0) dots<T>(entry, laid, step, g, line, whole, i32x4.splat(-1), work);
          else {
            for (let i = 0; i < ho; i++) copy<T>(wo, g + <usize>i * line, results + (<usize>i << 4));
            g = results;
            line = 16;
          }
          if (rest > 0) dots<T>(entry, laid + tail, step, g + tail, line, 1, mask, work);
        }
        for (let k = 0; k < min(9, taps - t); k++) {
          const s = work + (<usize>k << 4);
          let sum = load<T>(s);
          for (let lane = 1; lane < lanes<T>(); lane++) sum += load<T>(s + bytesOf<T>(lane));
          store<T>(out + bytesOf<T>((channel * m + j) * taps + t + k), sum);
        }
      }
}

/** All bits set, or none. */
// @ts-ignore: decorator
@inline
function reinterpretOnes<T>(set: bool): T {
  if (sizeof<T>() == 4) return <T>reinterpret<f32>(set ? -1 : 0);
  return <T>reinterpret<f64>(set ? <i64>-1 : <i64>0);
}
