/** Capture: hooks on a model that hand each block's input and output gradients on, as soon as backward has them. */

import { backwardPass, type DType, type Generator, grad, type Handle, isRecording, Tensor } from '@otimes/core';
import { aroundRecomputation, onBackwardEnd } from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import type { BlockUse, Canonical, LayerBlock } from '../block.ts';
import { checkedCanonical } from '../block-check.ts';
import type { LossReduction, Sample, Use } from '../factors.ts';
import { inOwnScope } from '../own-scope.ts';
import { withoutIgnored } from './counted.ts';
import { FirstAxes } from './first-axes.ts';
import { checkClasses, type FisherKind, type FisherLoss, fisherGradients, rowsOf } from './fisher.ts';
import { type CountedRows, countedAt, countedExamples, LossRows } from './loss-rows.ts';

/** Which gradients `capture` hands on. */
export type CaptureOptions = {
  /** 'empirical': those of the loss. The other two: of labels that are drawn, or of columns of the loss Hessian. */
  readonly fisher: FisherKind;
  /** Needed unless `fisher` is 'empirical'. */
  readonly loss: FisherLoss | undefined;
  readonly lossReduction: LossReduction;
  /** Draws the labels of 'sampled', and signs of 'ggn' where examples have several rows of output. */
  readonly rng: Generator;
};

/** What a step needs of a block: nothing, the number of examples, or activations and gradients. */
export type Need = 'nothing' | 'batch' | 'samples';

/** Where the statistics of one block go. */
export interface LayerSink {
  readonly layer: { readonly block: LayerBlock };
  readonly need: Need;
  /**
   * Takes statistics of one use of the block. `sample` is null where only the number of examples is needed, and `output` the
   * tap's. Runs inside backward, without recording.
   */
  record(use: Use, batch: number, sample: Sample | null, output: Tensor): void;
  /**
   * Told in a backward pass, before anything of a call of the model is recorded, how many examples the block had in that call. No
   * gradient may come to it, where the loss depends on derivatives alone there; its examples are still part of the batch.
   */
  expect?(use: Use, batch: number): void;
  /**
   * Told once, in a forward pass, where the block takes its input for more examples than the model's output has on its first
   * axis.
   */
  outnumbers?(batch: number, outputs: number, fisher: FisherKind): void;
}

/** Statistics are made inside backward, and no tensor of the forward pass is kept beyond it. */
const BORROWS = { borrows: true };

/** The input and output of a block in a forward pass, and the call of the model it belongs to. */
type Passage = {
  readonly sink: LayerSink;
  readonly of: BlockUse;
  readonly call: Call | null;
  readonly input: Tensor;
  readonly output: Tensor;
  readonly canonical: (gy: Tensor) => Canonical;
};

/** A call of the model: the examples of its blocks, null where uses in it differ, and the last pass that reached it. */
type Call = {
  readonly number: number;
  readonly batches: Map<LayerSink, number | null>;
  pass: number;
  /** What the losses count of its output. */
  rows: LossRows | null;
  output: Tensor['storage'] | null;
};

/** Lets all blocks of a call know that a pass has reached it. */
function reach({ call, sink }: Passage, pass: number, counted: CountedRows | null): void {
  if (call === null || call.pass === pass) return;
  call.pass = pass;
  for (const [other, batch] of call.batches)
    if (batch !== null && other !== sink)
      other.expect?.({ pass, call: call.number, examples: examplesOf(counted, batch) }, batch);
}

/** How many examples of a layer's first axis the losses count; undefined for all. */
const examplesOf = (counted: CountedRows | null, batch: number): number | undefined =>
  counted === null ? undefined : countedExamples(counted, batch)?.reduce((sum, one) => sum + one, 0);

/**
 * Registers the hooks of sinks, `Recorder`s say, on a model; the handle removes them. They keep nothing that the graph does not hold anyway; forward passes under noGrad, those that no
 * backward follows, and `grad`, whose gradients are for looking at, leave no trace. Where a step needs nothing, they do
 * nothing.
 */
export function capture(
  model: AnyModule,
  sinks: readonly LayerSink[],
  { fisher, loss, lossReduction, rng }: CaptureOptions,
): Handle {
  let passages: Passage[] = [];
  // The calls of the model that are running; it may call itself.
  const calls: Call[] = [];
  let called = 0;
  const axes = new FirstAxes(sinks, fisher);
  // Calls that a checkpoint computes parts of again.
  let again = 0;

  const handOver = (
    passage: Passage,
    pass: number,
    gys: readonly Tensor[] | null,
    counted: CountedRows | null,
    rows?: number,
  ) => {
    const { sink, of, call, input, output } = passage;
    const { block } = sink.layer;
    const batch = batchOf(input, of);
    const isFurther = of !== block;
    const use = { pass, call: call?.number ?? 0, examples: rows ?? examplesOf(counted, batch), isFurther };
    if (gys === null) return sink.record(use, batch, null, output);
    // Everything that is kept of a block has the dtype of its weight, whatever the layer computed in.
    const { dtype } = block.parameters[0]!;
    const all = gys.map(gy => checkedCanonical(block, passage.canonical(gy)));
    const counts = counted && countedAt(counted, all[0]!.g.shape[0]!, all[0]!.g.shape[1]!);
    const canonical = counts === null ? all : withoutIgnored(all, counts, { block, isFurther });
    const { a, ...others } = lazily(canonical[0]!, dtype);
    const sample = {
      // Some have it only when asked.
      get a() {
        return a();
      },
      ...others,
      gs: canonical.map(({ g }) => g.astype(dtype)),
    };
    sink.record(use, batch, sample, output);
  };
  /** Propagates the Fisher's own gradients from the model's output to the blocks that it depends on. */
  const estimate = (seen: readonly Passage[], output: Tensor, gradient: Tensor, of: LossRows | null) => {
    if (fisher === 'empirical' || loss === undefined) return;
    const counted = loss === 'crossEntropy' ? (of?.found(backwardPass(), gradient) ?? null) : null;
    const rows = counted?.count ?? rowsOf(loss, output);
    if (output.size === 0 || rows === 0) {
      // Of an empty batch there is nothing to draw from; that it was there is counted.
      for (const passage of seen) handOver(passage, backwardPass(), null, null, rows);
      return;
    }
    const needs = seen.map(({ sink }) => sink.need);
    const outputs = seen.map(passage => passage.output);
    const sampled = needs.includes('samples');
    if (sampled && loss === 'crossEntropy') checkClasses(output, gradient);
    const before = rng.getState();
    const seedOptions = {
      reduction: lossReduction,
      rng,
      apart: seen.some(({ input, of }) => batchOf(input, of) < rowsOf(loss, output)),
      counted,
    };
    const seeds = sampled ? fisherGradients(fisher, loss, output.detach(), seedOptions) : [];
    const drawn = String(rng.getState());
    // A pass that throws has drawn nothing, unless others have drawn since.
    onBackwardEnd(completed => {
      if (!completed && String(rng.getState()) === drawn) rng.setState(before);
    });
    const passes = seeds.map(gy => grad(output, outputs, { gy, allowUnused: true }));
    const pass = backwardPass();
    for (const [i, passage] of seen.entries()) {
      const gys = passes.flatMap(gradients => gradients[i] ?? []);
      if (needs[i] === 'batch') handOver(passage, pass, null, null, rows);
      else if (needs[i] === 'samples' && gys.length > 0) handOver(passage, pass, gys, counted, rows);
    }
  };

  /** Lets the losses of what a call returns tell which of its rows count: of one tensor, alone or in a list. */
  const watched = (call: Call, returned: unknown): LossRows | null => {
    const outputs = [returned].flat().filter(x => x instanceof Tensor);
    const [output] = outputs;
    if (!isRecording() || call.batches.size === 0 || outputs.length !== 1 || !output?.requiresGrad) return null;
    const rows = new LossRows(output, fisher, lossReduction);
    call.rows = rows;
    call.output = output.storage;
    if (fisher === 'empirical')
      output.onGrad(gy => {
        if (backwardPass() !== 0) inOwnScope(() => void rows.found(backwardPass(), gy));
      }, BORROWS);
    return rows;
  };

  const handles = sinks.flatMap(sink => {
    const { block } = sink.layer;
    const { further = [] } = block;
    if (fisher === 'ggn' && further.length > 0)
      throw new TypeError(`fisher 'ggn': the weight of '${block.path}' is an embedding's too: take 'sampled'`);
    const see = (of: BlockUse, input: unknown, output: unknown, canonical?: (gy: Tensor) => Canonical) => {
      if (!isRecording()) return;
      if (!(input instanceof Tensor) || !(output instanceof Tensor))
        throw new TypeError(`${block.collector} collector: '${block.path}' must map one tensor to one tensor`);
      if (!output.requiresGrad) return;
      const { need } = sink;
      if (need === 'nothing') return;
      if (again > 0 && fisher !== 'empirical')
        throw new Error(
          `fisher '${fisher}': '${block.path}' runs inside of checkpoint(…), and is not in the graph when gradients of drawn labels come ` +
            "to the model's output; take fisher: 'empirical', or checkpoint the call of the whole model, or not this layer",
        );
      const batch = batchOf(input, of);
      if (again === 0) axes.saw(sink, batch);
      const call = calls.at(-1) ?? null;
      call?.batches.set(sink, !call.batches.has(sink) || call.batches.get(sink) === batch ? batch : null);
      const seen = input.detach();
      const passage = { sink, of, call, input: seen, output, canonical: canonical ?? (gy => of.canonical(seen, gy)) };
      if (fisher !== 'empirical') {
        // Outside of a call nobody would take them, and they hold a graph.
        if (calls.length > 0) passages.push(passage);
      } else
        output.onGrad(gy => {
          const pass = backwardPass();
          if (pass === 0) return;
          inOwnScope(() => {
            const counted = call?.rows?.found(pass, output.storage === call.output ? gy : null) ?? null;
            reach(passage, pass, counted);
            handOver(passage, pass, need === 'samples' ? [gy] : null, counted);
          });
        }, BORROWS);
    };
    if (block.listen !== undefined)
      return [block.listen((input, output, canonical) => see(block, input, output, canonical))];
    return [block, ...further].map(of => of.tap.onForward((_, inputs, output) => see(of, inputs[0], output), BORROWS));
  });
  handles.push(
    model.beforeForward(() => {
      calls.push({ number: ++called, batches: new Map(), pass: 0, rows: null, output: null });
      // What layers that were called on their own left behind is no part of the pass that begins.
      passages = [];
      axes.begins();
    }, BORROWS),
    model.onForward((_, __, output) => {
      const call = calls.pop();
      axes.ends(output);
      const rows = call === undefined ? null : watched(call, output);
      const seen = passages;
      passages = [];
      if (fisher === 'empirical' || !isRecording() || seen.length === 0) return;
      if (!(output instanceof Tensor) || !output.requiresGrad)
        throw new TypeError(`fisher '${fisher}': the model must return one tensor that depends on its parameters`);
      // The user's backward arrives here before it enters the model, so the graph below is still whole.
      output.onGrad(gy => {
        if (backwardPass() !== 0) inOwnScope(() => estimate(seen, output, gy, rows));
      }, BORROWS);
    }, BORROWS),
  );
  const forget = aroundRecomputation(() => {
    const call = calls.at(-1);
    return run => {
      if (call === undefined) return run();
      calls.push(call);
      again++;
      try {
        return run();
      } finally {
        again--;
        calls.pop();
      }
    };
  });
  return {
    remove() {
      forget();
      for (const handle of handles) handle.remove();
    },
  };
}

/** A layer's first axis; one position alone, such as a vector, is a batch of one. */
const batchOf = (input: Tensor, { takesIndices = false }: BlockUse): number =>
  input.rank < (takesIndices ? 1 : 2) ? 1 : input.shape[0]!;

/** `a`, what it is made of, and `gramA` of a dtype, each when it is asked for. */
function lazily(
  canonical: Canonical,
  dtype: DType,
): Pick<Canonical, 'gramA' | 'inputs' | 'rows'> & { readonly a: () => Tensor } {
  const { gramA, inputs, rows } = canonical;
  return {
    a: () => canonical.a.astype(dtype),
    rows,
    gramA: gramA && (side => gramA(side).astype(dtype)),
    inputs: inputs && { ...inputs, unfold: x => inputs.unfold(x).astype(dtype) },
  };
}
