/** What a Kronecker optimizer remembers of a block, and how that is saved. */

import { concat, noGrad, type StateDict, scope, type Tensor, unscoped } from '@otimes/core';
import { isExposed, makeLazy, materialize, versionOf } from '@otimes/core/extend';
import { Kfe, type Rotation, rotate } from '../curvature/basis.ts';
import type { KroneckerBlock, Sharing } from '../curvature/block.ts';
import { checkBasis } from '../curvature/decompose/here.ts';
import type { Statistics } from '../curvature/factors.ts';
import type { RefreshJob } from '../curvature/refresh.ts';
import { biasPart, type Frame, weightPart } from '../curvature/routes/affine.ts';
import { ROUTES, type Route } from '../curvature/routes/route.ts';
import { normOf, type Scalar } from '../curvature/scalar.ts';
import { type StateReader, scalar } from '../state-dict.ts';
import type { Journal } from './journal.ts';

/** What a user may set for some blocks alone; see `KroneckerOptions.overrides`. */
export type BlockOptions = {
  /** In the place of the optimizer's, and in proportion to it where a schedule changes that. */
  lr?: number;
  /** How shared positions enter the factors. */
  sharing?: Sharing;
  /** Leaves the parameters to the rest optimizer. */
  skip?: boolean;
};

/**
 * The weight of a resident layer in the basis, and which values of the parameters belong to it; `leads` where they are
 * computed from it, not it from them.
 */
type Resident = { readonly weight: Tensor; versions: readonly number[]; leads: boolean };

export class BlockState {
  readonly block: KroneckerBlock;
  readonly sharing: Sharing;
  /** The block's learning rate over the optimizer's. */
  readonly lrRatio: number;
  /** Sides that stay at the identity. */
  readonly identityA: boolean;
  readonly identityG: boolean;
  /** Running averages of the factors; of a side at the identity its mean eigenvalue. */
  A: Tensor | null = null;
  G: Tensor | null = null;
  /** True if G is that of 'expand' because that of 'reduce' vanished. */
  expandedG: boolean | Tensor = false;
  kfe: Kfe | null = null;
  /** The statistics of the current step. */
  statistics: Statistics | null = null;
  route: Route = 'gradient';
  /** Of outputs that may be computed in a basis: rows, and whether the input needed a gradient. */
  readonly forwards = new WeakMap<Tensor, { readonly rows: number; readonly needsInputGrad: boolean }>();
  /** The same of the last pass that backward completed. */
  rows = 0;
  needsInputGrad = false;
  /** Tensors of the optimizer itself, [dOut, dIn] in the coordinates of `kfe`. */
  readonly slots = new Map<string, Tensor>();
  /** Moment updates since the slots were last set to zero. */
  count = 0;
  job: RefreshJob | null = null;
  /** Steps in a row on which the gradient did not come in the basis although the route says so. */
  misses = 0;
  /** Whether all slots are known to hold ordinary numbers. */
  isOrdinary = true;
  /** The block's step is this many times as long. */
  graft: Scalar = 1;
  /** `count` when that was measured. */
  graftedAt = 0;
  /** Whether the basis was made from factors with the current step's batch in them. */
  isFresh = false;
  /** bool [dOut, dIn]: the coordinates that the last step left out; null for none. For reports, as are the next two. */
  #silent: Tensor | null = null;
  /** What these left of the last update; null where they are off. */
  trust: Scalar | null = null;
  klClip: Scalar | null = null;
  /** The cosine between the gradient and the update of the last step that was observed. */
  cosine: Scalar | null = null;
  #resident: Resident | null = null;
  /** Saved weight in the basis, until it is known whether the parameters are those it belongs to. */
  #saved: Tensor | null = null;

  constructor(
    block: KroneckerBlock,
    o: { sharing?: Sharing | undefined; lrRatio?: number; maxFactorDim?: number } = {},
  ) {
    const { sharing = block.sharing, lrRatio = 1, maxFactorDim = Infinity } = o;
    this.block = block;
    this.sharing = sharing;
    this.lrRatio = lrRatio;
    this.identityA = block.dIn > maxFactorDim;
    this.identityG = block.dOut > maxFactorDim;
  }

  /** For messages: `linear 'layers.0'`. */
  get label(): string {
    return `${this.block.collector} '${this.block.path}'`;
  }

  /** The same block with nothing remembered. */
  blank(): BlockState {
    const { block, sharing, lrRatio } = this;
    const state = new BlockState(block, { sharing, lrRatio });
    return Object.assign(state, { identityA: this.identityA, identityG: this.identityG });
  }

  /** Marks everything that outlives a step. */
  keep(): void {
    const { UA = null, UG = null, sA = null, sG = null, nA = null, nG = null } = this.kfe ?? {};
    for (const x of [this.A, this.G, UA, UG, sA, sG, nA, nG, ...this.slots.values()]) x?.keep();
  }

  get silent(): Tensor | null {
    return this.#silent;
  }

  /** Takes a mask over that no scope holds, and gives the one before back. */
  set silent(mask: Tensor | null) {
    this.#silent?.storage.release();
    this.#silent = mask;
  }

  dropStatistics(): void {
    this.statistics?.release();
    this.statistics = null;
  }

  // --- the resident weight ---------------------------------------------------------------------------------------------

  get #parameters(): readonly Tensor[] {
    const { weight, bias } = this.block.layer!;
    return bias === null ? [weight] : [weight, bias];
  }

  get #versions(): readonly number[] {
    return this.#parameters.map(versionOf);
  }

  /** Whether W̃ is there, and nobody wrote to the parameters since. */
  get #isCurrent(): boolean {
    if (this.#resident === null) return false;
    const parameters = this.#parameters;
    return this.#resident.versions.every((version, i) => version === versionOf(parameters[i]!));
  }

  /** Whether the layer can be computed in a basis: nobody can write to its weights unseen. */
  get turnable(): boolean {
    const { layer } = this.block;
    return layer !== undefined && this.kfe?.UA != null && this.kfe.UG !== null && !this.#parameters.some(isExposed);
  }

  /** The frame that the layer runs in, with W̃ brought up to date if it is resident and somebody wrote to the weights. */
  frame(): Frame {
    const { UA, UG } = this.kfe!;
    const frame = { UA: UA!, UG: UG!, resident: null };
    return this.route === 'resident' ? { ...frame, resident: this.resident() } : frame;
  }

  /** W̃ of the parameters as they are. */
  resident(): Tensor {
    if (this.#isCurrent) return this.#resident!.weight;
    const weight = unscoped(() => noGrad(() => this.#restored() ?? scope(() => this.kfe!.project(this.#matrix()))));
    this.#resident = { weight, versions: this.#versions, leads: false };
    return weight;
  }

  /** ‖[W b]‖, which is ‖W̃‖. */
  norm(): Scalar {
    if (this.route === 'resident' && this.turnable) return normOf([this.resident()]);
    const { block } = this;
    return block.norm?.() ?? normOf(block.parameters.map(p => p.detach()));
  }

  /** [W | b] */
  #matrix(): Tensor {
    const { weight, bias } = this.block.layer!;
    return bias === null ? weight.detach() : concatColumns(weight.detach(), bias.detach());
  }

  /** The saved W̃, if the parameters are what it gives back, bit for bit: then the run goes on as it would have. */
  #restored(): Tensor | null {
    const saved = this.#saved;
    this.#saved = null;
    if (saved === null) return null;
    const { weight, bias } = this.block.layer!;
    const frame = { UA: this.kfe!.UA!, UG: this.kfe!.UG!, resident: saved };
    const same = (p: Tensor, value: Tensor) => p.ne(value).astype('float32').sum().item() === 0;
    const fits =
      same(weight.detach(), weightPart(saved, frame, weight.shape[1]!)) &&
      (bias === null || same(bias.detach(), biasPart(saved, frame)));
    return fits ? saved : null;
  }

  /** After W̃ changed: the parameters are computed from it when somebody reads them. */
  deferParameters(): void {
    const resident = this.#resident!;
    const { weight, bias } = this.block.layer!;
    const frame: Frame = { UA: this.kfe!.UA!, UG: this.kfe!.UG!, resident: resident.weight };
    makeLazy(weight, () => weightPart(resident.weight, frame, weight.shape[1]!));
    if (bias !== null) makeLazy(bias, () => biasPart(resident.weight, frame));
    resident.versions = this.#versions;
    resident.leads = true;
  }

  /** Takes another basis. W̃ turns with it where it can, and parameters are computed from that; else they are written. */
  turn(kfe: Kfe, rotation: Rotation | null): void {
    const weight = rotation !== null && this.route === 'resident' && this.turnable ? this.resident() : null;
    if (weight === null) this.settle();
    this.kfe = kfe;
    if (weight === null) return;
    weight.copy_(rotate(weight, rotation!));
    this.deferParameters();
  }

  /** Writes the parameters and forgets W̃: before its route changes. */
  settle(): void {
    if (this.#resident === null) return;
    this.#parameters.forEach(materialize);
    this.#resident = null;
  }

  /** What a step leaves of the weight, for a look at it: W̃, where the parameters come from that, or those. */
  get weights(): readonly Tensor[] {
    return this.#isCurrent && this.#resident!.leads ? [this.#resident!.weight] : this.block.parameters;
  }

  /** Lets the journal remember all of this state and of the block's parameters. */
  saveTo(journal: Journal): void {
    const { A, G, expandedG, kfe, route, rows, needsInputGrad, count, graft, graftedAt, job, misses, cosine } = this;
    const { isFresh, trust, klClip } = this;
    const [resident, saved, current, slots] = [this.#resident, this.#saved, this.#isCurrent, [...this.slots]];
    for (const x of [A, G, ...this.slots.values(), ...this.weights]) if (x !== null) journal.save(x);
    if (resident !== null) journal.save(resident.weight);
    const leads = resident?.leads ?? false;
    journal.after(() => {
      Object.assign(this, { A, G, expandedG, kfe, route, rows, needsInputGrad, count, graft, graftedAt, job, misses });
      Object.assign(this, { isFresh, trust, klClip, cosine });
      this.silent = null;
      this.slots.clear();
      for (const [name, value] of slots) this.slots.set(name, value);
      this.#saved = saved;
      this.#resident = resident;
      if (!current) return;
      if (leads) this.deferParameters();
      else resident!.versions = this.#versions;
    });
  }

  // --- saving ------------------------------------------------------------------------------------------------------------

  save(into: StateDict): void {
    const prefix = `blocks.${this.block.path}.`;
    if (this.A === null || this.G === null) return;
    const write = (name: string, value: Tensor | null) => {
      if (value !== null) into[`${prefix}${name}`] = value.detach().clone();
    };
    for (const name of ['count', 'rows', 'misses', 'graftedAt'] as const) into[`${prefix}${name}`] = scalar(this[name]);
    if (typeof this.graft === 'number') into[`${prefix}graft`] = scalar(this.graft);
    else write('graft', this.graft);
    if (typeof this.expandedG === 'boolean') into[`${prefix}expandedG`] = scalar(Number(this.expandedG));
    else write('expandedG', this.expandedG.astype('float32'));
    into[`${prefix}needsInputGrad`] = scalar(Number(this.needsInputGrad));
    into[`${prefix}route`] = scalar(ROUTES.indexOf(this.route));
    const { UA = null, UG = null, sA = null, sG = null, nA = null, nG = null } = this.kfe ?? {};
    for (const [name, value] of Object.entries({ A: this.A, G: this.G, UA, UG, sA, sG, nA, nG })) write(name, value);
    for (const [name, value] of this.slots) write(name, value);
    if (this.route === 'resident') write('W', this.#saved ?? this.resident());
    if (this.job === null) return;
    into[`${prefix}job.step`] = scalar(this.job.step);
    write('job.A', this.job.A);
    write('job.G', this.job.G);
  }

  /**
   * The saved state of this state's block; problems are left with the reader.
   *
   * @param optimizer its name, for messages
   * @param start is told of a decomposition that was under way
   */
  load(
    reader: StateReader,
    optimizer: string,
    slotNames: readonly string[],
    start: (state: BlockState, A: Tensor, G: Tensor, step: number) => void,
  ): BlockState {
    const state = Object.assign(this.blank(), { isOrdinary: false });
    const prefix = `blocks.${this.block.path}.`;
    if (!reader.has(`${prefix}count`)) return state;
    const { dtype, device } = this.block.parameters[0]!;
    const [a, g] = [this.block.dIn, this.block.dOut];
    const read = (name: string, shape: readonly number[], least?: number | null) =>
      reader.tensor(prefix + name, { shape, dtype, device }, least);
    const flag = (name: string) => {
      const value = reader.count(prefix + name);
      if (value > 1) reader.problem(`does not fit: ${prefix}${name} expects 0 or 1, got ${value}`);
      return value === 1;
    };
    const [shapeA, shapeG] = [this.identityA ? [] : [a, a], this.identityG ? [] : [g, g]];
    state.count = reader.count(`${prefix}count`);
    state.rows = reader.count(`${prefix}rows`);
    state.misses = reader.count(`${prefix}misses`);
    state.graft = reader.rate(`${prefix}graft`);
    state.graftedAt = reader.count(`${prefix}graftedAt`);
    state.expandedG = flag('expandedG');
    state.needsInputGrad = flag('needsInputGrad');
    const route = reader.count(`${prefix}route`);
    if (route >= ROUTES.length) reader.problem(`does not fit: ${prefix}route expects one of 0 to 2, got ${route}`);
    state.route = ROUTES[route] ?? 'gradient';
    state.A = read('A', shapeA);
    state.G = read('G', shapeG);
    state.kfe = new Kfe(
      { U: this.identityA ? null : read('UA', [a, a]), s: read('sA', [a], 0), n: read('nA', [a], 0) },
      { U: this.identityG ? null : read('UG', [g, g]), s: read('sG', [g], 0), n: read('nG', [g], 0) },
    );
    if (!reader.hasProblems)
      try {
        checkBasis(optimizer, this.label, state.kfe, [g, a]);
      } catch (error) {
        reader.problem(`does not fit: ${error instanceof Error ? error.message : String(error)}`);
      }
    for (const name of slotNames) state.slots.set(name, read(name, [g, a]));
    if (state.route === 'resident') state.#saved = read('W', [g, a]);
    // A job says itself what is wrong with its factors.
    if (reader.has(`${prefix}job.step`))
      start(state, read('job.A', shapeA, null), read('job.G', shapeG, null), reader.count(`${prefix}job.step`));
    return state;
  }
}

function concatColumns(W: Tensor, b: Tensor): Tensor {
  return concat([W, b.unsqueeze(1)], 1);
}
