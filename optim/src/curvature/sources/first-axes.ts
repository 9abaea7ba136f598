/** Finds layers with more rows on their first axis than the model's output has: positions that are taken for examples. */

import { Tensor } from '@otimes/core';
import type { AnyModule } from '@otimes/nn';
import type { LayerSink } from './activations.ts';
import type { FisherKind } from './fisher.ts';

export class FirstAxes {
  readonly #fisher: FisherKind;
  /** By module, the first of its blocks: until one call of the model has told. */
  readonly #open = new Map<AnyModule, LayerSink>();
  /** First axes in the call of the model that is running. */
  readonly #seen = new Map<LayerSink, number>();

  constructor(sinks: readonly LayerSink[], fisher: FisherKind) {
    this.#fisher = fisher;
    for (const sink of sinks) {
      const { tap } = sink.layer.block;
      if (!this.#open.has(tap)) this.#open.set(tap, sink);
    }
  }

  /** A call of the model begins. */
  begins(): void {
    this.#seen.clear();
  }

  /** One use of a block, for so many examples as it takes them. */
  saw(sink: LayerSink, batch: number): void {
    if (this.#open.get(sink.layer.block.tap) === sink) this.#seen.set(sink, Math.max(batch, this.#seen.get(sink) ?? 0));
  }

  /** The call ends. An output that is no tensor, or has no axis or no row, tells nothing. */
  ends(output: unknown): void {
    const rows = this.#seen.size > 0 && output instanceof Tensor ? (output.shape[0] ?? 0) : 0;
    if (rows > 0)
      for (const [sink, batch] of this.#seen) {
        this.#open.delete(sink.layer.block.tap);
        if (batch > rows) sink.outnumbers?.(batch, rows, this.#fisher);
      }
    this.#seen.clear();
  }
}
