/**
 * The kernel of all products: a workgroup computes a tile of m × n results, k terms a step. Its threads bring the next step's
 * blocks of 4 × 4 elements into registers while they multiply this step's out of workgroup memory. Where the blocks come
 * from and where results go are parts of their own, so that convolutions are the same kernel.
 */

import { times, type Word } from './wgsl.ts';

export type Tile = {
  /** Results of a workgroup. */
  readonly m: number;
  readonly n: number;
  /** Terms of a step, 8 to 64. */
  readonly k: number;
  /** Threads along n and along m, powers of 2 and together a multiple of 32. Each has quads of 4 × 4 results. */
  readonly x: number;
  readonly y: number;
  /** So many times x · y threads share the terms of each step, and add up at last: for few results of many terms. */
  readonly slices?: number;
  /** Steps in workgroup memory: with 2, one barrier a step is enough. */
  readonly buffers: 1 | 2;
  /** Terms written out in a row, a multiple of 4. */
  readonly unroll: number;
};

export const nameOf = ({ m, n, k, x, y, slices = 1, buffers, unroll }: Tile) =>
  `${m}x${n}x${k} ${x}x${y}x${slices} ${buffers} ${unroll}`;

/** Bytes of workgroup memory. */
export const bytesOf = ({ m, n, k, slices = 1, buffers }: Tile) =>
  4 * ((m + n) * k * buffers + (slices > 1 ? m * n : 0));

/** Where the blocks of one side come from. The rows of a side are the rows of A, or the columns of B. */
export type Side = {
  /** Neighbouring threads take blocks that are neighbours in terms (a WGSL condition), else in rows. */
  readonly along: string;
  /** Lines before the steps, for the block whose first row is `i`; names end in `id`. */
  before(id: string, i: string): string;
  /** Lines that set v0 … v3, each the elements of rows i … i + 3 at the terms k … k + 3, and 0 from the term `end` on. */
  load(id: string, k: string): string;
};

export type TileParts = {
  readonly tile: Tile;
  readonly word: Word;
  /** Declarations: constants `p`, tensors, functions. `p` has k, span, splits, groups and z0. */
  readonly head: string;
  /** Lines that leave the tile in `row0` and `col0`, from the flat number `group` (below `p.groups`), and `z`, the batch's number. */
  readonly place: string;
  /** The number of terms, `p.k` by default. */
  readonly terms?: string;
  readonly a: Side;
  readonly b: Side;
  /** Lines before the steps of a part and after each, for what a step and its sides share. */
  readonly start?: string;
  readonly advance?: string;
  /** Lines before results are put, for the columns from `col` on; names end in `id`. */
  readonly columns?: (id: number, col: string) => string;
  /** Lines that put the vec4 `v` of results at (row, col … col + 3), of which some may be outside. */
  readonly put: (v: string, row: string, col: string, id: number) => string;
};

/** Lines that leave the workgroup's share: its tile, `z`, and the terms from `begin` to `end` of its part. */
export const shareOf = ({ place, terms = 'p.k', start = '' }: Pick<TileParts, 'place' | 'terms' | 'start'>): string => `
  let group = w.x + w.y * wn.x;
  if (group >= p.groups) { return; }
  let split = w.z % p.splits; let z = p.z0 + w.z / p.splits;
  ${place}
  let begin = split * p.span; let end = min(${terms}, begin + p.span);
  ${start}`;

type Shape = { name: 'A' | 'B'; side: Side; rows: number; threads: number };

/** Blocks that lie behind each other in terms are shifted against each other, so that threads that write them meet other banks. */
function shift(terms: number, threads: number, quad: string): string {
  const mask = Math.min(8, threads) - 1;
  return `((${quad} * ${Math.max(1, 32 / terms)}u) & ${mask}u)`;
}

export function tileCode({
  tile,
  word,
  head,
  place,
  terms = 'p.k',
  a,
  b,
  start = '',
  advance = '',
  columns,
  put,
}: TileParts): string {
  const { m, n, k, x, y, slices = 1, buffers, unroll } = tile;
  const vec = `vec4<${word}>`;
  const threads = x * y * slices;
  const [rows, cols] = [m / (4 * y), n / (4 * x)];
  const A: Shape = { name: 'A', side: a, rows: m, threads: y };
  const B: Shape = { name: 'B', side: b, rows: n, threads: x };
  const rounds = roundsOf(A, B, k, threads);
  const multiply = (sum: string, l: string, r: string) =>
    word === 'f32' ? `${sum} = fma(${vec}(${l}), ${r}, ${sum});` : `${sum} += ${l} * ${r};`;
  // A warp of 32 is 8 × 4 threads: it meets 8 quads of B, and 4 of A.
  const wide = Math.min(8, x);
  const tall = 32 / wide;
  const all = 4 * rows * cols;
  const sum = (i: number) => `y${Math.floor(i / cols)}_${i % cols}`;
  const column = (i: number) => `col0 + ${i * 4 * x}u + 4u * lx`;
  return `${head}
var<workgroup> As : array<array<array<array<${vec}, ${y}>, ${rows}>, ${k}>, ${buffers}>;
var<workgroup> Bs : array<array<array<array<${vec}, ${x}>, ${cols}>, ${k}>, ${buffers}>;
${slices > 1 ? `var<workgroup> sums : array<array<${vec}, ${x * y}>, ${4 * rows * cols}>;` : ''}
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(num_workgroups) wn : vec3<u32>, @builtin(local_invocation_index) t : u32) {
  ${shareOf({ place, terms, start })}
  let own = t % ${x * y}u; let slice = t / ${x * y}u;
  let lx = own % ${wide}u + ${wide}u * ((own / 32u) % ${x / wide}u); let ly = (own / ${wide}u) % ${tall}u + ${tall}u * (own / ${32 * (x / wide)}u);
  ${rounds.map(r => r.before).join('\n  ')}
  ${times(all, i => `var ${sum(i)} = ${vec}();`)}
  ${rounds.map(r => `${times(4, j => `var ${r.id}v${j} = ${vec}();`)}`).join(' ')}
  ${rounds.map(r => r.load('begin')).join('\n  ')}
  ${advance}
  var buffer = 0u;
  for (var step = begin; step < end; step += ${k}u) {
    ${rounds.map(r => r.store).join('\n    ')}
    workgroupBarrier();
    let next = step + ${k}u;
    if (next < end) {
      ${rounds.map(r => r.load('next')).join('\n      ')}
      ${advance}
    }
    for (var q0 = 0u; q0 < ${k / slices / 4}u; q0 += ${unroll / 4}u) {
      ${times(unroll / 4, u => {
        const q = slices === 1 ? `(q0 + ${u}u)` : `(slice * ${k / slices / 4}u + q0 + ${u}u)`;
        return `{ let sa = ly ^ ${shift(k, y, q)}; let sb = lx ^ ${shift(k, x, q)};
        ${times(
          4,
          j => `{ ${times(rows, i => `let a${i} = As[buffer][4u * ${q} + ${j}u][${i}][sa];`)}
          ${times(cols, i => `let b${i} = Bs[buffer][4u * ${q} + ${j}u][${i}][sb];`)}
          ${times(all, i => {
            const row = Math.floor(i / cols);
            return multiply(sum(i), `a${row >> 2}[${row & 3}]`, `b${i % cols}`);
          })} }`,
        )} }`;
      })}
    }
    ${buffers === 2 ? 'buffer ^= 1u;' : 'workgroupBarrier();'}
  }
  ${
    slices > 1
      ? addSlices(
          slices,
          times(all, i => `sums[${i}][own] = ${sum(i)};`),
          times(all, i => `${sum(i)} += sums[${i}][own];`),
        )
      : ''
  }
  ${times(cols, i => columns?.(i, column(i)) ?? '')}
  ${times(all, i => {
    const [row, col] = [Math.floor(i / cols), i % cols];
    const at = `row0 + ${(row >> 2) * 4 * y + (row & 3)}u + 4u * ly`;
    return `${put(sum(i), at, column(col), col)}\n`;
  })}
}`;
}

/** The sums of all slices added to those of the first, one after the other; only its threads go on. */
const addSlices = (slices: number, write: string, add: string) => `
  for (var other = 1u; other < ${slices}u; other++) {
    workgroupBarrier();
    if (slice == other) { ${write} }
    workgroupBarrier();
    if (slice == 0u) { ${add} }
  }
  if (slice > 0u) { return; }`;

type Round = { id: string; before: string; load(step: string): string; store: string };

/** The blocks of a step, `threads` of them at a time: those of A, then those of B; one round may have both. */
function roundsOf(A: Shape, B: Shape, k: number, threads: number): Round[] {
  const [countA, countB] = [(A.rows / 4) * (k / 4), (B.rows / 4) * (k / 4)];
  const rounds: Round[] = [];
  for (let first = 0; first < countA + countB; first += threads) {
    const id = `r${rounds.length}`;
    const parts: { part: ReturnType<typeof blockOf>; when: string }[] = [];
    const last = first + threads;
    if (first < countA) {
      const all = last <= countA;
      parts.push({ part: blockOf(A, k, `${id}a`, `t + ${first}u`), when: all ? '' : `t < ${countA - first}u` });
    }
    if (last > countA) {
      const from = Math.max(0, countA - first);
      const begins = `t - ${from}u + ${Math.max(0, first - countA)}u`;
      const bounds = [
        from > 0 ? [`t >= ${from}u`] : [],
        last > countA + countB ? [`t < ${countA + countB - first}u`] : [],
      ];
      parts.push({ part: blockOf(B, k, `${id}b`, begins), when: bounds.flat().join(' && ') });
    }
    const each = (lines: (part: ReturnType<typeof blockOf>) => string) =>
      parts
        .map(({ part, when }) => (when === '' ? `{ ${lines(part)} }` : `if (${when}) { ${lines(part)} }`))
        .join('\n');
    rounds.push({
      id,
      before: parts.map(({ part }) => part.before).join('\n  '),
      load: step => each(part => part.load(id, step)),
      store: each(part => part.store(id)),
    });
  }
  return rounds;
}

/** The block number `number` of a side. */
function blockOf({ name, side, rows, threads }: Shape, k: number, id: string, number: string) {
  const [quads, terms] = [rows / 4, k / 4];
  const origin = name === 'A' ? 'row0' : 'col0';
  return {
    before: `let n_${id} = ${number}; let along_${id} = ${side.along};
  let i_${id} = select(n_${id} % ${quads}u, (n_${id} / ${terms}u) % ${quads}u, along_${id}); let k_${id} = select((n_${id} / ${quads}u) % ${terms}u, n_${id} % ${terms}u, along_${id});
  ${side.before(id, `(${origin} + 4u * i_${id})`)}
  let s_${id} = (i_${id} % ${threads}u) ^ ${shift(k, threads, `k_${id}`)}; let h_${id} = i_${id} / ${threads}u;`,
    load: (round: string, step: string) => `let k = ${step} + 4u * k_${id};
        ${side.load(id, 'k').replaceAll(/\bv([0-3])\b/g, `${round}v$1`)}`,
    store: (round: string) =>
      times(4, j => `${name}s[buffer][4u * k_${id} + ${j}u][h_${id}][s_${id}] = ${round}v${j};`),
  };
}
