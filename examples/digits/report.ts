/** The result in words and numbers: a table of the runs, and a sentence that says who won at what. */

import Table from 'cli-table3';
import { bestAccuracy, finalAccuracy, list, percent, type Run, reached, stepsPerSecond } from '../shared/run.ts';
import { type Style, styles } from '../shared/terminal.ts';

type Column = {
  title: string;
  values: (number | undefined)[];
  digits: number;
  best: (...values: number[]) => number;
  unit?: string;
};

/** One line a run; the best of each column is bold where `style` can. */
export function table(runs: readonly Run[], target: number, { bold }: Style = styles(false)): string {
  const hits = runs.map(run => reached(run, target));
  const columns: Column[] = [
    { title: `epochs\nto ${percent(target)}`, values: hits.map(hit => hit?.epoch), digits: 2, best: Math.min },
    { title: `seconds\nto ${percent(target)}`, values: hits.map(hit => hit?.seconds), digits: 2, best: Math.min },
    { title: 'steps\nper s', values: runs.map(stepsPerSecond), digits: 0, best: Math.max },
    {
      title: 'final\naccuracy',
      values: runs.map(run => 100 * finalAccuracy(run)),
      digits: 1,
      best: Math.max,
      unit: ' %',
    },
  ];
  const out = new Table({
    head: ['optimizer', 'settings', ...columns.map(({ title }) => title)],
    colAligns: ['left', 'left', ...columns.map(() => 'right' as const)],
    // Within 80 columns, whatever the settings.
    colWidths: [null, 23],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  const cells = columns.map(({ values, digits, best, unit = '' }) => {
    const shown = values.map(value => (value === undefined ? '–' : `${value.toFixed(digits)}${unit}`));
    const top = best(...values.filter(value => value !== undefined)).toFixed(digits) + unit;
    return shown.map(text => (text === top && runs.length > 1 ? bold(text) : text));
  });
  out.push(...runs.map((run, i) => [run.name, run.settings, ...cells.map(column => column[i]!)]));
  return out.toString();
}

/** Who needed the fewest epochs and who the fewest seconds, and how all of them stand beside the first, from the numbers alone. */
export function verdict(runs: readonly Run[], target: number): string {
  const hits = runs.flatMap(run => {
    const hit = reached(run, target);
    return hit ? [{ name: run.name, epochs: hit.epoch, seconds: hit.seconds }] : [];
  });
  const goal = percent(target);
  if (hits.length === 0) return `Nobody reached ${goal}.`;
  const fewest = Math.min(...hits.map(hit => hit.epochs));
  const leaders = hits.filter(hit => hit.epochs === fewest);
  const fastest = hits.reduce((a, b) => (b.seconds < a.seconds ? b : a));
  const [epochs, least] = [fewest.toFixed(2), `${fastest.seconds.toFixed(2)} s`];
  if (hits.length === 1)
    return `${runs.length > 1 ? 'Only ' : ''}${fastest.name} reached ${goal}: after ${epochs} epochs, ${least}.`;
  const won =
    leaders.length === 1 && leaders[0] === fastest
      ? `${fastest.name} reached ${goal} in the fewest epochs (${epochs}) and the least time (${least}).`
      : `${list(leaders.map(({ name }) => name))} reached ${goal} in the fewest epochs (${epochs}), ${fastest.name} in the least time (${least}).`;
  const [first, ...others] = hits;
  const beside = others.map(
    ({ name, epochs, seconds }) => `${name} ${share(epochs, first!.epochs)} and ${share(seconds, first!.seconds)}`,
  );
  return `${won}\nOf ${first!.name}'s epochs and of its seconds needed: ${beside.join('; ')}.`;
}

/** One number as a part of another: 0.42. */
const share = (x: number, of: number) => (x / of).toFixed(2);

/** One line for each run that missed the target. */
export function misses(runs: readonly Run[], target: number): string[] {
  return runs
    .filter(run => !reached(run, target))
    .map(run => `${run.name} did not reach ${percent(target, 2)}: at best ${percent(bestAccuracy(run), 2)}`);
}
