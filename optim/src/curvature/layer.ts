/** What is known of the curvature of one layer: its factors, their basis, and how its gradient comes into that. */

import { type StateDict, type Tensor, tensor } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { type StateReader, scalar } from '../state-dict.ts';
import { type Decomposition, type FixedBasis, Kfe, type Rotation, type Sides } from './basis.ts';
import type { LayerBlock, Sharing } from './block.ts';
import { checkBasis } from './decompose/check-basis.ts';
import { checkFactorSize } from './decompose/here.ts';
import type { Factors, Statistics } from './factors.ts';
import type { RefreshJob } from './refresh.ts';
import type { Frame } from './routes/frame.ts';
import { imagesOf, isTurnable } from './routes/images.ts';
import { frameOf, ResidentWeight } from './routes/resident.ts';
import { cheapestRoute, ROUTES, type Route } from './routes/route.ts';
import { normOf, remembered, replaced, type Scalar } from './scalar.ts';
import { Side } from './side.ts';
import { savedSides, sidesDiffer } from './structure.ts';
import { joinUses } from './uses.ts';

export type LayerOptions = {
  /** Default: the block's own. */
  sharing?: Sharing | undefined;
  /** Larger sides stay at the identity. Default Infinity. */
  maxFactorDim?: number;
  /** What is assumed of each side. Default: of those that `maxFactorDim` leaves, nothing. */
  sides?: Sides | undefined;
  /** Makes its basis, in the place of decompositions. Default: none. */
  fixedBasis?: FixedBasis | undefined;
};

/** The names under which `LayerCurvature.save` writes. */
export const SAVED: readonly string[] = [
  ...['structure', 'rows', 'misses', 'expandedG', 'needsInputGrad', 'route', 'W', 'job'],
  ...['A', 'G', 'UA', 'UG', 'sA', 'sG', 'nA', 'nG'],
];

/** What a backward pass told of a layer that may be computed in its basis. */
type Passed = { readonly rows: number; readonly needsInputGrad: boolean };

export class LayerCurvature {
  readonly block: LayerBlock;
  readonly sharing: Sharing;
  readonly fixedBasis: FixedBasis | undefined;
  /** What is assumed of the factors. */
  readonly sideA: Side;
  readonly sideG: Side;
  /** Running averages of the factors, packed as the sides say. */
  A: Tensor | null = null;
  G: Tensor | null = null;
  /** Whether G is that of 'expand' because that of 'reduce' vanished; as in `Factors`. */
  expandedG: boolean | Tensor = false;
  kfe: Kfe | null = null;
  /** Whether the basis was made from factors with the current step's batch in them. */
  isFresh = false;
  /** The statistics of the current step. */
  statistics: Statistics | null = null;
  /** A decomposition that is under way. */
  job: RefreshJob | null = null;
  route: Route = 'gradient';
  /** By output: forward passes that may be computed in a basis. */
  forwards = new WeakMap<Tensor, Passed>();
  /** Of the last pass that backward completed: rows, and whether the input needed a gradient. */
  rows = 0;
  needsInputGrad = false;
  /** Steps in a row on which the gradient did not come in the basis although the route says so. */
  misses = 0;
  /** Whether the layer may be computed in its basis in all processes that train it. */
  mayTurn = true;
  /** W̃; null for a block that is no whole layer, or one that its sides cannot turn. */
  readonly #resident: ResidentWeight | null;

  constructor(
    block: LayerBlock,
    { sharing = block.sharing, maxFactorDim = Infinity, sides, fixedBasis }: LayerOptions = {},
  ) {
    const side = (name: 'A' | 'G', n: number) => {
      if (block.oneHot === name) return Side.diagonal(n);
      return n > maxFactorDim ? Side.identity(n) : Side.exact(n);
    };
    this.block = block;
    this.fixedBasis = fixedBasis;
    // A mean of one-hot vectors is none.
    this.sharing = block.oneHot === 'A' ? 'expand' : sharing;
    this.sideA = sides?.A ?? side('A', block.dIn);
    this.sideG = sides?.G ?? side('G', block.dOut);
    const { layer } = block;
    const canTurn = fixedBasis === undefined && layer !== undefined && isTurnable(layer, this.sideA);
    this.#resident = canTurn ? new ResidentWeight(layer) : null;
  }

  /** For messages: `linear 'layers.0'`. */
  get label(): string {
    return `${this.block.collector} '${this.block.path}'`;
  }

  /** [dOut, dIn] */
  get sizes(): readonly [number, number] {
    return [this.block.dOut, this.block.dIn];
  }

  get sides(): Sides {
    return { A: this.sideA, G: this.sideG };
  }

  /** Throws an OutOfMemoryError for a side that no decomposition has room for. `name` is whose layer it is, for messages. */
  checkSizes(name: string): void {
    checkFactorSize(name, this.label, 'A', this.sideA);
    checkFactorSize(name, this.label, 'G', this.sideG);
  }

  /** n³ of all matrices of both sides that are decomposed. */
  get decompositionCost(): number {
    if (this.fixedBasis !== undefined) return 0;
    return this.sideA.decompositionCost + this.sideG.decompositionCost;
  }

  /** Marks everything that outlives a step. */
  keep(): void {
    for (const x of [this.A, this.G]) x?.keep();
    this.kfe?.keep();
  }

  /** The factors of all uses, of those that statistics have, in their memory. */
  joined(batch: Factors): Factors {
    return this.block.further === undefined ? batch : joinUses(batch, this.sides);
  }

  /** The running averages as they will be with these factors in them, in the memory of these; `alpha` of the old ones stays. */
  blended(batch: Factors, alpha: number): Factors {
    const { A, G } = this;
    const fresh = this.joined(batch);
    if (A === null || G === null || alpha === 0) return fresh;
    fresh.A.addScaled_(A, alpha, 1 - alpha);
    fresh.G.addScaled_(G, alpha, 1 - alpha);
    return fresh;
  }

  /** Takes over running averages, into the memory of the old ones. */
  setFactors({ A, G, expandedG }: Factors): void {
    this.expandedG = typeof expandedG === 'boolean' ? expandedG : replaced(this.expandedG, expandedG);
    if (this.A === null || this.G === null) {
      this.A = A;
      this.G = G;
    } else {
      this.A.copy_(A);
      this.G.copy_(G);
    }
  }

  dropStatistics(): void {
    this.statistics?.release();
    this.statistics = null;
  }

  // --- the way into the basis --------------------------------------------------------------------------------------------

  /** Whether the layer can be computed in a basis: it has one, and nobody can write to its weights unseen, in no process. */
  get canTurn(): boolean {
    return this.mayTurn && this.kfe !== null && this.isTurnable;
  }

  /** Whether it is a layer that its sides can turn, and to whose weights nobody can write unseen, in this process. */
  get isTurnable(): boolean {
    return this.#resident?.isAllowed ?? false;
  }

  /** W̃ of the parameters as they are, if that is what steps change; else null. */
  residentWeight(): Tensor | null {
    return this.route === 'resident' && this.canTurn ? this.#resident!.in(this.kfe!) : null;
  }

  /** The frame that the layer is computed in, if it can be, with W̃ brought up to date if somebody wrote to the weights. */
  frame(): Frame {
    return frameOf(this.kfe!, this.residentWeight());
  }

  /** After W̃ was written to: the parameters are computed from it when somebody reads them. */
  deferParameters(): void {
    this.#resident!.lead(this.kfe!);
  }

  /** What a step leaves of the weight, for a look at it: W̃, where the parameters come from that, or those. */
  get weights(): readonly Tensor[] {
    const leading = this.#resident?.leading ?? null;
    return leading === null ? this.block.parameters : [leading];
  }

  /** ‖[W b]‖, which is ‖W̃‖. */
  norm(): Scalar {
    const weight = this.residentWeight();
    if (weight !== null) return normOf([weight]);
    const { block } = this;
    return block.norm?.() ?? normOf(block.parameters.map(p => p.detach()));
  }

  /**
   * Takes another basis, to which `rotation` leads. W̃ turns with it where it can, and parameters are computed from that; else, and
   * with null, they are written.
   */
  turn(kfe: Kfe, rotation: Rotation | null): void {
    if (rotation !== null && this.route === 'resident' && this.canTurn) this.#resident!.turn(this.kfe!, kfe, rotation);
    else this.leaveBasis();
    this.kfe = kfe;
  }

  /** Writes the parameters, where they are computed from W̃, and forgets that: before its route changes. */
  leaveBasis(): void {
    this.#resident?.leave();
  }

  /** Takes the route that is wanted, where the layer can be computed in the basis. */
  chooseRoute(wanted: Route | 'auto'): void {
    const { block, sideA: A, sideG: G, rows, needsInputGrad } = this;
    if (!this.canTurn || rows === 0 || this.misses > 1) this.route = 'gradient';
    else if (wanted !== 'auto') this.route = wanted;
    else this.route = cheapestRoute({ A, G, rows, needsInputGrad, images: imagesOf(block.layer!, rows) });
    if (this.route !== 'resident') this.leaveBasis();
  }

  /** Gives a route up that does not pay: a layer that is used twice, or whose gradients are clipped or accumulated. */
  reconsiderRoute(cameInBasis: boolean): void {
    if (this.route === 'gradient') return;
    this.misses = cameInBasis ? 0 : this.misses + 1;
    if (this.misses <= 1 && this.canTurn) return;
    this.leaveBasis();
    this.route = 'gradient';
  }

  // --- going back, and saving --------------------------------------------------------------------------------------------

  /** Everything that is no tensor which is written to in place. */
  #fields() {
    const { A, G, expandedG, kfe, isFresh, job, route, rows, needsInputGrad, misses } = this;
    return { A, G, expandedG, kfe, isFresh, job, route, rows, needsInputGrad, misses };
  }

  /** What steps write to in place, and a function that puts all else back once these elements are what they were. */
  snapshot(): { readonly tensors: readonly Tensor[]; readonly restore: () => void } {
    const fields = this.#fields();
    const expandedG = remembered(this.expandedG);
    const resident = this.#resident?.snapshot(this.kfe);
    const tensors = [this.A, this.G, resident?.weight ?? null, ...this.weights].filter(x => x !== null);
    return {
      tensors,
      restore: () => {
        Object.assign(this, fields, { expandedG: expandedG() });
        resident?.restore();
      },
    };
  }

  /** Takes over what was loaded for the same block. Statistics of passes before go. */
  become(loaded: LayerCurvature): void {
    this.leaveBasis();
    this.dropStatistics();
    Object.assign(this, loaded.#fields());
    this.forwards = new WeakMap();
    this.#resident?.become(loaded.#resident!);
  }

  /** Whether a file has factors of these sides. Of others nothing more is read. */
  #hasStructure(reader: StateReader, prefix: string): boolean {
    const saved = reader.tensor(`${prefix}structure`, { shape: [4], dtype: 'float64' });
    const problem = saved.size === 4 ? sidesDiffer(this.sides, Array.from(saved.dataSync(), Number)) : '';
    if (problem === null) return true;
    reader.section(prefix);
    if (problem !== '')
      reader.problem(
        `does not fit: ${this.label}: ${problem}: give structure, blockDim and maxFactorDim as they were when it was saved`,
      );
    return false;
  }

  /** Adds the entries of this layer, whose keys start with `prefix`. */
  save(into: StateDict, prefix: string): void {
    const write = (name: string, value: Tensor | null) => {
      if (value !== null) into[`${prefix}${name}`] = value.detach().clone();
    };
    into[`${prefix}structure`] = tensor(savedSides(this.sides), { dtype: 'float64' });
    for (const name of ['rows', 'misses'] as const) into[`${prefix}${name}`] = scalar(this[name]);
    if (typeof this.expandedG === 'boolean') into[`${prefix}expandedG`] = scalar(Number(this.expandedG));
    else write('expandedG', this.expandedG.astype('float32'));
    into[`${prefix}needsInputGrad`] = scalar(Number(this.needsInputGrad));
    into[`${prefix}route`] = scalar(ROUTES.indexOf(this.route));
    const {
      UA = null,
      UG = null,
      sA = null,
      sG = null,
      nA = null,
      nG = null,
    } = (this.fixedBasis === undefined ? this.kfe : null) ?? {};
    for (const [name, value] of Object.entries({ A: this.A, G: this.G, UA, UG, sA, sG, nA, nG })) write(name, value);
    if (this.route === 'resident') write('W', this.#resident!.save(this.kfe!));
    if (this.job === null) return;
    into[`${prefix}job.step`] = scalar(this.job.step);
    write('job.A', this.job.A);
    write('job.G', this.job.G);
  }

  /**
   * Reads what `save` wrote; problems are left with the reader.
   *
   * @param name for messages
   * @param start is told of a decomposition that was under way
   */
  load(reader: StateReader, prefix: string, name: string, start: (A: Tensor, G: Tensor, step: number) => void): void {
    const [parameter] = this.block.parameters as [Parameter];
    const { dtype, device } = parameter;
    const [g, a] = this.sizes;
    if (!this.#hasStructure(reader, prefix)) return;
    const read = (key: string, shape: readonly number[], least?: number | null, on = device) =>
      reader.tensor(prefix + key, { shape, dtype, device: on }, least);
    const flag = (key: string) => {
      const value = reader.count(prefix + key);
      if (value > 1) reader.problem(`does not fit: ${prefix}${key} expects 0 or 1, got ${value}`);
      return value === 1;
    };
    const [shapeA, shapeG] = [this.sideA.shape, this.sideG.shape];
    this.rows = reader.count(`${prefix}rows`);
    this.misses = reader.count(`${prefix}misses`);
    this.expandedG = flag('expandedG');
    this.needsInputGrad = flag('needsInputGrad');
    const route = reader.count(`${prefix}route`);
    if (route >= ROUTES.length) reader.problem(`does not fit: ${prefix}route expects one of 0 to 2, got ${route}`);
    this.route = ROUTES[route] ?? 'gradient';
    this.A = read('A', shapeA);
    this.G = read('G', shapeG);
    if (this.fixedBasis !== undefined) {
      this.kfe = this.fixedBasis(this.sizes, parameter);
      return;
    }
    // A basis whose values have to be awaited has a host.
    const home = readsLater(parameter) ? 'cpu' : device;
    const side = (name: 'A' | 'G', { n, turns, shape }: Side): Decomposition => ({
      U: !turns ? null : read(`U${name}`, shape, undefined, home),
      s: read(`s${name}`, [n], 0, home),
      n: read(`n${name}`, [n], 0, home),
    });
    this.kfe = new Kfe(side('A', this.sideA), side('G', this.sideG), this.sides);
    if (!reader.hasProblems)
      try {
        checkBasis(name, this.label, this.kfe, this.sides);
      } catch (error) {
        reader.problem(`does not fit: ${error instanceof Error ? error.message : String(error)}`);
      }
    if (home !== device) this.kfe = this.kfe.on(device);
    if (this.route === 'resident') {
      const weight = read('W', [g, a]);
      if (this.#resident === null) this.route = 'gradient';
      else this.#resident.load(weight);
    }
    // A job says itself what is wrong with its factors.
    if (reader.has(`${prefix}job.step`))
      start(read('job.A', shapeA, null), read('job.G', shapeG, null), reader.count(`${prefix}job.step`));
  }
}
