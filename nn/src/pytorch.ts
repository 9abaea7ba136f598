/** State dicts of PyTorch's attention and transformer layers, for ours. All other layers have PyTorch's names already. */

import { describe, ShapeError, type StateDict, Tensor } from '@otimes/core';
import { aStateDict, checkArgument, received } from '@otimes/core/extend';

/** PyTorch's names of tensors that hold q, k and v together. */
const PACKED = /^(.*?)(self_attn\.)?in_proj_(weight|bias)$/;

/**
 * A state dict with the names of our `MultiHeadAttention` and `TransformerBlock` from one with those of PyTorch's
 * `MultiheadAttention` and `TransformerEncoderLayer`, or of models that have them anywhere. The rows of `in_proj_weight`
 * [3 dModel, dModel] and `in_proj_bias` [3 dModel] are those of `q`, `k` and `v`, in thirds; `out_proj` becomes `o` and
 * `self_attn` becomes `attention`. `linear1`, `linear2`, `norm1` and `norm2` are called so in both; entries of all other
 * layers stay as they are. Tensors share memory with those that are given, until `loadStateDict` copies them.
 *
 * ```ts
 * // fragment
 * block.loadStateDict(fromPyTorch(load('encoder-layer.safetensors')));
 * ```
 *
 * PyTorch's layer normalises after each branch and uses ReLU by default: `new TransformerBlock(dModel, heads, { preNorm:
 * false, activation: 'relu', mlpRatio })`, with mlpRatio = dim_feedforward / d_model.
 *
 * @throws for a packed entry whose rows are no three parts, and for attention with other sizes of keys and values
 * (`q_proj_weight`) or with `bias_k`, which ours has not
 */
export function fromPyTorch(state: StateDict): StateDict {
  checkArgument('fromPyTorch', 'state', state, aStateDict);
  const ours: StateDict = {};
  const put = (name: string, value: Tensor, from: string): void => {
    if (Object.hasOwn(ours, name))
      throw new Error(`fromPyTorch: both '${from}' and another entry would become '${name}'`);
    ours[name] = value;
  };
  for (const [name, value] of Object.entries(state) as [string, unknown][]) {
    if (!(value instanceof Tensor))
      throw new TypeError(`fromPyTorch: expected '${name}' to be a tensor, got ${received(value)}`);
    if (/(^|\.)([qkv]_proj_weight|bias_[kv])$/.test(name))
      throw new Error(`fromPyTorch: '${name}' belongs to an attention that MultiHeadAttention cannot be`);
    const [packed, above, self, part] = PACKED.exec(name) ?? [];
    if (packed === undefined) {
      // Any layer may be called self_attn; it is attention where it has a packed weight.
      const isAttention = (prefix: string) => Object.hasOwn(state, `${prefix}in_proj_weight`);
      const prefix = name.slice(0, name.search(/out_proj\.(weight|bias)$/));
      const isOut = /out_proj\.(weight|bias)$/.test(name) && isAttention(prefix);
      const renamed = prefix.replace(/(^|\.)self_attn\.$/, '$1attention.');
      put(isOut ? `${renamed}o.${name.slice(prefix.length + 'out_proj.'.length)}` : name, value, name);
      continue;
    }
    const rows = value.rank === 0 ? 0 : value.shape[0]!;
    const expected = part === 'weight' ? [rows, rows / 3] : [rows];
    if (rows === 0 || rows % 3 !== 0 || value.shape.join() !== expected.join())
      throw new ShapeError(
        `fromPyTorch: expected '${name}' to have the rows of q, k and v, ` +
          `${part === 'weight' ? '[3 dModel, dModel]' : '[3 dModel]'}, got ${describe(value)}`,
      );
    const prefix = above! + (self === undefined ? '' : 'attention.');
    ['q', 'k', 'v'].forEach((layer, i) => {
      const third = value.slice([(i * rows) / 3, ((i + 1) * rows) / 3]);
      put(`${prefix}${layer}.${part}`, third, name);
    });
  }
  return ours;
}
