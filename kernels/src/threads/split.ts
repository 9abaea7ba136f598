/** Puts exports that share their work with a team in the place of exports: each cuts long calls into calls of itself. */

import type { Element } from '../elementwise.ts';
import type { Exports } from '../instance.ts';
import { type Cut, FAMILIES, PER_THREAD } from './families.ts';
import type { Kernel, Team } from './team.ts';
import { MOST_PIECES } from './worker.ts';

/**
 * Nanoseconds of one thread below which a call is not cut. Measured with two threads: where the worker still looks for calls,
 * 25 µs become 16 and 100 become 56; where it sleeps, 50 become 57, 80 stay and 200 become 136.
 */
const LEAST = 40_000;
/** Nanoseconds that a piece has at least. A piece costs about 0.5 µs beside its work. */
const PIECE = 8_000;
/** Nanoseconds of a piece at most: a caller that sees none finished for long takes its workers for dead. */
const LONGEST = 1e9;
/** Elements that a cut keeps together: pieces then begin and end between cache lines. */
const LINE = 64;

export type SplitOptions = {
  /** See `LEAST`, `PIECE` and `LINE`, the defaults; tests cut tiny calls. */
  readonly least?: number | undefined;
  readonly piece?: number | undefined;
  readonly line?: number | undefined;
};

/** Calls `f`, unless `long` of its sizes; then `share` does. */
type Wrap = (f: Kernel, long: (...x: number[]) => boolean, share: (x: number[]) => number | undefined) => Kernel;

/** By the number of arguments. NOTE: written out, as rest parameters cost 0.1 µs a call, which is what small kernels take. */
// biome-ignore format: one shape, line by line
const WRAPPED: Readonly<Record<number, Wrap>> = {
  3: (f, long, share) => (a, b, c) => long(a, b, c) ? share([a, b, c]) : f(a, b, c),
  4: (f, long, share) => (a, b, c, d) => long(a, b, c, d) ? share([a, b, c, d]) : f(a, b, c, d),
  5: (f, long, share) => (a, b, c, d, e) => long(a, b, c, d) ? share([a, b, c, d, e]) : f(a, b, c, d, e),
  6: (f, long, share) => (a, b, c, d, e, g) => long(a, b, c, d) ? share([a, b, c, d, e, g]) : f(a, b, c, d, e, g),
  8: (f, long, share) => (a, b, c, d, e, g, h, i) =>
    long(a, b, c, d) ? share([a, b, c, d, e, g, h, i]) : f(a, b, c, d, e, g, h, i),
  9: (f, long, share) => (a, b, c, d, e, g, h, i, j) =>
    long(a, b, c, d) ? share([a, b, c, d, e, g, h, i, j]) : f(a, b, c, d, e, g, h, i, j),
  10: (f, long, share) => (a, b, c, d, e, g, h, i, j, k) =>
    long(a, b, c, d) ? share([a, b, c, d, e, g, h, i, j, k]) : f(a, b, c, d, e, g, h, i, j, k),
  19: (f, long, share) => (a, b, c, d, e, g, h, i, j, k, l, m, n, o, batch, q, r, s, t) =>
    long(a, b, c, batch)
      ? share([a, b, c, d, e, g, h, i, j, k, l, m, n, o, batch, q, r, s, t])
      : f(a, b, c, d, e, g, h, i, j, k, l, m, n, o, batch, q, r, s, t),
};
const withRest: Wrap =
  (f, long, share) =>
  (...x) =>
    long(...x) ? share(x) : f(...x);

/** `f` as it is called, but for calls that `long` says yes to, of their sizes: those go to `share` as an array. */
export const wrapped = (arity: number, ...x: Parameters<Wrap>): Kernel => (WRAPPED[arity] ?? withRest)(...x);

const pairs = (x: Readonly<Record<number, number>>) =>
  Object.entries(x).map(([at, value]) => [Number(at), value] as const);

/** Exports that share their work with a team. Those it leaves out run on one thread. */
export function split(below: Exports, team: Team, o: SplitOptions = {}): Partial<Exports> {
  const { least = LEAST, piece = PIECE, line = LINE } = o;
  const { threads } = team;

  /** The call `which` of `args` in pieces, as the cut says. */
  const run = (f: Kernel, which: number, args: number[], ns: number, cut: Cut): number | undefined => {
    const { axis, steps, unit = 1, smallest = 1, most = PER_THREAD * threads, from: begin } = cut;
    for (const [at, value] of pairs(cut.also ?? {})) args[at] = value;
    const moves = pairs(steps).filter(([at]) => args[at] !== 0); // 0 stands for an operand that is not there
    const total = args[axis]!;
    const wanted = Math.max(Math.min(most, Math.floor(ns / piece)), Math.ceil(ns / LONGEST));
    const length = Math.max(unit, smallest, Math.ceil(total / Math.min(wanted, MOST_PIECES) / unit) * unit);
    let pieces = Math.ceil(total / length);
    if (pieces > 1 && total - (pieces - 1) * length < smallest) pieces--;
    if (!(pieces > 1)) return f(...args);
    for (let i = 0; i < pieces; i++) {
      const start = i * length;
      const end = i === pieces - 1 ? total : start + length;
      team.put(i, args);
      if (begin !== undefined) team.set(i, begin, start);
      team.set(i, axis, begin === undefined ? end - start : end);
      for (const [at, bytes] of moves) team.set(i, at, args[at]! + start * bytes);
    }
    return team.run(which, args.length, pieces, cut.scratch ?? -1);
  };

  const made: Record<string, Kernel> = {};
  for (const [which, [name, f]] of Object.entries<Kernel>(below as Record<string, Kernel>).entries()) {
    const [family, ...types] = name.split('_') as [string, ...Element[]];
    const make = FAMILIES.get(family);
    if (make === undefined) continue;
    const { arity, time, cut } = make(types, { line, threads });
    made[name] = wrapped(
      arity,
      f,
      arity in WRAPPED ? (a, b, c, d) => time(a!, b!, c!, d!) >= least : (...x) => time(...x) >= least,
      x => {
        const how = cut(x);
        return how === null
          ? f(...x)
          : run(f, which, x, arity === 19 ? time(x[0]!, x[1]!, x[2]!, x[14]!) : time(...x), how);
      },
    );
  }
  return made as Partial<Exports>;
}
