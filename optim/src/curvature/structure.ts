/** Which structure each side of a model's blocks gets: what a program says, or a rule that looks at sizes alone. */

import { aCount, checkArgument, isPlainObject, type Kind, oneOf } from '@otimes/core/extend';
import type { Sides } from './basis.ts';
import type { LayerBlock } from './block.ts';
import { Side, type Structure } from './side.ts';

/** What is assumed of a side, or 'auto' for the rule of `chooseSides`. */
export type StructureChoice = Structure | 'auto';

/** Of both sides of a block, or of each. */
export type StructureOption = StructureChoice | { readonly A?: StructureChoice; readonly G?: StructureChoice };

/** Of a block, or of all. */
export type StructureOptions = {
  /**
   * What is assumed of the factors, so that large ones are cheap: 'exact' (nothing), 'taps', 'channels', 'blocks', 'diagonal', 'identity' (see
   * `Structure`), or `{ A, G }`. Default 'auto': exact where all factors of a refresh are decomposed within `refreshBudget`, and else
   * what `describe()` and a line on the console say. A side without taps (of a linear layer, a 1 × 1 convolution, G) takes 'taps' and
   * 'channels' for 'auto'. The side of an embedding's indices is 'diagonal' whatever is said.
   */
  structure?: StructureOption;
  /** Coordinates of a block of 'blocks', at most; whole channels of a convolution, at least one. Default 512. */
  blockDim?: number;
};

const CHOICES = ['auto', 'exact', 'taps', 'channels', 'blocks', 'diagonal', 'identity'] as const;
const aChoice = oneOf(...CHOICES);

/** What the option `structure` must be. */
export const aStructure: Kind = {
  expected: `one of ${CHOICES.map(one => `'${one}'`).join(', ')}, or { A, G } of them`,
  is: v =>
    aChoice.is(v) ||
    (isPlainObject(v) &&
      Object.entries(v).every(([side, own]) => ['A', 'G'].includes(side) && (own === undefined || aChoice.is(own)))),
};

/** n³ a second of `eigh` on one core of 2020: by that the rule counts, on every machine alike, so that runs repeat. */
export const RATE = 1.5e9;
/** A block that is no convolution is exact up to here: 1.2 s. */
const EXACT = 1200;
/** One whose channels have taps is so up to here: 0.15 s. */
const EXACT_TAPS = 600;
/** Of the budget: sides that take less stay as they are, also where the whole does not fit. */
const NEGLIGIBLE = 0.01;

/** Blocks are not cut smaller than that for the sake of the budget. */
const LEAST = 128;

/** A block and what its program says. */
export type Wanted = {
  readonly block: LayerBlock;
  readonly label: string;
  readonly structure: StructureOption;
  readonly blockDim: number;
  /** Larger sides stay at the identity, whatever else is said. */
  readonly maxFactorDim: number;
};

/** One side of one block, on its way to a structure. */
type Draft = { readonly name: 'A' | 'G'; readonly of: Wanted; readonly isAuto: boolean; side: Side };

/**
 * The sides of blocks. By 'auto' a side is exact that is not larger than 1200, or 600 where it has taps; larger ones are 'taps' where
 * there are some, and else 'blocks'. While all matrices together take longer than `budget` seconds by n³ and `RATE`, the largest
 * exact side of 'auto' is structured too, unless it alone takes less than a hundredth of that; then blocks become smaller, of 256 coordinates
 * and of 128. Sizes alone count, so that all devices, processes and runs decide alike.
 *
 * @param note is told what 'auto' has structured, if anything
 */
export function chooseSides(all: readonly Wanted[], budget: number, note: (text: string) => void): Sides[] {
  const drafts = all.map(of => ({ A: draft('A', of), G: draft('G', of) }));
  const autos = drafts.flatMap(({ A, G }) => [A, G]).filter(({ isAuto }) => isAuto);
  const cost = () => drafts.reduce((sum, { A, G }) => sum + A.side.decompositionCost + G.side.decompositionCost, 0);
  const exact = cost();
  for (const one of autos) if (one.side.n > limitOf(one)) one.side = structured(one);
  const small = NEGLIGIBLE * budget * RATE;
  const left = autos.filter(({ side }) => side.isExact && side.n ** 3 > small).sort((x, y) => y.side.n - x.side.n);
  for (const one of left) {
    if (cost() <= budget * RATE) break;
    one.side = structured(one);
  }
  for (let dim = 256; dim >= LEAST && cost() > budget * RATE; dim /= 2)
    for (const one of autos) if (one.side.isExact || one.side.structure === 'blocks') one.side = cut(one, dim);
  const changed = autos.filter(({ side }) => !side.isExact);
  if (changed.length > 0) note(noteOf(changed, exact, cost(), budget));
  return drafts.map(({ A, G }) => ({ A: A.side, G: G.side }));
}

function draft(name: 'A' | 'G', of: Wanted): Draft {
  const { block, structure, blockDim, maxFactorDim } = of;
  const n = name === 'A' ? block.dIn : block.dOut;
  const { taps, bias } = sizesOf(name, of);
  const own = typeof structure === 'string' ? structure : (structure[name] ?? 'auto');
  const choice = taps === 1 && (own === 'taps' || own === 'channels') ? 'auto' : own;
  const made = (side: Side): Draft => ({ name, of, isAuto: false, side });
  // Of one-hot vectors that is exact, and it is no matrix that could be too large.
  if (block.oneHot === name) return made(Side.diagonal(n));
  if (n > maxFactorDim || choice === 'identity') return made(Side.identity(n));
  if (choice === 'diagonal') return made(Side.diagonal(n));
  if (choice === 'blocks') return made(Side.blocks(n, blockDim, { taps, bias }));
  if (choice === 'taps' || choice === 'channels')
    return made(Side.channels(n, taps, { bias, turnsTaps: choice === 'taps' }));
  return { ...made(Side.exact(n)), isAuto: choice === 'auto' };
}

/** G has neither taps nor a bias. */
const sizesOf = (name: 'A' | 'G', { block }: Wanted): { readonly taps: number; readonly bias: boolean } =>
  name === 'A' ? { taps: block.taps ?? 1, bias: block.hasBias ?? false } : { taps: 1, bias: false };

const limitOf = ({ name, of }: Draft): number => (sizesOf(name, of).taps > 1 ? EXACT_TAPS : EXACT);

/** What the rule makes of a side that is too large: taps, unless there are none or their channels are too many themselves. */
function structured({ name, of, side: { n } }: Draft): Side {
  const { taps, bias } = sizesOf(name, of);
  if (taps > 1 && (n - Number(bias)) / taps <= EXACT) return Side.channels(n, taps, { bias });
  return Side.blocks(n, of.blockDim, { taps, bias });
}

/** A side in blocks of at most `dim`, if it is that large. */
function cut({ name, of, side }: Draft, dim: number): Side {
  return side.n <= dim || of.blockDim <= dim ? side : Side.blocks(side.n, dim, sizesOf(name, of));
}

/** Layers that a line names before it only counts them. */
const NAMED = 3;

function noteOf(changed: readonly Draft[], exact: number, cost: number, budget: number): string {
  const kinds = [...new Set(changed.map(({ name, side }) => `${name} '${side.structure}'`))].map(kind => {
    const own = changed.filter(({ name, side }) => kind === `${name} '${side.structure}'`).map(({ of }) => of.label);
    const more = own.length > NAMED ? ` and ${own.length - NAMED} more` : '';
    return `${kind} of ${own.slice(0, NAMED).join(', ')}${more}`;
  });
  const seconds = (n: number) => `${Number((n / RATE).toPrecision(2))} s`;
  return (
    `structure 'auto' assumes more of large factors, ${kinds.join('; ')}: whole ones would take about ${seconds(exact)} to decompose ` +
    `at each refresh, these take ${seconds(cost)} (refreshBudget ${budget} s${cost > budget * RATE ? ', which is less' : ''}). structure: 'exact' keeps them whole, and overrides: ` +
    '{ path: { structure } } chooses for a layer; describe() lists all'
  );
}

// --- saved -----------------------------------------------------------------------------------------------------------------

/** In the order of their numbers in files. */
const STRUCTURES: readonly Structure[] = ['exact', 'taps', 'channels', 'blocks', 'identity', 'diagonal'];

/** Sides as numbers for a file: of A and of G the structure, and how many segments it has. */
export const savedSides = ({ A, G }: Sides): number[] =>
  [A, G].flatMap(({ structure, segments }) => [STRUCTURES.indexOf(structure), segments.length]);

/** What differs between sides and those that a file has; null where nothing does. */
export function sidesDiffer(sides: Sides, saved: readonly number[]): string | null {
  const own = savedSides(sides);
  const name = (numbers: readonly number[], i: number) => {
    const [structure, count] = [STRUCTURES[numbers[i]!], numbers[i + 1]];
    return structure === 'blocks'
      ? `${count} 'blocks'`
      : structure === undefined
        ? String(numbers[i])
        : `'${structure}'`;
  };
  const told = (['A', 'G'] as const).flatMap((side, k) => {
    const i = 2 * k;
    if (own[i] === saved[i] && own[i + 1] === saved[i + 1]) return [];
    return [`factor ${side} was saved as ${name(saved, i)} and is ${name(own, i)} here`];
  });
  return told.length === 0 ? null : told.join(', ');
}

/** Throws unless it is a count. */
export function checkBlockDim(name: string, blockDim: number | undefined): void {
  if (blockDim !== undefined) checkArgument(name, 'blockDim', blockDim, aCount);
}
