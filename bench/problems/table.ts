/** What was found, as a page of Markdown. */

import type { Problem } from './problems.ts';
import type { Run } from './run.ts';

/** The runs of an optimizer on a problem, one a seed. */
export type Result = {
  readonly problem: Problem;
  readonly name: string;
  readonly runs: readonly Run[];
};

/**
 * Below it a group of weights counts as untrained: a rule that takes a direction for noise leaves at most 5e-6, which comes from
 * rounding.
 */
const UNTRAINED = 1e-5;

export function table(names: readonly string[], problems: readonly Problem[], results: readonly Result[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const row = (title: string, cell: (own: readonly Result[]) => string) =>
    line([title, '', ...names.map(name => cell(results.filter(result => result.name === name)))]);
  const count = (own: readonly Result[], outcome: Run['outcome']) =>
    `${own.flatMap(({ runs }) => runs).filter(one => one.outcome === outcome).length}`;
  return [
    line(['problem', 'target, limit', ...names]),
    `|---|---|${names.map(() => '---').join('|')}|`,
    ...problems.map(problem =>
      line([
        problem.name,
        `${problem.target}, ${problem.limit}`,
        ...names.map(name => cellOf(results.find(one => one.problem === problem && one.name === name)!)),
      ]),
    ),
    row('**score**', own => `**${score(own).toFixed(0)}**`),
    row('missed', own => count(own, 'missed')),
    row('diverged', own => count(own, 'diverged')),
    row('least movement over Adam’s', own => leastOf(own).toExponential(0)),
    '',
  ].join('\n');
}

/** What is wrong beyond targets that were missed. */
export function faults(results: readonly Result[]): string[] {
  return results.flatMap(({ problem, name, runs }) =>
    runs.flatMap(({ outcome, steps, least }, seed) => {
      const where = `${name}, ${problem.name}, seed ${seed}`;
      return [
        ...(outcome === 'diverged' ? [`${where}: diverged at step ${steps}`] : []),
        ...(least.ratio < UNTRAINED ? [`${where}: ${least.where} stays, ${least.ratio} of Adam's movement`] : []),
      ];
    }),
  );
}

const leastOf = (results: readonly Result[]): number =>
  Math.min(...results.flatMap(({ runs }) => runs.map(({ least }) => least.ratio)));

/** Steps to the target, of each seed. */
function cellOf({ runs }: Result): string {
  return runs
    .map(({ outcome, steps }) => ({ reached: `${steps}`, missed: '–', diverged: `✗ ${steps}` })[outcome])
    .join(' ');
}

/** The geometric mean of steps to the target over all problems and seeds; a miss counts as 2, a divergence as 3 times the limit. */
function score(results: readonly Result[]): number {
  const logs = results.flatMap(({ problem, runs }) =>
    runs.map(({ outcome, steps }) =>
      Math.log({ reached: steps, missed: 2 * problem.limit, diverged: 3 * problem.limit }[outcome]),
    ),
  );
  return Math.exp(logs.reduce((sum, x) => sum + x, 0) / logs.length);
}

/** Puts a table in the place of the one between the marks of this name; throws where a page has no such marks. */
export function replaced(page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- table ${name} -->`, `<!-- end ${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`problems: expected the page to have lines '${begin}' and '${end}'`);
  return `${page.slice(0, from + begin.length)}\n${text}${page.slice(to)}`;
}
