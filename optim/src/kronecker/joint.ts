/**
 * The batch of a step that several processes make together, from the part that each of them has. First they tell how many examples
 * there are, and whether anything stands in the way; then one sum makes factors and gradients of all, from here on the same bits in
 * all processes. Bases that are due come from the owners of their blocks. After that a step is a step.
 *
 * Nothing of the optimizer changes here. What fails in one process fails in all.
 */

import { type Tensor, zeros } from '@otimes/core';
import { borrowGrad, held, nameOf, versionOf } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { ALIKE, alikeOf, checkAlike, type Facts, factsOf } from '../curvature/alike.ts';
import { type Decomposition, decomposeStill, Kfe, type Sides } from '../curvature/basis.ts';
import { owner } from '../curvature/communicator.ts';
import {
  agreed,
  COUNTS,
  checkBroadcast,
  checkReadAtOnce,
  column,
  countsOf,
  markOf,
  summed,
  type Table,
  type Turns,
  told,
  total,
  Whole,
} from '../curvature/exchange.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import type { Side } from '../curvature/side.ts';
import type { Active, Found, Planner } from './plan.ts';
import type { BlockState } from './state.ts';
import type { Parts } from './step.ts';

/** What all processes have together. */
export type WholeBatch = {
  readonly active: readonly Active[];
  /** Of the active blocks, as are the second moments of the examples' gradients, where the step asks for them. */
  readonly bases: readonly Kfe[];
  readonly squares: readonly (Tensor | null)[];
  /** Of the parameters that no block has; of their mean loss, or its sum, as the program's. */
  readonly gradients: ReadonlyMap<Parameter, Tensor>;
  /** Examples. */
  readonly batch: number;
  /** Lets the blocks know what was agreed upon. What is returned takes that back. */
  readonly settle: () => () => void;
};

/** What a process has before they tell: copies, so that nothing has to stay as it is while it waits. */
type Own = { readonly blocks: readonly (Found | null)[]; readonly rest: ReadonlyMap<Parameter, Tensor> };

/** An active block of all processes. */
type Shared = { readonly own: Found; readonly whole: Whole; readonly agreement: Agreement };

/** What all processes do alike with a block. */
type Agreement = {
  readonly state: BlockState;
  readonly hasFactors: boolean;
  readonly hasSquares: boolean;
  readonly mayTurn: boolean;
  readonly cameInBasis: boolean;
  readonly rows: number;
  readonly needsInputGrad: boolean;
};

/** 1/λ, or 1/ε. */
const GAIN = 'gain of the rule';

/** What may be set between steps and must be the same in all processes, which tell it. */
const SETTINGS: Readonly<Record<string, (of: Parts) => number>> = {
  step: ({ refresher }) => refresher.steps,
  lr: ({ settings }) => settings.lr,
  weightDecay: ({ settings }) => settings.weightDecay,
  factorDecay: ({ settings }) => settings.factorDecay,
  factorEvery: ({ settings }) => settings.factorEvery,
  refreshEvery: ({ refresher }) => refresher.every,
  [GAIN]: ({ rule }) => rule.gain,
  "lr of the rest's optimizer": ({ rest }) => rest.optimizer?.lr ?? 0,
};
const SET = Object.keys(SETTINGS).length;
/** Numbers that it tells before those of blocks. */
const OWN = SET + ALIKE;

/** What else was chosen when the optimizer was made. An eigensolver may differ: each basis is that of one process. */
function factsOfParts({ name, isOurs, states, settings, refresher, rule, rest, paths }: Parts): Facts {
  const { lossReduction, fisher, loss, route } = settings;
  const isOwnRule = Object.hasOwn(rule.constructor, 'builtIn');
  return [
    ['the class', [name, isOurs, isOwnRule && nameOf(rule)]],
    ...factsOf(states),
    ["the list of the rest's parameters", rest.parameters.map(p => [paths.get(p), p.shape])],
    ["the rest's optimizer", rest.description],
    ['lr in overrides', states.map(({ lrRatio }) => lrRatio)],
    ...Object.entries({ lossReduction, fisher, loss, route, stagger: refresher.stagger }),
    // What a rule of the program's keeps in its fields is the program's. Damping may be set between steps: the gain tells it.
    ...(isOwnRule ? Object.entries(rule).filter(([option]) => option !== 'damping') : []),
  ];
}
/** Numbers that it tells of a block before `countsOf`, in the order of `#row`. */
const FLAGS = 7;

export class JointBatch {
  readonly #parts: Parts;
  readonly #planner: Planner;

  /** Throws for models that several processes cannot train together. */
  constructor(parts: Parts, planner: Planner) {
    const { name, states, paths, communicator } = parts;
    for (const p of paths.keys()) checkReadAtOnce(name, p, communicator);
    if (states.length === 0)
      throw new Error(
        `${name}: a communicator of several processes needs a layer that a collector knows: it tells how many examples each ` +
          'process has. Where there is none, use the rest optimizer alone, with averageGradients before each step',
      );
    this.#parts = parts;
    this.#planner = planner;
  }

  /**
   * @param check throws for what makes a step impossible beyond what is found here
   * @param fields what lies where the model has its parameters, now
   * @param borrowed gets what is held and is to be released after the step
   */
  *whole(check: () => void, fields: () => readonly unknown[], borrowed: Tensor[]): Turns<WholeBatch> {
    const { name, communicator, settings, states, rest, paths } = this.#parts;
    let own: Own = { blocks: [], rest: new Map() };
    const width = OWN + (FLAGS + COUNTS) * states.length + rest.parameters.length;
    const seen = () => [...fields(), ...Array.from(paths.keys(), versionOf)];
    let before: readonly unknown[] = [];
    const table = yield* told(this.#parts.name, communicator, width, () => {
      check();
      before = seen();
      inOwnScope(() => {
        own = this.#own(borrowed);
      });
      return this.#row(own);
    });
    const shared = this.#shared(table, own);
    const isDisturbed = () => {
      const now = seen();
      return now.length !== before.length || now.some((one, i) => one !== before[i]);
    };
    const disturbed = (rank: number) =>
      new Error(
        `${name}: parameters of process ${rank} were written to, or its model was moved, while a step waited for other processes: ` +
          'await step() before; the step has changed no parameter',
      );
    const isSum = settings.lossReduction === 'sum';
    const batch = shared[0]?.whole.batch ?? 1;
    const share = isSum || shared.length === 0 ? 1 : shared[0]!.whole.batches[communicator.rank]! / batch;
    const found: Found[] = [];
    inOwnScope(() => {
      for (const { own, whole, agreement } of shared) {
        const { state, cameInBasis, hasFactors } = agreement;
        const { statistics } = state;
        const fresh = hasFactors ? whole.factors(statistics!, settings.scaleOf(statistics!)) : null;
        if (fresh !== null) borrowed.push(fresh.A, fresh.G);
        found.push({ state, raw: own.raw, inBasis: own.inBasis, cameInBasis, fresh });
      }
      if (share !== 1) for (const x of [...found.map(one => one.raw), ...own.rest.values()]) x.scale_(share);
    });
    const sums = [
      ...found.flatMap(({ raw, fresh }) => (fresh === null ? [raw] : [raw, fresh.A, fresh.G])),
      ...own.rest.values(),
    ];
    if (sums.length > 0) yield* summed(communicator, sums, isDisturbed, disturbed);
    const active: Active[] = [];
    inOwnScope(() => {
      for (const one of found) active.push(this.#planner.checked(one));
      rest.check(p => own.rest.get(p) ?? null);
    });
    const bases = yield* this.#bases(active, borrowed);
    const squares = yield* this.#squares(shared, bases, borrowed);
    if (isDisturbed()) throw disturbed(communicator.rank);
    return { active, bases, squares, gradients: own.rest, batch, settle: () => settled(shared) };
  }

  #own(borrowed: Tensor[]): Own {
    const { states, rest } = this.#parts;
    const blocks = states.map(state => {
      const found = this.#planner.found(state);
      if (found === null) return null;
      // In one frame, whatever way the gradient took in each process.
      const { kfe } = state;
      const raw = held(kfe === null || found.inBasis ? found.raw.clone() : kfe.project(found.raw));
      borrowed.push(raw);
      return { ...found, raw, inBasis: kfe !== null };
    });
    const gradients = rest.parameters.flatMap(p => {
      const g = borrowGrad(p);
      // Kept, since an optimizer of the program may keep what it sees.
      return g === null ? [] : [[p, g.clone().keep()] as const];
    });
    return { blocks, rest: new Map(gradients) };
  }

  #row(own: Own): readonly number[] {
    const { states, rest } = this.#parts;
    const ofBlocks = states.flatMap((state, i) => {
      const found = own.blocks[i]!;
      if (found === null) return new Array<number>(FLAGS + COUNTS).fill(0);
      const { statistics, rows, needsInputGrad, isTurnable } = state;
      const flags = [true, found.fresh !== null, this.#wantsSquares(state), isTurnable, found.cameInBasis];
      return [...flags.map(Number), rows, Number(needsInputGrad), ...countsOf(statistics!)];
    });
    const settings = Object.values(SETTINGS).map(read => read(this.#parts));
    return [
      ...settings,
      ...alikeOf(factsOfParts(this.#parts)),
      ...ofBlocks,
      ...rest.parameters.map(p => Number(own.rest.has(p))),
    ];
  }

  #wantsSquares(state: BlockState): boolean {
    return (state.statistics?.hasSamples ?? false) && this.#parts.demand.squares(state);
  }

  #checkSetting(table: Table, what: string): void {
    const values = column(table, Object.keys(SETTINGS).indexOf(what));
    const other = values.findIndex(value => value !== values[0]);
    if (other >= 0)
      throw new Error(
        `${this.#parts.name}: processes must be alike, and ${what} is ${values[0]} in process 0 and ${values[other]} in process ` +
          `${other}: load the same state in all, and set the same options`,
      );
  }

  /** The blocks that have a gradient. Throws the same error in all processes where they cannot step together. */
  #shared(table: Table, own: Own): Shared[] {
    const { name, states, rest, paths } = this.#parts;
    for (const what of Object.keys(SETTINGS)) if (what !== GAIN) this.#checkSetting(table, what);
    checkAlike(name, factsOfParts(this.#parts), table, SET);
    // Last, since momentum and eps are a part of it, and are named as themselves.
    this.#checkSetting(table, GAIN);
    const differing = (label: string, what: string) => (has: number, lacks: number) =>
      new Error(
        `${name}: ${label} has ${what} in process ${has} and none in process ${lacks}: all processes train the same ` +
          'parameters in a step',
      );
    const shared = states.flatMap((state, i): Shared[] => {
      const first = OWN + i * (FLAGS + COUNTS);
      const at = (k: number) => column(table, first + k);
      if (!agreed(at(0), differing(state.label, 'a gradient'))) return [];
      const agreement = {
        state,
        hasFactors: agreed(at(1), differing(state.label, 'factors')),
        hasSquares: agreed(at(2), differing(state.label, 'second moments of examples')),
        mayTurn: at(3).every(Boolean),
        cameInBasis: at(4).every(Boolean),
        // What a route costs is what it costs a process.
        rows: Math.ceil(total(at(5)) / table.length),
        needsInputGrad: at(6).some(Boolean),
      };
      return [{ own: own.blocks[i]!, whole: new Whole(table, first + FLAGS), agreement }];
    });
    let hasRest = false;
    for (const [i, p] of rest.parameters.entries()) {
      const flags = column(table, OWN + states.length * (FLAGS + COUNTS) + i);
      if (agreed(flags, differing(`'${paths.get(p)}'`, 'a gradient'))) hasRest = true;
    }
    if (hasRest && shared.length === 0)
      throw new Error(
        `${name}: no layer of a block was reached by backward, and these tell how many examples each process has: several ` +
          'processes cannot weigh their gradients of the other parameters',
      );
    this.#checkShares(shared);
    return shared;
  }

  /** Throws unless every block has the same share of its examples in a process: gradients have one weight in each. */
  #checkShares(shared: readonly Shared[]): void {
    const [first] = shared;
    for (const { whole, agreement } of shared)
      for (const [rank, batch] of whole.batches.entries()) {
        const [of, has] = [first!.whole.batch, first!.whole.batches[rank]!];
        if (batch * of === has * whole.batch) continue;
        throw new Error(
          `${this.#parts.name}: process ${rank} has ${has} of ${of} examples of ${first!.agreement.state.label} and ${batch} of ` +
            `${whole.batch} of ${agreement.state.label}: give all processes parts of the same size`,
        );
      }
  }

  /** The bases of the step: those that are due are decomposed by the owners of their blocks, and sent to the others. */
  *#bases(active: readonly Active[], borrowed: Tensor[]): Turns<Kfe[]> {
    const { communicator, states, refresher, watch } = this.#parts;
    const bases = active.map(({ state }) => refresher.basisAhead(state));
    const due = active.flatMap((one, i) => (bases[i] === null ? [{ ...one, i }] : []));
    if (due.length === 0) return bases as Kfe[];
    const ownerOf = ({ state }: Active) => owner(communicator, states.indexOf(state));
    // Small ones first: they tell how long large ones will take.
    const mine = due.filter(one => ownerOf(one) === communicator.rank);
    mine.sort((x, y) => x.state.decompositionCost - y.state.decompositionCost);
    yield* told(this.#parts.name, communicator, 0, () => {
      watch.time('refresh', () =>
        inOwnScope(() => {
          for (const { state, averages, i } of mine) {
            // At once, since values are read at once here.
            bases[i] = refresher.decompose(state, averages?.A ?? state.A!, averages?.G ?? state.G!) as Kfe;
            borrowed.push(...tensorsOf(bases[i]).map(held));
          }
        }),
      );
      return [];
    });
    inOwnScope(() => {
      for (const { state, averages, i } of due) {
        if (bases[i] !== null) continue;
        bases[i] = blankBasis(averages?.A ?? state.A!, averages?.G ?? state.G!, state.sides);
        borrowed.push(...tensorsOf(bases[i]).map(held));
      }
    });
    for (let from = 0; from < communicator.size; from++) {
      const sent = due.filter(one => ownerOf(one) === from).flatMap(({ i }) => sentOf(bases[i]!));
      if (sent.length === 0) continue;
      const mark = markOf(communicator, from);
      borrowed.push(mark);
      yield communicator.broadcast([...sent, mark], from);
      checkBroadcast(mark.item(), from);
    }
    return bases as Kfe[];
  }

  /** The second moments of all examples' gradients. */
  *#squares(shared: readonly Shared[], bases: readonly Kfe[], borrowed: Tensor[]): Turns<(Tensor | null)[]> {
    const { communicator } = this.#parts;
    const squares: (Tensor | null)[] = [];
    inOwnScope(() => {
      for (const [i, { whole, agreement }] of shared.entries()) {
        const own = agreement.hasSquares ? this.#planner.squares(agreement.state, bases[i]!) : null;
        if (own !== null) borrowed.push(held(own.scale_(whole.batches[communicator.rank]! / whole.batch)));
        squares.push(own);
      }
    });
    const sums = squares.filter(x => x !== null);
    if (sums.length > 0) yield communicator.sum(sums);
    return squares;
  }
}

const tensorsOf = ({ UA, UG, sA, sG, nA, nG }: Kfe): Tensor[] => [UA, UG, sA, sG, nA, nG].filter(x => x !== null);

/** What others need of a basis: a side that does not turn they know from its factor. */
const sentOf = ({ UA, UG, sA, sG, nA, nG }: Kfe): Tensor[] => [
  ...(UA === null ? [] : [UA, sA, nA]),
  ...(UG === null ? [] : [UG, sG, nG]),
];

/** Room for the basis of such factors. */
function blankBasis(A: Tensor, G: Tensor, sides: Sides): Kfe {
  const blankSide = (factor: Tensor, side: Side): Decomposition => {
    if (!side.turns) return decomposeStill(side, factor);
    const { n, shape } = side;
    const { dtype, device } = factor;
    const blank = (shape: readonly number[]) => zeros(shape, { dtype, device });
    return { U: blank(shape), s: blank([n]), n: blank([n]) };
  };
  return new Kfe(blankSide(A, sides.A), blankSide(G, sides.G), sides);
}

function settled(shared: readonly Shared[]): () => void {
  const before = shared.map(({ agreement: { state } }) => {
    const { mayTurn, rows, needsInputGrad } = state;
    return { state, was: { mayTurn, rows, needsInputGrad } };
  });
  for (const { whole, agreement } of shared) {
    const { state, mayTurn, rows, needsInputGrad } = agreement;
    Object.assign(state, { mayTurn, rows, needsInputGrad });
    state.statistics!.batch = whole.batch;
  }
  return () => {
    for (const { state, was } of before) Object.assign(state, was);
  };
}
