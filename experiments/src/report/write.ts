/** Reports as files. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { aPositive, aString, checkOptions, received } from '@otimes/core/extend';
import type { Document } from './document.ts';
import { toHtml } from './html.ts';
import { league } from './league.ts';
import { toMarkdown } from './markdown.ts';
import { report } from './page.ts';
import { readRun } from './read.ts';
import { summarize } from './summary.ts';

export type ReportOptions = {
  /** Where the files go, made if it is not there; of one run by default its own folder, of several it must be given. */
  readonly out?: string;
  /** A contender, beside which all others have a ratio as well; defaults to the first of the experiment. */
  readonly baseline?: string;
  /** Of a league: the contender with columns of its own; defaults to 'steve'. */
  readonly focus?: string;
  /** Of a league: the ratio of seconds that counts as clearly quicker; defaults to .77. */
  readonly margin?: number;
};

/** Files that were written, by what they are. */
export type Written = { readonly html: string; readonly markdown: string; readonly experiments: readonly string[] };

function write(folder: string, name: string, document: Document): { html: string; markdown: string } {
  mkdirSync(folder, { recursive: true });
  const [html, markdown] = [join(folder, `${name}.html`), join(folder, `${name}.md`)];
  writeFileSync(html, toHtml(document));
  // The page has the charts.
  const link = { kind: 'link', text: 'With charts', href: `${name}.html` } as const;
  const [first, ...rest] = document.sections;
  const sections = first === undefined ? [] : [{ ...first, blocks: [...first.blocks, link] }, ...rest];
  writeFileSync(markdown, toMarkdown({ ...document, sections }));
  return { html, markdown };
}

/** A file's name from an experiment's: 'paper/cifar10' becomes 'paper-cifar10'. */
const fileOf = (name: string): string => name.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[-.]+/, '') || 'experiment';

/**
 * Writes what a run's folder says as report.html, one page that needs no other file, and report.md. Of several folders: league.html
 * and league.md, a row for each, and a page for each under its name. A run that has not ended has a report too, which says what is
 * missing. A damaged record is an error that names its file.
 */
export function writeReport(folders: string | readonly string[], o: ReportOptions = {}): Written {
  checkOptions('writeReport', o, { out: aString, baseline: aString, focus: aString, margin: aPositive });
  const list: readonly unknown[] = Array.isArray(folders) ? folders : [folders];
  if (list.length === 0 || !list.every(folder => typeof folder === 'string'))
    throw new TypeError(
      `writeReport: expected the path of a run's folder, or several, got ${list.length === 0 ? 'none' : received(list.length === 1 ? list[0] : list)}`,
    );
  const { out, baseline, focus = 'steve', margin = 0.77 } = o;
  const summaries = list.map(folder => summarize(readRun(folder), baseline === undefined ? {} : { baseline }));
  if (summaries.length === 1) return { ...write(out ?? list[0]!, 'report', report(summaries[0]!)), experiments: [] };
  if (out === undefined)
    throw new TypeError(`writeReport: ${list.length} folders: expected a folder for the league, out`);
  const names = summaries.map(({ run }) => fileOf(run.info.experiment.name));
  for (const [i, name] of names.entries()) {
    const before = names.indexOf(name);
    if (before < i || name === 'league')
      throw new RangeError(
        `writeReport: ${list[i]}: expected an experiment with a name of its own, got '${name}'${before < i ? `, as in ${list[before]}` : ''}`,
      );
  }
  const pages = summaries.map((summary, i) => write(out, names[i]!, report(summary)).html);
  const entries = summaries.map((summary, i) => ({ summary, href: `${names[i]}.html` }));
  return { ...write(out, 'league', league(entries, { focus, margin })), experiments: pages };
}
