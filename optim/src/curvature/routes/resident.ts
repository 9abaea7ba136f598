/**
 * The weight of a layer that is computed in its basis, W̃ = UGᵀ [W | b] UA, beside the parameters in the model. One of the two
 * is computed from the other: W̃ from the parameters when somebody has written to these, the parameters from W̃ when somebody
 * reads them after W̃ has changed.
 */

import { concat, eye, noGrad, scope, type Tensor, unscoped, where } from '@otimes/core';
import { held, isExposed, makeLazy, materialize, precisely, readsLater, versionOf } from '@otimes/core/extend';
import { type Kfe, type Rotation, rotate } from '../basis.ts';
import type { TurnableLayer } from '../block.ts';
import { biasPart, type Frame, weightPart } from './frame.ts';

export class ResidentWeight {
  readonly #layer: TurnableLayer;
  readonly #parameters: readonly Tensor[];
  /** Which values of the parameters belong to W̃. */
  readonly #versions: number[] = [];
  #weight: Tensor | null = null;
  #leads = false;
  /** W̃ from a file, until it is known whether the parameters are those it belongs to. */
  #saved: Tensor | null = null;

  constructor(layer: TurnableLayer) {
    const { weight, bias } = layer;
    this.#layer = layer;
    this.#parameters = bias === null ? [weight] : [weight, bias];
  }

  /** Whether the layer may be computed in a basis: nobody can write to its parameters unseen. */
  get isAllowed(): boolean {
    return !this.#parameters.some(isExposed);
  }

  /** Whether W̃ is there, and nobody wrote to the parameters since. */
  get #isCurrent(): boolean {
    return this.#weight !== null && this.#parameters.every((p, i) => versionOf(p) === this.#versions[i]);
  }

  /** W̃, if the parameters are computed from it; else null. */
  get leading(): Tensor | null {
    return this.#leads && this.#isCurrent ? this.#weight : null;
  }

  /** W̃ of the parameters as they are, in the basis `kfe`, in which it is from now on. */
  in(kfe: Kfe): Tensor {
    if (this.#isCurrent) return this.#weight!;
    this.#weight = unscoped(() => noGrad(() => scope(() => this.#restored(kfe) ?? this.#projected(kfe))));
    this.#follow();
    this.#leads = false;
    return this.#weight;
  }

  #projected(kfe: Kfe): Tensor {
    return kfe.project(parametersOf(this.#layer));
  }

  #follow(): void {
    this.#parameters.forEach((p, i) => {
      this.#versions[i] = versionOf(p);
    });
  }

  /** The saved W̃, if the parameters are what it gives back, bit for bit: then the run goes on as it would have. */
  #restored(kfe: Kfe): Tensor | null {
    const saved = this.#saved;
    this.#saved = null;
    if (saved === null) return null;
    const { weight, bias } = this.#layer;
    const frame = frameOf(kfe, saved);
    const different = (p: Tensor, value: Tensor) => p.detach().ne(value).astype('float32').sum();
    let count = different(weight, weightPart(saved, frame, weight.shape));
    if (bias !== null) count = count.add(different(bias, biasPart(saved, frame)));
    if (readsLater(count)) return where(count.eq(0), saved, this.#projected(kfe));
    return count.item() === 0 ? saved : null;
  }

  /** After W̃ was written to: the parameters are computed from it when somebody reads them. */
  lead(kfe: Kfe): void {
    const resident = this.#weight!;
    const { weight, bias } = this.#layer;
    const frame = frameOf(kfe, resident);
    makeLazy(weight, () => weightPart(resident, frame, weight.shape));
    if (bias !== null) makeLazy(bias, () => biasPart(resident, frame));
    this.#follow();
    this.#leads = true;
  }

  /** Turns W̃ from one basis to another; the parameters are computed from it then. */
  turn(from: Kfe, to: Kfe, rotation: Rotation): void {
    const weight = this.in(from);
    const turned = rotate(weight, rotation);
    // Where a check may have failed that nobody knows of yet, nothing is written in place, but the basis is new.
    if (readsLater(weight)) this.#weight = held(turned);
    else weight.copy_(turned);
    this.lead(to);
  }

  /** Writes the parameters, where they are computed from W̃, and forgets that. */
  leave(): void {
    if (this.#weight === null) return;
    this.#parameters.forEach(materialize);
    this.#weight = null;
  }

  // --- saving ------------------------------------------------------------------------------------------------------------

  /** What a file has: W̃ of the parameters as they are, or that from another file that nobody used yet. */
  save(kfe: Kfe): Tensor {
    return this.#saved ?? this.in(kfe);
  }

  /** Takes W̃ from a file. */
  load(weight: Tensor): void {
    this.#saved = weight;
  }

  /** Takes over what another one of the same layer knows. This one must have left the basis before. */
  become(other: ResidentWeight): void {
    this.#saved = other.#saved;
  }

  /** W̃ if it is there, and a function that puts all else back once its elements are what they were, in the basis `kfe`. */
  snapshot(kfe: Kfe | null): { readonly weight: Tensor | null; readonly restore: () => void } {
    const [weight, saved, isCurrent, leads] = [this.#weight, this.#saved, this.#isCurrent, this.#leads];
    return {
      weight,
      restore: () => {
        this.#saved = saved;
        this.#weight = weight;
        this.#leads = leads;
        if (!isCurrent) this.#versions.fill(-1);
        else if (leads) this.lead(kfe!);
        else this.#follow();
      },
    };
  }
}

/** The frame that a layer is computed in; W̃ null in parameter coordinates. */
export const frameOf = ({ sides, UA, UG }: Kfe, resident: Tensor | null): Frame => ({ sides, UA, UG, resident });

const asMatrix = (x: Tensor): Tensor => (x.rank === 2 ? x : x.flatten(1));

/** [W | b] */
function parametersOf({ weight, bias }: TurnableLayer): Tensor {
  const W = asMatrix(weight.detach());
  if (bias === null) return W;
  const b = bias.detach().unsqueeze(1);
  if (!readsLater(W)) return concat([W, b], 1);
  // There `concat` writes nothing while a check has failed that nobody knows of yet; this does, the same to the last bit.
  const inputs = W.shape[1]!;
  const units = eye(inputs + 1, { dtype: W.dtype, device: W.device });
  return precisely(() => W.matmul(units.narrow(0, 0, inputs))).add(b.mul(units.narrow(0, inputs, 1)));
}
