// Convolutions in which each channel has kernels of its own, `each` of them (depthwise ones), and their gradients. A plane is laid
// out with zeros around it and, where the kernel moves by s columns, its columns 0, s, 2 s, … side by side, then 1, s + 1, …. So what
// a tap multiplies is a plane of the output's form, a fixed distance from that of any other tap, and vectors are loaded as they lie.
// The gradient by the planes is such a convolution for each of the sy · sx kinds of pixels, which see different taps.
import { dots, SUMS, sums, TAP, total } from './planes-sums';

const FORWARD: i32 = 0;
const INPUT: i32 = 1;

// The call that runs, as `plan` sets it: log2 of an element's bytes, planes x [images, channels, rows, cols], weights [channels, each, kRows, kCols], results
// [images, channels, each, outRows, outCols].
let log: i32 = 0;
let images: i32 = 0;
let channels: i32 = 0;
let rows: i32 = 0;
let cols: i32 = 0;
let each: i32 = 0;
let taps: i32 = 0;
let kCols: i32 = 0;
let outRows: i32 = 0;
let outCols: i32 = 0;
let strideY: i32 = 0;
let strideX: i32 = 0;
let padY: i32 = 0;
let padX: i32 = 0;
let dilationY: i32 = 0;
let dilationX: i32 = 0;
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

/** Bytes of n elements, and elements of a vector. Only sums know the type; all else moves elements. */
// @ts-ignore: decorator
@inline
function bytesOf(n: i32): usize {
  return <usize>(n << log);
}
// @ts-ignore: decorator
@inline
function lanesOf(): i32 {
  return 16 >> log;
}

function up(n: usize): usize {
  return (n + 15) & ~15;
}

/** Sets what is above, and returns the bytes of `work`. */
function plan(
  kind: i32, bits: i32, n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32,
  sy: i32, sx: i32, py: i32, px: i32, dy: i32, dx: i32, work: usize,
): i32 {
  log = bits;
  images = n;
  channels = c;
  rows = h;
  cols = w;
  each = m;
  taps = kh * kw;
  kCols = kw;
  outRows = ho;
  outCols = wo;
  strideY = sy;
  strideX = sx;
  padY = py;
  padX = px;
  dilationY = dy;
  dilationX = dx;
  const back = kind == INPUT;
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
  inPlace = wide >= lanesOf() && (!back || (sy == 1 && sx == 1));
  plane = up(bytesOf(lines * apart * length));
  counts = work + SUMS;
  table = counts + up(<usize>(sy * sx) << 2);
  places = table + <usize>(each * taps + 8) * TAP;
  const vectors = high * ((wide + lanesOf() - 1) / lanesOf());
  laid = up(places + (<usize>((vectors + 7) & ~7) << 3));
  results = laid + (back ? <usize>each : 1) * plane;
  const line = max(lanesOf(), wide);
  return <i32>(results + up(bytesOf(high * line + 4)) - work);
}

export function depthwiseScratch(
  kind: i32, size: i32, n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32,
  sy: i32, sx: i32, py: i32, px: i32, dy: i32, dx: i32,
): i32 {
  return plan(kind, size == 4 ? 2 : 3, n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, 0);
}

/** to ← so many bytes from p. */
function copy(bytes: usize, p: usize, to: usize): void {
  const end = bytes - 16;
  if (bytes < 16) for (let at: usize = 0; at < bytes; at += 4) store<i32>(to + at, load<i32>(p + at));
  else {
    for (let at: usize = 0; at < end; at += 16) v128.store(to + at, v128.load(p + at));
    v128.store(to + end, v128.load(p + end));
  }
}

/** to ← the element at p. */
// @ts-ignore: decorator
@inline
function move(p: usize, to: usize): void {
  if (log == 2) store<i32>(to, load<i32>(p));
  else store<i64>(to, load<i64>(p));
}

/** Lays the plane [h, w] at p out at `to`, where there are zeros around it already. */
function lay(p: usize, h: i32, w: i32, to: usize): void {
  const s = apart;
  const part = bytesOf(length);
  const a = max(0, -left);
  const b = min(w, s * length - left);
  const start = s == 1 ? a + left : (a + left) / s;
  const first = a + left - start * s;
  for (let y = max(0, -top), end = min(h, lines - top); y < end; y++) {
    const line = to + <usize>((y + top) * s) * part;
    let from = p + bytesOf(y * w + a);
    let x = a;
    let phase = first;
    let q = line + <usize>phase * part + bytesOf(start);
    if (s == 1) {
      copy(bytesOf(b - a), from, q);
      continue;
    }
    if (s == 2) {
      let other = phase == 0 ? q + part : q - part + bytesOf(1);
      for (; x + 2 * lanesOf() <= b; x += 2 * lanesOf(), from += 32, q += 16, other += 16) {
        const v = v128.load(from);
        const u = v128.load(from, 16);
        if (log == 2) {
          v128.store(q, v128.shuffle<f32>(v, u, 0, 2, 4, 6));
          v128.store(other, v128.shuffle<f32>(v, u, 1, 3, 5, 7));
        } else {
          v128.store(q, v128.shuffle<f64>(v, u, 0, 2));
          v128.store(other, v128.shuffle<f64>(v, u, 1, 3));
        }
      }
    }
    for (; x < b; x++, from += bytesOf(1)) {
      move(from, q);
      q += part;
      if (++phase < s) continue;
      phase = 0;
      q = q - <usize>s * part + bytesOf(1);
    }
  }
}

/** Entry `at` of the table ← a tap: its distance, and the place of its weight. */
function tap(at: i32, distance: usize, weight: usize): void {
  const entry = table + <usize>at * TAP;
  store<i32>(entry, <i32>distance);
  store<i32>(entry, <i32>weight, 4);
}

/** The element at p in all lanes. */
function splat(p: usize): v128 {
  return log == 2 ? v128.load32_splat(p) : v128.load64_splat(p);
}

/** The weights at w in all lanes, in the table. */
function spread(w: usize, count: i32): void {
  for (let entry = table; count > 0; count--, entry += TAP) v128.store(entry, splat(w + load<i32>(entry, 4)), 16);
}

/** Distances of the taps of a convolution of the planes. */
function tapsAhead(): void {
  for (let t = 0; t < taps; t++) {
    const x = (t % kCols) * dilationX;
    const y = (t / kCols) * dilationY;
    tap(t, bytesOf((y * apart + (x % apart)) * length + x / apart), bytesOf(t));
  }
  store<i32>(counts, taps);
}

/** The same for the gradient by the planes: the taps that pixels of each kind see, and how many. */
function tapsBack(): void {
  let at = 0;
  for (let kind = 0; kind < strideY * strideX; kind++) {
    const before = at;
    for (let j = 0; j < each; j++)
      for (let t = 0; t < taps; t++) {
        const y = top * strideY + kind / strideX + padY - (t / kCols) * dilationY;
        const x = left * strideX + (kind % strideX) + padX - (t % kCols) * dilationX;
        if (y % strideY != 0 || x % strideX != 0) continue;
        tap(at++, <usize>j * plane + bytesOf((y / strideY) * length + x / strideX), bytesOf(j * taps + t));
      }
    store<i32>(counts + (<usize>kind << 2), at - before);
  }
}

/** Where the vectors of results lie, and what the tap at distance 0 reads for them; as often as makes eights. */
function place(step: usize, line: usize): void {
  let at = places;
  for (let i = 0; i < high; i++)
    for (let j = 0; j < wide; j += lanesOf(), at += 8) {
      const x = bytesOf(max(0, min(j, wide - lanesOf())));
      store<i32>(at, <i32>(<usize>i * step + x));
      store<i32>(at, <i32>(<usize>i * line + x), 4);
    }
  for (; (at - places) & 63; at += 8) store<i64>(at, load<i64>(at - 8));
  placesEnd = at;
}

/** Every `strideY`-th row and `strideX`-th column of the plane [h, w] at `to` ← the results, each line of `line` bytes. */
function scatter(line: usize, to: usize, h: i32, w: i32, sy: i32, sx: i32, y: i32, x: i32): void {
  let from = results;
  const step = bytesOf(sx);
  for (; y < h; y += sy, from += line) {
    const end = to + bytesOf((y + 1) * w);
    for (let q = to + bytesOf(y * w + x), p = from; q < end; q += step, p += bytesOf(1)) move(p, q);
  }
}

/** Results of one plane, or one kind of its pixels: sums over `count` taps from `first` on, to `to` [h, w]. */
function resultsOf(
  first: usize, count: i32, start: v128, to: usize, h: i32, w: i32, sy: i32, sx: i32, y: i32, x: i32,
): void {
  const out = inPlace ? to : results;
  if (log == 2) sums<f32>(first, count, start, laid, places, placesEnd, out);
  else sums<f64>(first, count, start, laid, places, placesEnd, out);
  if (!inPlace) scatter(bytesOf(max(wide, lanesOf())), to, h, w, sy, sx, y, x);
}

/** out [images, channels, each, outRows, outCols] ← the convolution and `bias`, if there is one, of the channels from … end − 1. */
function forward(x: usize, weights: usize, bias: usize, out: usize, from: i32, end: i32): void {
  const size = outRows * outCols;
  tapsAhead();
  place(bytesOf(strideY * apart * length), bytesOf(max(wide, lanesOf())));
  memory.fill(laid, 0, plane);
  for (let channel = from; channel < end; channel++)
    for (let image = 0; image < images; image++) {
      const at = image * channels + channel;
      lay(x + bytesOf(at * rows * cols), rows, cols, laid);
      for (let j = 0; j < each; j++) {
        const own = channel * each + j;
        if (each > 1 || image == 0) spread(weights + bytesOf(own * taps), taps);
        const start = bias != 0 ? splat(bias + bytesOf(own)) : i32x4.splat(0);
        resultsOf(table, taps, start, out + bytesOf((at * each + j) * size), outRows, outCols, 1, 1, 0, 0);
      }
    }
}

/** out [images, channels, rows, cols] ← the gradient by the planes, of the channels from … end − 1. */
function inputGrad(gy: usize, weights: usize, out: usize, from: i32, end: i32): void {
  const size = outRows * outCols;
  tapsBack();
  place(bytesOf(length), bytesOf(max(wide, lanesOf())));
  memory.fill(laid, 0, <usize>each * plane);
  for (let channel = from; channel < end; channel++) {
    spread(weights + bytesOf(channel * each * taps), each * taps);
    for (let image = 0; image < images; image++) {
      const at = image * channels + channel;
      for (let j = 0; j < each; j++)
        lay(gy + bytesOf((at * each + j) * size), outRows, outCols, laid + <usize>j * plane);
      let first = table;
      const planes = out + bytesOf(at * rows * cols);
      for (let y = 0, kind = counts; y < strideY; y++)
        for (let x = 0; x < strideX; x++, kind += 4) {
          const count = load<i32>(kind);
          resultsOf(first, count, i32x4.splat(0), planes, rows, cols, strideY, strideX, y, x);
          first += <usize>count * TAP;
        }
    }
  }
}

/** out [channels, each, kRows, kCols] ← the gradient by the weights, of the channels from … end − 1. */
function weightGrad(x: usize, gy: usize, out: usize, work: usize, from: i32, end: i32): void {
  tapsAhead();
  for (let t = taps; t < taps + 8; t++) tap(t, 0, 0);
  memory.fill(laid, 0, plane);
  const step = bytesOf(strideY * apart * length);
  const whole = outCols / lanesOf();
  // The last vector of a row ends with it, and of its lanes the first ones were in the vector before; or it is alone and too long.
  const rest = outCols - whole * lanesOf();
  const set = bytesOf(rest);
  memory.fill(work, whole > 0 ? 0 : 255, 16);
  if (whole > 0) memory.fill(work + 16 - set, 255, set);
  else memory.fill(work + set, 0, 16 - set);
  const mask = v128.load(work);
  const row = bytesOf(outCols);
  for (let channel = from; channel < end; channel++)
    for (let j = 0; j < each; j++)
      for (let t = 0; t < taps; t += 9) {
        const entry = table + <usize>t * TAP;
        memory.fill(work, 0, SUMS);
        for (let image = 0; image < images; image++) {
          const at = image * channels + channel;
          if (images > 1 || (j == 0 && t == 0)) lay(x + bytesOf(at * rows * cols), rows, cols, laid);
          let g = gy + bytesOf((at * each + j) * outRows * outCols);
          if (whole > 0) {
            products(entry, laid, step, g, row, whole, i32x4.splat(-1), work);
            if (rest > 0) products(entry, laid + row - 16, step, g + row - 16, row, 1, mask, work);
            continue;
          }
          for (let i = 0; i < outRows; i++, g += row) copy(row, g, results + (<usize>i << 4));
          products(entry, laid, step, results, 16, 1, mask, work);
        }
        for (let k = 0; k < min(9, taps - t); k++) {
          const sum = work + (<usize>k << 4);
          const to = out + bytesOf((channel * each + j) * taps + t + k);
          if (log == 2) store<f32>(to, total<f32>(sum));
          else store<f64>(to, total<f64>(sum));
        }
      }
}

function products(entry: usize, p: usize, step: usize, g: usize, line: usize, vectors: i32, mask: v128, work: usize): void {
  if (log == 2) dots<f32>(entry, p, step, g, line, outRows, vectors, mask, work);
  else dots<f64>(entry, p, step, g, line, outRows, vectors, mask, work);
}

/** The convolution of the planes a and the kernels b; the gradient by the planes from that of results a, or by the kernels from b. */
export function depthwise<T>(
  kind: i32, n: i32, c: i32, h: i32, w: i32, m: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32, py: i32, px: i32,
  dy: i32, dx: i32, a: usize, b: usize, bias: usize, out: usize, work: usize, bytes: i32, from: i32, to: i32,
): void {
  plan(kind, alignof<T>(), n, c, h, w, m, kh, kw, ho, wo, sy, sx, py, px, dy, dx, work);
  const end = to > 0 ? to : c;
  if (kind == FORWARD) forward(a, b, bias, out, from, end);
  else if (kind == INPUT) inputGrad(a, b, out, from, end);
  else weightGrad(a, b, out, work, from, end);
}
