/** Puts exports that share their work with a team in the place of exports: each cuts long calls into calls of itself. */

import type { Element } from '../elements.ts';
import { kernelsPlans, PRODUCTS, WRAPPED } from '../generated/plans.gen.ts';
import type { Exports } from '../generated/types.gen.ts';
import type { Axis, Factors, Plan, Plans, Wrap } from './plan.ts';
import { type Choice, PER_THREAD, RULES } from './rules.ts';
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

const SIZE: Readonly<Record<Element, number>> = { f32: 4, f64: 8, i32: 4, bool: 1 };

const withRest: Wrap =
  (f, long, share) =>
  (...x) =>
    long(...x) ? share(x) : f(...x);

/** `f` as it is called, but for calls that `long` says yes to, of their sizes: those go to `share` as an array. */
export const wrapped = (arity: number, ...x: Parameters<Wrap>): Kernel => (WRAPPED[arity] ?? withRest)(...x);

function product(x: readonly number[], factors: Factors, from = 0): number {
  let result = 1;
  for (let i = from; i < factors.length; i++) {
    const place = factors[i]!;
    if (place < 0) result /= x[-1 - place]!;
    else result *= x[place]!;
  }
  return result;
}

/** Whether a call takes so long, by the arguments that wrappers hand on. NOTE: asked at every call. */
function isLong({ arity, work }: Plan, ns: number, least: number): (...x: number[]) => boolean {
  if (arity in WRAPPED)
    switch (work.join()) {
      case '0':
        return n => n! * ns >= least;
      case '0,1':
        return (rows, cols) => rows! * cols! * ns >= least;
      case '0,1,2':
        return (outer, length, inner) => outer! * length! * inner! * ns >= least;
      case '0,0,1':
        return (n, k) => n! * n! * k! * ns >= least;
      case '0,2,3':
        return (outer, _, inner, count) => outer! * inner! * count! * ns >= least;
      case '0,1,2,14':
        return (m, n, k, batch) => m! * n! * k! * batch! * ns >= least;
    }
  return (...x) => product(x, work) * ns >= least;
}

/** An export with a plan. */
type Planned = {
  readonly f: Kernel;
  /** Its number among the exports. */
  readonly which: number;
  readonly plan: Plan;
  /** Bytes of its types' elements. */
  readonly sizes: readonly number[];
};

/** The plans of all modules that are loaded. */
export const plansOf = ({
  parts,
}: {
  readonly parts: readonly { readonly part: { readonly plans: Plans } }[];
}): Plans => [...PRODUCTS, ...kernelsPlans, ...parts.flatMap(({ part }) => part.plans)];

/** The exports that have plans; calls that take one thread `least` nanoseconds or more go to what `make` returns, with that time. */
function longCalls(
  below: Exports,
  plans: Plans,
  least: number,
  make: (planned: Planned) => (x: number[], ns: number) => number | undefined,
): Partial<Exports> {
  const planOf = new Map(plans.flatMap(([names, plan]) => names.split(' ').map(name => [name, plan] as const)));
  const made: Record<string, Kernel> = {};
  for (const [which, [name, f]] of Object.entries<Kernel>(below as Record<string, Kernel>).entries()) {
    const [family, ...types] = name.split('_') as [string, ...Element[]];
    const plan = planOf.get(family);
    if (plan === undefined) continue;
    const sizes = types.map(type => SIZE[type]);
    const ns = plan.sized ? plan.ns * sizes[0]! : plan.ns;
    const long = make({ f, which, plan, sizes });
    made[name] = wrapped(plan.arity, f, isLong(plan, ns, least), x => long(x, product(x, plan.work) * ns));
  }
  return made as Partial<Exports>;
}

/** Exports that tell `seen` of each call how many nanoseconds it takes one thread, if those are `least` or more. */
export const watched = (below: Exports, plans: Plans, least: number, seen: (ns: number) => void): Partial<Exports> =>
  longCalls(below, plans, least, ({ f }) => (x, ns) => {
    seen(ns);
    return f(...x);
  });

/** Computes on this thread what a worker did not live to finish: `again` does, null where the call can be made only once. */
export type Rescue = (again: (() => number | undefined) | null) => number | undefined;

/**
 * Exports that share their work with a team, by the plans for them. Those it leaves out run on one thread. Where a worker has
 * stopped they throw an Error, or return what `rescue` does.
 */
export function split(
  below: Exports,
  team: Team,
  plans: Plans,
  o: SplitOptions = {},
  rescue?: Rescue,
): Partial<Exports> {
  const { least = LEAST, piece = PIECE, line = LINE } = o;
  const { threads } = team;

  /** Calls an export in pieces along an axis; `ns` is what the whole takes. */
  const run = ({ f, which, plan, sizes }: Planned, args: number[], ns: number, how: Choice, axis: Axis) => {
    const { at, from: begin, set, each } = axis;
    const { smallest = 1, most = PER_THREAD * threads } = how;
    const lines = Math.min(line, axis.unit ?? 1);
    const unit = how.unit ?? (each === undefined ? lines : Math.ceil(lines / args[each]!));
    if (set !== undefined) args[set[0]] = product(args, set, 1);
    if (begin !== undefined) args[begin] = 0;
    // 0 stands for an operand that is not there.
    const moves = axis.moves.filter(([at]) => args[at] !== 0);
    const steps = moves.map(
      move => product(args, move, 2) * (move[1] > 0 ? move[1] : move[1] === 0 ? sizes[1]! : -move[1] * sizes[0]!),
    );
    const total = args[at]!;
    const wanted = Math.max(Math.min(most, Math.floor(ns / piece)), Math.ceil(ns / LONGEST));
    // Each has memory of its own, and there is none for more.
    const count = plan.own === undefined ? wanted : Math.min(wanted, most);
    const length = Math.max(unit, smallest, Math.ceil(total / Math.min(count, MOST_PIECES) / unit) * unit);
    let pieces = Math.ceil(total / length);
    if (pieces > 1 && total - (pieces - 1) * length < smallest) pieces--;
    if (!(pieces > 1)) return f(...args);
    for (let i = 0; i < pieces; i++) {
      const start = i * length;
      const end = i === pieces - 1 ? total : start + length;
      team.put(i, args);
      if (begin !== undefined) team.set(i, begin, start);
      team.set(i, at, begin === undefined ? end - start : end);
      if (plan.own !== undefined) team.set(i, plan.own[0], args[plan.own[0]]! + i * args[plan.own[1]]!);
      for (let k = 0; k < moves.length; k++) team.set(i, moves[k]![0], args[moves[k]![0]]! + start * steps[k]!);
    }
    return team.run(which, args.length, pieces, plan.scratch ?? -1);
  };

  const share = (planned: Planned, x: number[], ns: number) => {
    const { f, plan } = planned;
    const { axes, rule, takes, whole } = plan;
    if (whole !== undefined && x[whole]) return f(...x);
    const how = rule
      ? RULES[rule]({ line, threads }, ...takes!.map(at => x[at]!))
      : {
          axis: Math.max(
            0,
            axes.findIndex(({ at }, i) => x[at] !== 1 || i === axes.length - 1),
          ),
        };
    const axis = axes[how.axis]!;
    if (axis.still?.some(at => x[at] === 0)) return f(...x);
    return run(planned, x, ns, how, axis);
  };

  return longCalls(below, plans, least, planned => {
    if (rescue === undefined) return (x, ns) => share(planned, x, ns);
    return (x, ns) => {
      if (team.failure !== null) return rescue(() => planned.f(...x));
      const args = [...x];
      try {
        return share(planned, x, ns);
      } catch (error) {
        if (team.failure === null) throw error;
        return rescue(againAlike(planned.plan, args) ? () => planned.f(...args) : null);
      }
    };
  });
}

/** Whether a call of which a part was made may be made again: it writes over nothing that it reads. */
function againAlike({ again, axes }: Plan, x: readonly number[]): boolean {
  if (again === undefined || (again.unless !== undefined && x[again.unless] !== 0)) return false;
  const places = new Set(axes.flatMap(({ moves }) => moves.map(([at]) => at)));
  return again.written.every(to => x[to] === 0 || [...places].every(at => at === to || x[at] !== x[to]));
}
