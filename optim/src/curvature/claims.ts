/** Who updates which parameter: the blocks that claim them, and the rest. */

import { inspect } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import type { LayerBlock, MatrixBlock, Sharing } from './block.ts';
import type { LayerCurvature } from './layer.ts';
import type { Route } from './routes/route.ts';
import type { Structure } from './side.ts';

/** A row of `describe()`: a block, or parameters that none claims. */
export type Description = {
  readonly path: string;
  /** 'rest' for unclaimed parameters. */
  readonly collector: string;
  /** [dOut, dIn] of a block, the homogeneous column included if it has one; the parameter's own shape under 'rest'. */
  readonly shape: readonly number[];
  /** 'reduce, G expanded' where G of 'reduce' vanished; null under 'rest', and of weights alone, as is the next. */
  readonly sharing: Sharing | 'reduce, G expanded' | null;
  readonly parameters: readonly string[];
  /** How the gradient comes into the basis, from the first step on. */
  readonly route: Route | null;
  /** Sides that stay at the identity, as those larger than `maxFactorDim` do. */
  readonly identity: readonly ('A' | 'G')[];
  /** What is assumed of each side's factor; null under 'rest', and of weights alone. */
  readonly structure: { readonly A: Structure; readonly G: Structure } | null;
};

/** A row for each block and for each parameter that none claims. Printed, a table. */
export type Descriptions = Description[] & { toString(): string };

/** The rows of layers. `paths` has the parameters' names. */
export function layerRows(layers: readonly LayerCurvature[], paths: ReadonlyMap<Parameter, string>): Description[] {
  return layers.map(({ block, expandedG, sharing, route, sideA, sideG }) => ({
    path: block.path,
    collector: block.collector,
    shape: [block.dOut, block.dIn],
    sharing: expandedG === true ? ('reduce, G expanded' as const) : sharing,
    parameters: block.parameters.map(p => paths.get(p)!),
    route,
    identity: [...(sideA.isIdentity ? (['A'] as const) : []), ...(sideG.isIdentity ? (['G'] as const) : [])],
    structure: { A: sideA.structure, G: sideG.structure },
  }));
}

/** The rows of blocks, and one for each parameter that none claims. `paths` has the parameters' names. */
export function describeClaims(
  blocks: readonly Description[],
  unclaimed: readonly Parameter[],
  paths: ReadonlyMap<Parameter, string>,
): Descriptions {
  const rest = unclaimed.map(p => {
    const path = paths.get(p)!;
    const none = { sharing: null, route: null, identity: [], structure: null };
    return { path, collector: 'rest', shape: p.shape, parameters: [path], ...none };
  });
  return printed([...blocks, ...rest]);
}

/** Prints as a table; all else is an array's. */
function printed(rows: Description[]): Descriptions {
  const show = { value: () => tableOf(rows), enumerable: false };
  return Object.defineProperties(rows, { toString: show, [inspect]: show });
}

/** `, A taps, G blocks`; of both sides alike `, A G identity`. */
function structureText({ A, G }: { readonly A: Structure; readonly G: Structure }): string {
  if (A === G) return A === 'exact' ? '' : `, A G ${A}`;
  return `${A === 'exact' ? '' : `, A ${A}`}${G === 'exact' ? '' : `, G ${G}`}`;
}

/** Lines of at most 80 columns. A column that no row has anything in is left out. */
function tableOf(rows: readonly Description[]): string {
  const all = [
    ['path', 'collector', 'shape', 'sharing', 'route'],
    ...rows.map(({ path, collector, shape, sharing, route, structure }) => [
      path || "''",
      collector,
      shape.join(' × '),
      sharing ?? '',
      `${route ?? ''}${structure === null ? '' : structureText(structure)}`.replace(/^, /, ''),
    ]),
  ];
  const table = all.map(row => row.filter((_, column) => all.slice(1).some(other => other[column] !== '')));
  const widths = table[0]!.map((_, column) => Math.max(...table.map(row => row[column]!.length)));
  const others = widths.slice(1).reduce((sum, width) => sum + 2 + width, 0);
  const room = Math.max(12, 80 - others);
  const short = (path: string) => (path.length > room ? `…${path.slice(path.length - room + 1)}` : path);
  widths[0] = Math.min(room, widths[0]!);
  return table
    .map(row =>
      row
        .map((cell, i) => (i === 0 ? short(cell) : cell).padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Throws for a weight of a block that a layer uses of which the block knows nothing: its statistics would lack that. */
export function checkClaims(
  name: string,
  model: AnyModule,
  blocks: readonly (MatrixBlock & Pick<Partial<LayerBlock>, 'further'>)[],
): void {
  const holders = new Map<Parameter, string[]>();
  for (const [path, module] of model.namedModules())
    for (const p of new Set(module.namedParameters({ recurse: false }).values()))
      holders.set(p, [...(holders.get(p) ?? []), path]);
  for (const { parameters, further } of blocks)
    for (const p of parameters) {
      const paths = holders.get(p) ?? [];
      // Whoever knows of further uses has looked for all.
      if (paths.length <= 1 || further !== undefined) continue;
      const skips = paths.filter(path => blocks.some(block => isAtOrBelow(block.path, path)));
      throw new Error(
        `${name}: ${paths.map(path => `'${path}'`).join(' and ')} share a weight. There is no block for such a one yet: ` +
          'give them weights of their own, or leave it to the rest optimizer with ' +
          `overrides: { ${skips.map(path => `${keyOf(path)}: { skip: true }`).join(', ')} }`,
      );
    }
}

/** A path as a key of an object literal. */
const keyOf = (path: string): string => (/^[A-Za-z_$][\w$]*$/.test(path) ? path : `'${path}'`);

/** Whether a module's path is `above` or leads through it. */
export function isAtOrBelow(path: string, above: string): boolean {
  return above === '' || path === above || path.startsWith(`${above}.`);
}
