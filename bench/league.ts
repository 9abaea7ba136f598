/**
 * Runs the ten small presets of otimes-experiments one after the other, or the ablations of bench/ablations.ts, and makes pages in docs of what their
 * folders say. What was done is kept: started again, it goes on.
 *
 *   npm run bench bench/league.ts -- --cifar FOLDER                     the league, some two hours on two cores
 *   npm run bench bench/league.ts -- --ablations --cifar FOLDER         some 30 minutes; makes docs/ablations.md
 *   npm run bench bench/league.ts -- --only digits-mlp,digits-cnn       some of them
 *   npm run bench bench/league.ts -- --report                           no runs: the documents, from all folders that are finished
 */

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readRun, writeReport } from 'otimes-experiments';
import { PRESETS as LEAGUE } from '../experiments/src/presets/index.ts';
import { toMarkdown } from '../experiments/src/report/markdown.ts';
import { summarize } from '../experiments/src/report/summary.ts';
import { finals } from '../experiments/src/report/tables.ts';
import { PRESETS as ABLATIONS } from './ablations.ts';
import { putInto } from './into.ts';

const { values } = parseArgs({
  options: {
    /** CIFAR-10, as --data of otimes-experiments. Without it what needs it is left out, and named. */
    cifar: { type: 'string' },
    /** What readers must know of these data: --note of otimes-experiments. */
    'cifar-note': { type: 'string' },
    ablations: { type: 'boolean', default: false },
    only: { type: 'string' },
    /** A folder for each run. */
    runs: { type: 'string', default: 'runs' },
    report: { type: 'boolean', default: false },
    /** The folder with results.md, where the pages of runs go to 'results', and the ablations to ablations.md. */
    docs: { type: 'string', default: 'docs' },
  },
});

const league = LEAGUE.filter(({ name }) => !name.includes('/'));
const presets = values.ablations ? ABLATIONS : league;
const wanted = values.only?.split(',') ?? presets.map(({ name }) => name);
for (const name of wanted)
  if (!presets.some(preset => preset.name === name))
    throw new RangeError(`league: expected --only of ${presets.map(({ name }) => name).join(', ')}, got '${name}'`);

const folderOf = (name: string): string => join(values.runs, name);
const isFinished = (name: string): boolean => existsSync(folderOf(name)) && summaryOf(name).missing.length === 0;
const summaryOf = (name: string, baseline?: string) =>
  summarize(readRun(folderOf(name)), baseline === undefined ? {} : { baseline });

const failed: string[] = [];
if (!values.report)
  for (const { name, task } of presets.filter(({ name }) => wanted.includes(name))) {
    const isCifar = task === 'cifar10';
    if (isCifar && values.cifar === undefined) {
      console.error(`${name} is left out: it needs --cifar FOLDER`);
      failed.push(name);
      continue;
    }
    const data = isCifar ? ['--data', values.cifar!] : [];
    const note = isCifar && values['cifar-note'] !== undefined ? ['--note', values['cifar-note']] : [];
    const own = values.ablations ? ['--with', 'bench/ablations.ts'] : [];
    const args = [
      'experiments/bin/otimes-experiments.mjs',
      'run',
      name,
      ...own,
      ...data,
      ...note,
      '--out',
      folderOf(name),
    ];
    if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status !== 0) failed.push(name);
  }

/** Of these, what has ended; what has not is named. */
function finished(list: readonly { readonly name: string }[]): string[] {
  const names = list.map(({ name }) => name);
  const missing = names.filter(name => !isFinished(name));
  if (missing.length > 0) console.error(`Not finished, and so not in ${values.docs}: ${missing.join(', ')}`);
  return names.filter(name => !missing.includes(name));
}

const results = join(values.docs, 'results.md');
const pages = join(values.docs, 'results');

/** A league's text without its title, with the addresses that it has from the folder above. */
function leagueText(names: readonly string[]): string {
  const { markdown } = writeReport(names.map(folderOf), { out: pages, format: 'markdown' });
  const text = readFileSync(markdown, 'utf8').replace(/^# .*\n/, '');
  rmSync(markdown);
  return text.replace(/\]\((?=[^)]*\.(md|svg)\))/g, '](results/');
}

/** A page for each, and on a common one its table, with ratios to STEVE as it is. */
function ablationText(names: readonly string[]): string {
  mkdirSync(pages, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), 'otimes-ablations-'));
  const texts = names.map(name => {
    const { markdown } = writeReport(folderOf(name), { out: scratch, format: 'markdown', baseline: 'steve' });
    copyFileSync(markdown, join(pages, `${name}.md`));
    const summary = summaryOf(name, 'steve');
    const { title, about } = summary.run.info.experiment;
    const link = { kind: 'link', text: 'Full report', href: `results/${name}.md` } as const;
    const section = { id: name, title, blocks: [{ kind: 'text', text: about } as const, finals(summary), link] };
    return toMarkdown({ title: '', lead: '', sections: [section] })
      .trim()
      .replace(/^#\s+/, '')
      .replace(/^## /gm, '### ');
  });
  rmSync(scratch, { recursive: true });
  return texts.join('\n\n');
}

const [played, studied] = [finished(league), finished(ABLATIONS)];
if (played.length > 1) putInto(results, 'league', leagueText(played));
if (studied.length > 0) {
  const lead =
    'Variants that differ from the defaults in one option, on networks, data and targets of the league; ratios are to STEVE with statistics and bases every 10 steps.';
  writeFileSync(join(values.docs, 'ablations.md'), `# Inside STEVE\n\n${lead}\n\n${ablationText(studied)}\n`);
}
console.log(
  `${values.docs}: ${played.length} of ${league.length} presets, ${studied.length} of ${ABLATIONS.length} ablations`,
);
process.exitCode = failed.length > 0 ? 1 : 0;
