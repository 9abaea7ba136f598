/** State dicts of GPT-2 and nanoGPT, for `gpt`. */

import { describe, ShapeError, type StateDict, Tensor } from '@otimes/core';
import { aStateDict, checkArgument, received } from '@otimes/core/extend';

const MODEL: Record<string, string> = {
  'wte.weight': 'tokens.weight',
  'wpe.weight': 'position',
  'lm_head.weight': 'head.weight',
};
const LAYERS: Record<string, string> = {
  ln_1: 'norm1',
  ln_2: 'norm2',
  'attn.c_proj': 'attention.o',
  'mlp.c_fc': 'linear1',
  'mlp.c_proj': 'linear2',
};

/**
 * A state dict for `gpt` from one of GPT-2 (Hugging Face's, whose matrices are [in, out]) or of nanoGPT ([out, in]), with or without
 * `transformer.` before its names. `h.0.attn.c_attn` has q, k and v in thirds. The head is the embedding's where there is no `lm_head`; masks
 * that were saved (`attn.bias`) are left out. Tensors share memory with those that are given.
 *
 * GPT-2 itself: `gpt({ vocabSize: 50257, blockSize: 1024, gelu: 'tanh' })`.
 *
 * @throws for names that GPT-2 has not
 */
export function fromGpt2(state: StateDict): StateDict {
  checkArgument('fromGpt2', 'state', state, aStateDict);
  const ours: StateDict = {};
  for (const [full, value] of Object.entries(state) as [string, unknown][]) {
    if (!(value instanceof Tensor))
      throw new TypeError(`fromGpt2: expected '${full}' to be a tensor, got ${received(value)}`);
    const name = full.replace(/^transformer\./, '');
    if (/^h\.\d+\.attn\.(masked_)?bias$/.test(name)) continue;
    const whole = MODEL[name] ?? /^ln_f(\.weight|\.bias)$/.exec(name)?.[0].replace('ln_f', 'norm');
    if (whole !== undefined) {
      ours[whole] = value;
      continue;
    }
    const [, block, layer = '', part] = /^h\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
    if (layer !== 'attn.c_attn' && !Object.hasOwn(LAYERS, layer))
      throw new Error(`fromGpt2: '${full}' is no entry of GPT-2; such as h.0.attn.c_attn.weight is`);
    const prefix = `blocks.${block}.`;
    const rows = isTransposed(state) && part === 'weight' && value.rank === 2 ? value.transpose() : value;
    if (layer !== 'attn.c_attn') ours[`${prefix}${LAYERS[layer]}.${part}`] = rows;
    else {
      const third = (rows.shape[0] ?? 0) / 3;
      if (rows.rank === 0 || !Number.isInteger(third))
        throw new ShapeError(`fromGpt2: expected '${full}' to have q, k and v in thirds, got ${describe(value)}`);
      ['q', 'k', 'v'].forEach((one, i) => {
        ours[`${prefix}attention.${one}.${part}`] = rows.narrow(0, i * third, third);
      });
    }
  }
  const { 'tokens.weight': tokens } = ours;
  if (tokens !== undefined) ours['head.weight'] ??= tokens;
  return ours;
}

/** Whether matrices are [in, out]: c_attn tells, which is not square. */
function isTransposed(state: StateDict): boolean {
  const name = Object.keys(state).find(one => one.endsWith('attn.c_attn.weight'));
  const shape = name === undefined ? [] : state[name]!.shape;
  return shape.length === 2 && shape[1] === 3 * shape[0]!;
}
