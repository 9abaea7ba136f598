/** Capture: hooks on a model that hand each block's input and output gradients on, as soon as backward has them. */

import { type Generator, grad, type Handle, isRecording, noGrad, Tensor, unscoped } from '@otimes/core';
import type { AnyModule } from '@otimes/nn';
import type { KroneckerBlock } from './block.ts';
import { type LossReduction, perExample, type Sample } from './factors.ts';
import { type FisherKind, type FisherLoss, fisherGradients } from './fisher.ts';

export type CaptureOptions = {
  readonly fisher: FisherKind;
  /** Needed unless `fisher` is 'empirical'. */
  readonly loss: FisherLoss | undefined;
  readonly lossReduction: LossReduction;
  readonly rng: Generator;
};

/** Where statistics go. */
export interface Sink {
  /** Whether this step uses the block's activations and gradients; where not, only the batch size is handed over. */
  needsSamples(index: number): boolean;
  /** Statistics of block `index`, with gradients of ONE example's loss. Runs inside backward, without recording. */
  consume(index: number, batch: number, sample: Sample | null): void;
}

/** Statistics are made inside backward, and no tensor of the forward pass is kept beyond it. */
const BORROWS = { borrows: true };

/** The input and output of a block in a forward pass. */
type Passage = { readonly index: number; readonly input: Tensor; readonly output: Tensor };

/**
 * Registers the hooks. They keep nothing that the graph does not hold anyway; forward passes under noGrad, and those
 * that no backward follows, leave no trace.
 */
export function capture(
  model: AnyModule,
  blocks: readonly KroneckerBlock[],
  { fisher, loss, lossReduction, rng }: CaptureOptions,
  sink: Sink,
): Handle {
  let passages: Passage[] = [];

  const handOver = ({ index, input }: Passage, gys: readonly Tensor[] | null, reduction: LossReduction) => {
    const batch = input.rank < 2 ? 1 : input.shape[0]!;
    if (gys === null) return sink.consume(index, batch, null);
    const canonical = gys.map(gy => blocks[index]!.canonical(input, gy));
    sink.consume(index, batch, { a: canonical[0]!.a, gs: canonical.map(c => perExample(c, reduction)) });
  };
  const inBackward = (run: () => void) => unscoped(() => noGrad(run));

  /** Propagates the Fisher's own gradients from the model's output to the blocks that it depends on. */
  const estimate = (seen: readonly Passage[], output: Tensor) => {
    if (fisher === 'empirical' || loss === undefined) return;
    const outputs = seen.map(passage => passage.output);
    const sampled = seen.some(passage => sink.needsSamples(passage.index));
    const seeds = sampled ? fisherGradients(fisher, loss, output.detach(), lossReduction, rng) : [];
    const passes = seeds.map(gy => grad(output, outputs, { gy, allowUnused: true }));
    for (const [i, passage] of seen.entries()) {
      const gys = passes.flatMap(gradients => gradients[i] ?? []);
      // These are gradients of single examples already: no mean is to be undone.
      if (!sampled) handOver(passage, null, 'sum');
      else if (gys.length > 0) handOver(passage, gys, 'sum');
    }
  };

  const handles = blocks.map((block, index) =>
    block.tap.onForward((_, inputs, output) => {
      const [input] = inputs;
      if (!isRecording()) return;
      if (!(input instanceof Tensor) || !(output instanceof Tensor))
        throw new TypeError(`${block.collector} collector: '${block.path}' must map one tensor to one tensor`);
      if (!output.requiresGrad) return;
      const passage = { index, input: input.detach(), output };
      if (fisher !== 'empirical') passages.push(passage);
      else
        output.onGrad(gy => inBackward(() => handOver(passage, sink.needsSamples(index) ? [gy] : null, lossReduction)));
    }, BORROWS),
  );
  if (fisher !== 'empirical') {
    handles.push(
      // What layers that were called on their own left behind is no part of the pass that begins.
      model.beforeForward(() => {
        passages = [];
      }, BORROWS),
      model.onForward((_, __, output) => {
        const seen = passages;
        passages = [];
        if (!isRecording() || seen.length === 0) return;
        if (!(output instanceof Tensor) || !output.requiresGrad)
          throw new TypeError(`fisher '${fisher}': the model must return one tensor that depends on its parameters`);
        // The user's backward arrives here before it enters the model, so the graph below is still whole.
        let entered = false;
        output.onGrad(() => {
          // The passes below start at this output too and come by here again.
          if (entered) return;
          entered = true;
          inBackward(() => estimate(seen, output));
        });
      }, BORROWS),
    );
  }
  return {
    remove() {
      for (const handle of handles) handle.remove();
    },
  };
}
