/** When bases are computed anew, here or in the background while training goes on. */

import type { Tensor } from '@otimes/core';
import type { Kfe, Rotation } from './basis.ts';
import { checkBasis } from './decompose/check-basis.ts';
import type { Decomposer } from './decompose/here.ts';
import { stillDiagonal } from './decompose/stays.ts';
import { startDecomposition } from './decompose/worker.ts';
import type { LayerCurvature } from './layer.ts';

/** A new basis, and the way there from the one that the job started from. */
type Arrival = { readonly kfe: Kfe; readonly rotation: Rotation };

/** Throws unless a basis has taken over before the next one begins. */
export function checkLag(name: string, lag: number, every: number): void {
  if (lag > every) throw new RangeError(`${name}: expected refreshLag ≤ refreshEvery, got ${lag} > ${every}`);
}

/** A value that is on its way, from a worker say. Whoever waits for it polls `ready`, so that it is taken where a step allows it. */
export interface Pending<T> {
  /** Where reads from a device come first that are awaited: fulfilled when they are done, and never rejected. Else null. */
  readonly arrived: Promise<void> | null;
  /** Whether it is there, or has failed. With `wait` it returns when that is so, which needs reads to have `arrived`. */
  ready(wait: boolean): boolean;
  /** The value, waiting for it if need be. Throws what went wrong. Once: it is the caller's from then on. */
  now(): T;
}

/** Factors that are being decomposed elsewhere. They can be read, to be saved, until the new basis is taken. */
export interface RefreshJob extends Pending<Arrival> {
  readonly A: Tensor;
  readonly G: Tensor;
  /** The step that started it. */
  readonly step: number;
  /** The basis at that time. */
  readonly from: Kfe;
}

/** When a `Refresher` has bases computed. */
export type RefreshOptions = {
  /** 'sync': within the step. 'background': in a worker; the first basis is computed at once. */
  readonly mode: 'sync' | 'background';
  /** With 'background': steps after which a basis takes over; null as soon as it is there; 'half' of the period. */
  readonly lag: number | null | 'half';
  /** Whether layers refresh on different steps, spread over the period. */
  readonly stagger: boolean;
  /** The period, in steps. */
  readonly every: number;
  /** The part of a factor outside of its diagonal in the old basis, up to which that stays; default 0, for none. See `stillDiagonal`. */
  readonly threshold?: number;
};

/**
 * Tells which layers are to be decomposed at a step, and has it done. In a step: the bases of layers that `isDue` come from
 * `decompose`, or from a job that `begin` starts, which is kept in `layer.job`; all others have `basisAhead`. After it `steps` goes up
 * by one, and layers that `arrived` take theirs from `arrival`.
 */
export class Refresher<L extends LayerCurvature> {
  readonly mode: 'sync' | 'background';
  readonly stagger: boolean;
  readonly threshold: number;
  every: number;
  /** Steps made so far. */
  steps = 0;
  /** Bases that took over. */
  done = 0;
  /** Bases that stayed when they were due, as their factors were still diagonal. */
  skipped = 0;
  /** Decompositions that failed in the background, and bases that could not be followed; the old basis stayed. */
  failed = 0;
  lastError: string | null = null;
  readonly #name: string;
  readonly #layers: readonly L[];
  readonly #positions: ReadonlyMap<L, number>;
  readonly #decomposer: Decomposer;
  readonly #lag: number | null | 'half';

  /** @param name whose layers they are, for messages */
  constructor(name: string, layers: readonly L[], decomposer: Decomposer, o: RefreshOptions) {
    this.#name = name;
    this.#layers = layers;
    this.#positions = new Map(layers.map((layer, i) => [layer, i]));
    this.#decomposer = decomposer;
    this.mode = o.mode;
    this.#lag = o.lag;
    this.stagger = o.stagger;
    this.every = o.every;
    this.threshold = o.threshold ?? 0;
  }

  /** Steps after which a basis takes over; null as soon as it is there. */
  get lag(): number | null {
    return this.#lag === 'half' ? Math.max(1, this.every >> 1) : this.#lag;
  }

  /** Throws for a period that is shorter than a lag which does not follow it. */
  checkEvery(every: number): void {
    if (typeof this.#lag === 'number') checkLag(this.#name, this.#lag, every);
  }

  /** Whether a layer's factors are to be decomposed at this step. Staggered ones share the period evenly. */
  isDue(layer: L): boolean {
    if (layer.kfe === null) return true;
    const offset = this.stagger ? Math.floor((this.#positions.get(layer)! * this.every) / this.#positions.size) : 0;
    return (this.steps - offset) % this.every === 0;
  }

  /** The old basis with the eigenvalues of these factors, where that is due and still serves; else null. */
  stays(layer: L, A: Tensor, G: Tensor): Kfe | null {
    const { kfe, job } = layer;
    if (this.threshold === 0 || kfe === null || job !== null || !this.isDue(layer)) return null;
    return stillDiagonal(kfe, A, G, this.threshold);
  }

  /** The basis of this step, where it is known before: a layer keeps its own unless it is decomposed within the step. */
  basisAhead(layer: L): Kfe | null {
    const { kfe, fixedBasis, sizes, block } = layer;
    if (fixedBasis !== undefined) return kfe ?? fixedBasis(sizes, block.parameters[0]!);
    return this.mode === 'background' || !this.isDue(layer) ? kfe : null;
  }

  /** The basis of these factors, or what follows the layer's own. A promise where factors are read with await. */
  decompose(layer: L, A: Tensor, G: Tensor): Kfe | Promise<Kfe> {
    return this.decomposeAll([{ layer, A, G }])[0]!;
  }

  /** Those of several layers, in their order. */
  decomposeAll(all: readonly { readonly layer: L; readonly A: Tensor; readonly G: Tensor }[]): (Kfe | Promise<Kfe>)[] {
    const tasks = all.map(({ layer: { sizes, sides, label, kfe }, A, G }) => ({
      A,
      G,
      sizes,
      sides,
      label,
      from: kfe,
    }));
    return this.#decomposer.bases(tasks, reason => this.#fails('a refresh', reason));
  }

  #fails(what: string, reason: string): void {
    this.failed++;
    this.lastError = reason;
    console.warn(`${this.#name}: ${what} failed and the old basis stays: ${reason}`);
  }

  /** A decomposition of these factors that begins at this step in the background; null where none does. */
  begin(layer: L, A: Tensor, G: Tensor): RefreshJob | null {
    const begins = this.mode === 'background' && layer.kfe !== null && layer.job === null && this.isDue(layer);
    return begins ? this.start(layer, A, G, this.steps) : null;
  }

  /** A decomposition in the background, as if it had begun at that step. */
  start(layer: L, A: Tensor, G: Tensor, step: number): RefreshJob {
    return startDecomposition(A, G, layer.kfe!, step);
  }

  /** Whether a layer's new basis is to take over at this step by its lag. */
  #isArrivalDue({ job }: L): boolean {
    return this.lag !== null && job !== null && this.steps >= job.step + this.lag;
  }

  /** Whether `arrived` has to wait for `reads`. */
  get isReading(): boolean {
    return this.lag !== null && this.#layers.some(layer => layer.job?.arrived != null && this.#isArrivalDue(layer));
  }

  /** Fulfilled when the factors have been read of which new bases are to take over at this step. */
  async reads(): Promise<void> {
    await Promise.all(this.#layers.map(layer => (this.#isArrivalDue(layer) ? layer.job!.arrived : null)));
  }

  /** Layers whose new basis is to take over: all together that were begun at one step. */
  arrived(): L[] {
    const late = new Set<number>();
    for (const layer of this.#layers) {
      const { job } = layer;
      if (job === null) continue;
      const isReady = this.lag === null ? job.ready(false) : this.#isArrivalDue(layer) && job.ready(true);
      if (!isReady) late.add(job.step);
    }
    return this.#layers.filter(({ job }) => job !== null && !late.has(job.step));
  }

  /** The new basis of such a layer, whose job ends with it. Null if it failed: the old one stays. */
  arrival(layer: L): Arrival | null {
    const job = layer.job!;
    layer.job = null;
    try {
      const { kfe, rotation } = job.now();
      checkBasis(this.#name, layer.label, kfe, layer.sides);
      // Who looks at layers may have given this one another basis meanwhile.
      return { kfe, rotation: job.from === layer.kfe ? rotation : layer.kfe!.rotationTo(kfe) };
    } catch (error) {
      this.#fails(
        'a decomposition in the background',
        `${layer.label}: ${error instanceof Error ? error.message : String(error)}`,
      );
      return null;
    }
  }
}
