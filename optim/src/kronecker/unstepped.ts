/** Counts backward passes between steps: an optimizer that nobody steps or zeroes collects statistics of each. */

import { onBackwardEnd } from '@otimes/core/extend';
import type { LayerCurvature } from '../curvature/layer.ts';

/** So many are more than micro-batches usually are. */
const WARN_AFTER = 64;

export class Unstepped {
  readonly #optimizer: string;
  #last = 0;
  #passes = 0;
  #warned = false;

  constructor(optimizer: string) {
    this.#optimizer = optimizer;
  }

  /**
   * Statistics of a pass begin, in one block of perhaps many; of a pass that throws nothing is kept, and it does not count.
   *
   * @param layers of all blocks
   */
  begins(pass: number, layers: readonly LayerCurvature[]): void {
    if (this.#warned || pass === this.#last) return;
    this.#last = pass;
    onBackwardEnd(completed => {
      if (!completed || ++this.#passes !== WARN_AFTER) return;
      this.#warned = true;
      this.#warn(layers.reduce((sum, { statistics }) => sum + (statistics?.bytes ?? 0), 0));
    });
  }

  /** After a step, and when everything was dropped. */
  reset(): void {
    this.#passes = 0;
  }

  #warn(bytes: number): void {
    const kept =
      bytes === 0
        ? ''
        : ` Until then samples of each pass are kept, ${(bytes / 1e6).toFixed(1)} MB now, more with each.`;
    console.warn(
      `${this.#optimizer}: ${WARN_AFTER} backward passes without step() or zeroGrad(). The next step takes the statistics of all of ` +
        `them together.${kept} An optimizer that is not used any more wants detach(). Where passes are for another ` +
        "optimizer, as a generator's through its discriminator, call zeroGrad() after them. If all are parts of one batch, " +
        'nothing is wrong',
    );
  }
}
