/** State dicts of PyTorch's attention and transformer layers, for ours and back. All other layers have PyTorch's names already. */

import { concat, describe, ShapeError, type StateDict, Tensor } from '@otimes/core';
import { aStateDict, checkArgument, received } from '@otimes/core/extend';

/** PyTorch's names of an attention in its transformer layers, and ours. Any layer may be called so; see `isAttention`. */
const OURS: Record<string, string> = { self_attn: 'attention', multihead_attn: 'crossAttention' };
const THEIRS = Object.fromEntries(Object.entries(OURS).map(([theirs, ours]) => [ours, theirs]));

const LAYERS = ['q', 'k', 'v'] as const;
/** What belongs to an attention of PyTorch: above it, and its own name. */
const ATTENTION = /^(.*?)(in_proj_weight|in_proj_bias|[qkv]_proj_weight|out_proj\.weight|out_proj\.bias)$/;

/** `prefix` is the path of an attention with a dot at its end; its last name becomes what `names` says. */
const renamed = (prefix: string, names: Record<string, string>): string =>
  prefix.replace(/(^|\.)(\w+)\.$/, (whole, above: string, name: string) =>
    Object.hasOwn(names, name) ? `${above}${names[name]}.` : whole,
  );

/** Puts entries into a state dict; throws if two would have one name. */
function writer(op: string, into: StateDict): (name: string, value: Tensor, from: string) => void {
  return (name, value, from) => {
    if (Object.hasOwn(into, name)) throw new Error(`${op}: both '${from}' and another entry would become '${name}'`);
    into[name] = value;
  };
}

function entriesOf(op: string, state: StateDict): [name: string, value: Tensor][] {
  checkArgument(op, 'state', state, aStateDict);
  const entries = Object.entries(state) as [string, unknown][];
  return entries.map(([name, value]) => {
    if (!(value instanceof Tensor))
      throw new TypeError(`${op}: expected '${name}' to be a tensor, got ${received(value)}`);
    return [name, value];
  });
}

/**
 * A state dict with the names of our `MultiHeadAttention`, `TransformerBlock`, `TransformerEncoderLayer`, … from one with those of
 * PyTorch's `MultiheadAttention`, `TransformerEncoderLayer`, `TransformerDecoderLayer`, `Transformer`, or of models that have them
 * anywhere. The rows of `in_proj_weight` [3 dModel, dModel] and `in_proj_bias` [3 dModel] are those of `q`, `k` and `v`, in thirds;
 * `q_proj_weight` … of other sizes of keys and values become `q.weight` …; `out_proj` becomes `o`; `self_attn` becomes `attention` and
 * `multihead_attn` becomes `crossAttention`. `linear1`, `norm1` and so on are called so in both; entries of all other layers stay
 * as they are. Tensors share memory with those that are given, until `loadStateDict` copies them. `toPyTorch` is the way back.
 *
 * ```ts
 * // fragment
 * layer.loadStateDict(fromPyTorch(load('encoder-layer.safetensors')));
 * ```
 *
 * @throws for a packed entry whose rows are no three parts, and for attention with `bias_k` and `bias_v`, which ours has not
 */
export function fromPyTorch(state: StateDict): StateDict {
  const ours: StateDict = {};
  const put = writer('fromPyTorch', ours);
  const isAttention = (prefix: string) =>
    Object.hasOwn(state, `${prefix}in_proj_weight`) || Object.hasOwn(state, `${prefix}q_proj_weight`);
  for (const [name, value] of entriesOf('fromPyTorch', state)) {
    if (/(^|\.)bias_[kv]$/.test(name))
      throw new Error(`fromPyTorch: '${name}' belongs to an attention that MultiHeadAttention cannot be`);
    const [, above = '', part = ''] = ATTENTION.exec(name) ?? [];
    const packed = /^in_proj_(weight|bias)$/.exec(part)?.[1];
    if (part === '' || (packed === undefined && !isAttention(above))) {
      put(name, value, name);
      continue;
    }
    const prefix = renamed(above, OURS);
    if (packed === undefined) {
      const layer = part.startsWith('out_proj') ? 'o' : part[0]!;
      put(`${prefix}${layer}.${part.endsWith('bias') ? 'bias' : 'weight'}`, value, name);
      continue;
    }
    const rows = value.rank === 0 ? 0 : value.shape[0]!;
    const expected = packed === 'weight' ? [rows, rows / 3] : [rows];
    if (rows === 0 || rows % 3 !== 0 || value.shape.join() !== expected.join())
      throw new ShapeError(
        `fromPyTorch: expected '${name}' to have the rows of q, k and v, ` +
          `${packed === 'weight' ? '[3 dModel, dModel]' : '[3 dModel]'}, got ${describe(value)}`,
      );
    LAYERS.forEach((layer, i) => {
      const third = value.slice([(i * rows) / 3, ((i + 1) * rows) / 3]);
      put(`${prefix}${layer}.${packed}`, third, name);
    });
  }
  return ours;
}

/**
 * The way back from `fromPyTorch`: a state dict of ours with the names of PyTorch's layers. Where `q`, `k`, `v` and `o` of one layer
 * all have weights they are an attention's; of one that is called `attention` or `crossAttention` beside a `linear1`, as in our transformer
 * layers, the name becomes `self_attn` or `multihead_attn`. Packed entries are copies, all others share memory.
 *
 * ```ts
 * // fragment
 * writeFileSync('encoder-layer.safetensors', saveSafetensors(toPyTorch(layer.stateDict())));
 * ```
 */
export function toPyTorch(state: StateDict): StateDict {
  const theirs: StateDict = {};
  const put = writer('toPyTorch', theirs);
  const isAttention = (prefix: string) => ['q', 'k', 'v', 'o'].every(n => Object.hasOwn(state, `${prefix}${n}.weight`));
  for (const [name, value] of entriesOf('toPyTorch', state)) {
    const [, above = '', layer = '', part = ''] = /^(.*?)([qkvo])\.(weight|bias)$/.exec(name) ?? [];
    if (layer === '' || !isAttention(above)) {
      put(name, value, name);
      continue;
    }
    const outside = above.replace(/\w+\.$/, '');
    const inLayer = Object.hasOwn(state, `${outside}linear1.weight`);
    const prefix = inLayer ? renamed(above, THEIRS) : above;
    if (layer === 'o') {
      put(`${prefix}out_proj.${part}`, value, name);
      continue;
    }
    const three = LAYERS.flatMap(n => state[`${above}${n}.${part}`] ?? []);
    const rank = part === 'weight' ? 2 : 1;
    if (three.length < 3 || three.some(one => one.rank !== rank || one.shape[0] !== value.shape[0]))
      throw new ShapeError(
        `toPyTorch: expected q, k and v of '${above}' to have a ${part} [dModel${rank === 2 ? ', …' : ''}] each, got ` +
          (three.map(describe).join(', ') || 'none'),
      );
    if (new Set(three.map(one => one.shape.join())).size > 1) put(`${prefix}${layer}_proj_weight`, value, name);
    else if (layer === 'q') put(`${prefix}in_proj_${part}`, concat(three), name);
  }
  return theirs;
}
