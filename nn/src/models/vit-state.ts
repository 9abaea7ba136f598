/** State dicts of timm's vision transformers, for `vit` and back. */

import { concat, describe, ShapeError, type StateDict, Tensor } from '@otimes/core';
import { aStateDict, checkArgument, received } from '@otimes/core/extend';

/** timm's names and ours. */
const MODEL: Record<string, string> = { cls_token: 'classToken', pos_embed: 'position' };
const LAYERS: Record<string, string> = { 'patch_embed.proj': 'embed', norm: 'norm', fc_norm: 'fcNorm', head: 'head' };
const IN_BLOCK: Record<string, string> = {
  norm1: 'norm1',
  'attn.proj': 'attention.o',
  norm2: 'norm2',
  'mlp.fc1': 'linear1',
  'mlp.fc2': 'linear2',
};
const reversed = (names: Record<string, string>) =>
  Object.fromEntries(Object.entries(names).map(([theirs, ours]) => [ours, theirs]));
const THEIRS = { model: reversed(MODEL), layers: reversed(LAYERS), inBlock: reversed(IN_BLOCK) };

const own = (names: Record<string, string>, name: string): string | undefined =>
  Object.hasOwn(names, name) ? names[name] : undefined;

/** A name as its layer and its tensor, in a block or not. */
function split(name: string): { block: string | null; layer: string; part: string } {
  const [, block = null, layer = '', part = ''] = /^(?:blocks\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? [];
  return { block, layer, part };
}

function entriesOf(op: string, state: StateDict): [name: string, value: Tensor][] {
  checkArgument(op, 'state', state, aStateDict);
  return (Object.entries(state) as [string, unknown][]).map(([name, value]) => {
    if (!(value instanceof Tensor))
      throw new TypeError(`${op}: expected '${name}' to be a tensor, got ${received(value)}`);
    return [name, value];
  });
}

/**
 * A state dict for `vit` from one of timm's `VisionTransformer`, `vit_small_patch16_224` say. The rows of `blocks.0.attn.qkv` [3 dim, dim]
 * are those of `q`, `k` and `v`, in thirds; `attn.proj` becomes `attention.o`, `mlp.fc1` becomes `linear1`, `pos_embed` becomes `position`. Tensors
 * share memory with those that are given, until `loadStateDict` copies them. `toTimm` is the way back, and `resizePositions` makes
 * positions of other image sizes.
 *
 * ```ts
 * // fragment
 * const model = vitS16({ classes: 1000 });
 * model.loadStateDict(fromTimm(load('vit_small_patch16_224.safetensors')));
 * ```
 *
 * @throws for entries that `vit` has not, such as `blocks.0.ls1.gamma`, and for a qkv whose rows are no three parts
 */
export function fromTimm(state: StateDict): StateDict {
  const ours: StateDict = {};
  for (const [name, value] of entriesOf('fromTimm', state)) {
    const { block, layer, part } = split(name);
    if (block !== null && layer === 'attn.qkv') {
      const rows = value.shape[0] ?? 0;
      const expected = part === 'weight' ? [rows, rows / 3] : [rows];
      if (rows === 0 || rows % 3 !== 0 || value.shape.join() !== expected.join())
        throw new ShapeError(
          `fromTimm: expected '${name}' to have the rows of q, k and v, ${part === 'weight' ? '[3 dim, dim]' : '[3 dim]'}, got ` +
            describe(value),
        );
      ['q', 'k', 'v'].forEach((one, i) => {
        ours[`blocks.${block}.attention.${one}.${part}`] = value.narrow(0, (i * rows) / 3, rows / 3);
      });
      continue;
    }
    const ourLayer = own(block === null ? LAYERS : IN_BLOCK, layer);
    const whole = own(MODEL, name) ?? (ourLayer && `${block === null ? '' : `blocks.${block}.`}${ourLayer}.${part}`);
    if (whole === undefined)
      throw new Error(`fromTimm: '${name}' is no entry of a vit; such as blocks.0.attn.qkv.weight is`);
    ours[whole] = value;
  }
  return ours;
}

/**
 * The way back from `fromTimm`: a state dict of `vit` with timm's names. The packed `attn.qkv` are copies, all others share memory.
 *
 * ```ts
 * // fragment
 * writeFileSync('vit.safetensors', saveSafetensors(toTimm(model.stateDict())));
 * ```
 *
 * @throws for entries that are no `vit`'s, and for q, k and v that do not fit together
 */
export function toTimm(state: StateDict): StateDict {
  const theirs: StateDict = {};
  for (const [name, value] of entriesOf('toTimm', state)) {
    const { block, layer, part } = split(name);
    if (block !== null && /^attention\.[qkv]$/.test(layer)) {
      const path = `blocks.${block}.attention`;
      const three = ['q', 'k', 'v'].flatMap(one => state[`${path}.${one}.${part}`] ?? []);
      if (three.length < 3 || value.rank === 0 || three.some(one => one.shape.join() !== value.shape.join()))
        throw new ShapeError(
          `toTimm: expected q, k and v of '${path}' to have a ${part} each, of one shape, got ${three.map(describe).join(', ')}`,
        );
      if (layer.endsWith('q')) theirs[`blocks.${block}.attn.qkv.${part}`] = concat(three);
      continue;
    }
    const theirLayer = own(block === null ? THEIRS.layers : THEIRS.inBlock, layer);
    const whole =
      own(THEIRS.model, name) ?? (theirLayer && `${block === null ? '' : `blocks.${block}.`}${theirLayer}.${part}`);
    if (whole === undefined)
      throw new Error(`toTimm: '${name}' is no entry of a vit; such as blocks.0.attention.q.weight is`);
    theirs[whole] = value;
  }
  return theirs;
}
