/** What a Kronecker optimizer remembers of a block: its curvature, and what the optimizer itself keeps for it. */

import { full, type StateDict, type Tensor } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import type { LayerBlock, Sharing } from '../curvature/block.ts';
import { LayerCurvature, type LayerOptions } from '../curvature/layer.ts';
import { remembered, type Scalar } from '../curvature/scalar.ts';
import type { StructureOption } from '../curvature/structure.ts';
import type { Journal } from '../journal.ts';
import { type StateReader, scalar } from '../state-dict.ts';
import type { Rule } from './rule.ts';

/** What a user may set for some blocks alone; see `KroneckerOptions.overrides`. */
export type BlockOptions = {
  /** In the place of the optimizer's, and in proportion to it where a schedule changes that. */
  lr?: number;
  /** How shared positions enter the factors. */
  sharing?: Sharing;
  /** In the place of the optimizer's, for both sides. */
  structure?: StructureOption;
  blockDim?: number;
  /** Leaves the parameters to the rest optimizer. */
  skip?: boolean;
};

/** The names under which `BlockState.save` writes beside those of its layer and the slots. */
export const SAVED_COUNTS: readonly string[] = ['count', 'graftedAt', 'graft'];

export class BlockState extends LayerCurvature {
  /** The block's learning rate over the optimizer's. */
  readonly lrRatio: number;
  /** Tensors of the optimizer itself, [dOut, dIn] in the coordinates of `kfe`, or as its rule's `shapeOf` says. */
  readonly slots = new Map<string, Tensor>();
  /** Moment updates since the slots were last set to zero. */
  count = 0;
  /** Whether all slots are known to hold ordinary numbers. */
  isOrdinary = true;
  /** The block's step is this many times as long. */
  graft: Scalar = 1;
  /** `count` when that was measured. */
  graftedAt = 0;
  /** In a step that asks for them, the second moments of the examples' gradients in `kfe`, [dOut, dIn]. */
  squares: Tensor | null = null;
  /** What these left of the last update; null where they are off. For reports, as are the next two. */
  trust: Scalar | null = null;
  klClip: Scalar | null = null;
  /** The cosine between the gradient and the update of the last step that was observed. */
  cosine: Scalar | null = null;
  readonly #options: LayerOptions;
  #silent: Tensor | null = null;

  constructor(block: LayerBlock, { lrRatio = 1, ...options }: LayerOptions & { lrRatio?: number } = {}) {
    super(block, options);
    this.lrRatio = lrRatio;
    this.#options = options;
  }

  override keep(): void {
    super.keep();
    for (const x of this.slots.values()) x.keep();
  }

  /** bool [dOut, dIn]: the coordinates that the last step left out; null for none. */
  get silent(): Tensor | null {
    return this.#silent;
  }

  /** Takes a mask over that no scope holds, and gives the one before back. */
  set silent(mask: Tensor | null) {
    this.#silent?.storage.release();
    this.#silent = mask;
  }

  /** Lets the journal remember all of this state and of the block's parameters. */
  saveTo(journal: Journal): void {
    const { count, graft, graftedAt, trust, klClip, cosine } = this;
    const slots = [...this.slots];
    const { tensors, restore } = this.snapshot();
    for (const x of [...tensors, ...this.slots.values()]) journal.save(x);
    if (typeof graft !== 'number') journal.save(graft);
    const reported = { trust: remembered(trust), klClip: remembered(klClip), cosine: remembered(cosine) };
    journal.after(() => {
      Object.assign(this, { count, graft, graftedAt });
      for (const [name, again] of Object.entries(reported)) Object.assign(this, { [name]: again() });
      this.silent = null;
      this.#setSlots(slots);
      restore();
    });
  }

  #setSlots(slots: Iterable<readonly [string, Tensor]>): void {
    this.slots.clear();
    for (const [name, value] of slots) this.slots.set(name, value);
  }

  override become(loaded: BlockState): void {
    super.become(loaded);
    const { count, isOrdinary, graft, graftedAt, trust, klClip, cosine } = loaded;
    Object.assign(this, { count, isOrdinary, graft, graftedAt, trust, klClip, cosine });
    this.silent = null;
    this.#setSlots(loaded.slots);
  }

  /** Adds `blocks.PATH.count`, …, `blocks.PATH.A`, … and the slots; nothing before the first step. */
  override save(into: StateDict): void {
    if (this.A === null || this.G === null) return;
    const prefix = this.#prefix;
    for (const name of ['count', 'graftedAt'] as const) into[`${prefix}${name}`] = scalar(this[name]);
    const { graft } = this;
    into[`${prefix}graft`] = typeof graft === 'number' ? scalar(graft) : graft.clone();
    super.save(into, prefix);
    for (const [name, value] of this.slots) into[`${prefix}${name}`] = value.detach().clone();
  }

  get #prefix(): string {
    return `blocks.${this.block.path}.`;
  }

  /**
   * The saved state of this state's block, for `become`; problems are left with the reader.
   *
   * @param name the optimizer's, for messages
   * @param start is told of a decomposition that was under way
   */
  loaded(
    reader: StateReader,
    name: string,
    rule: Pick<Rule, 'slots' | 'shapeOf'>,
    start: (state: BlockState, A: Tensor, G: Tensor, step: number) => void,
  ): BlockState {
    const state = new BlockState(this.block, { ...this.#options, lrRatio: this.lrRatio });
    state.isOrdinary = false;
    const prefix = this.#prefix;
    if (!reader.has(`${prefix}count`)) return state;
    state.count = reader.count(`${prefix}count`);
    state.graft = reader.rate(`${prefix}graft`);
    state.graftedAt = reader.count(`${prefix}graftedAt`);
    state.load(reader, prefix, name, (A, G, step) => start(state, A, G, step));
    const [parameter] = this.block.parameters as [Parameter];
    const { dtype, device } = parameter;
    // As the step that measured it left it.
    if (state.graftedAt > 0 && readsLater(parameter))
      state.graft = full([], Number(state.graft), { dtype, device }).keep();
    for (const slot of rule.slots) {
      const shape = rule.shapeOf?.(slot, this) ?? this.sizes;
      state.slots.set(slot, reader.tensor(prefix + slot, { shape, dtype, device }));
    }
    return state;
  }
}
