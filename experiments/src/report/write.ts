/** Reports as files. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { aPositive, aString, checkOptions, oneOf, received } from '@otimes/core/extend';
import { standalone } from '../charts/index.ts';
import type { Document } from './document.ts';
import { toHtml } from './html.ts';
import { league } from './league.ts';
import { toMarkdown } from './markdown.ts';
import { report } from './page.ts';
import { readRun } from './read.ts';
import { summarize } from './summary.ts';

/** Which files a report is. */
export type Format = 'both' | 'html' | 'markdown';

export type ReportOptions<F extends Format = Format> = {
  /** Where the files go, made if it is not there; of one run by default its own folder, of several it must be given. */
  readonly out?: string;
  /** A contender, beside which all others have a ratio as well; defaults to the first of the experiment. */
  readonly baseline?: string;
  /** Of a league: the contender with columns of its own; defaults to 'steve'. */
  readonly focus?: string;
  /** Of a league: the ratio of seconds that counts as clearly quicker; defaults to .77. */
  readonly margin?: number;
  /** What is written; defaults to 'both'. Markdown alone has no links to pages with charts. */
  readonly format?: F;
};

/** Files that were written, by what they are; null for what `format` leaves out. Of `experiments` the pages, or without them the Markdown. */
export type Written<F extends Format = 'both'> = {
  readonly html: F extends 'markdown' ? null : string;
  readonly markdown: F extends 'html' ? null : string;
  readonly experiments: readonly string[];
  /** All of them. */
  readonly files: readonly string[];
};

const FORMATS: readonly Format[] = ['both', 'html', 'markdown'];

function write(folder: string, name: string, document: Document, format: Format): Omit<Written<Format>, 'experiments'> {
  mkdirSync(folder, { recursive: true });
  const files: string[] = [];
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    files.push(path);
    return path;
  };
  const html = format === 'markdown' ? null : file(`${name}.html`, toHtml(document));
  if (format === 'html') return { html, markdown: null, files };
  // The page has all charts, the Markdown those that can stand beside it.
  const link = { kind: 'link', text: 'With charts', href: `${name}.html` } as const;
  const [first, ...rest] = document.sections;
  const linked = html === null || first === undefined ? [] : [link];
  const sections = first === undefined ? [] : [{ ...first, blocks: [...first.blocks, ...linked] }, ...rest];
  const markdown = file(`${name}.md`, toMarkdown({ ...document, sections }));
  for (const block of sections.flatMap(({ blocks }) => blocks))
    if (block.kind === 'figures')
      for (const { svg, beside } of block.figures) if (beside !== undefined) file(beside.file, standalone(svg));
  return { html, markdown, files };
}

/** A file's name from an experiment's: 'paper/cifar10' becomes 'paper-cifar10'. */
const fileOf = (name: string): string => name.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[-.]+/, '') || 'experiment';

/**
 * Writes what a run's folder says as report.html, one page that needs no other file, and report.md. Of several folders: league.html
 * and league.md with its league.svg, a row for each, and a page for each under its name. A run that has not ended has a report too, which says what is
 * missing. A damaged record is an error that names its file.
 */
export function writeReport<F extends Format = 'both'>(
  folders: string | readonly string[],
  o?: ReportOptions<F>,
): Written<F>;
export function writeReport(folders: string | readonly string[], o: ReportOptions = {}): Written<Format> {
  checkOptions('writeReport', o, {
    out: aString,
    baseline: aString,
    focus: aString,
    margin: aPositive,
    format: oneOf(...FORMATS),
  });
  const list: readonly unknown[] = Array.isArray(folders) ? folders : [folders];
  if (list.length === 0 || !list.every(folder => typeof folder === 'string'))
    throw new TypeError(
      `writeReport: expected the path of a run's folder, or several, got ${list.length === 0 ? 'none' : received(list.length === 1 ? list[0] : list)}`,
    );
  const { out, baseline, focus, margin, format = 'both' } = o;
  const summaries = list.map(folder => summarize(readRun(folder), baseline === undefined ? {} : { baseline }));
  if (summaries.length === 1) {
    if (focus !== undefined || margin !== undefined)
      throw new TypeError('writeReport: focus and margin are of a league: expected several folders, got one');
    return { ...write(out ?? list[0]!, 'report', report(summaries[0]!), format), experiments: [] };
  }
  if (out === undefined)
    throw new TypeError(`writeReport: ${list.length} folders: expected a folder for the league, out`);
  const contenders = [...new Set(summaries.flatMap(({ run }) => run.info.experiment.contenders))];
  if (focus !== undefined && !contenders.includes(focus))
    throw new RangeError(`writeReport: focus: expected one of ${contenders.join(', ')}, got '${focus}'`);
  const names = summaries.map(({ run }) => fileOf(run.info.experiment.name));
  for (const [i, name] of names.entries()) {
    const before = names.indexOf(name);
    if (before < i || name === 'league')
      throw new RangeError(
        `writeReport: ${list[i]}: expected an experiment with a name of its own, got '${name}'${before < i ? `, as in ${list[before]}` : ''}`,
      );
  }
  const pages = summaries.map((summary, i) => write(out, names[i]!, report(summary), format));
  const extension = format === 'markdown' ? 'md' : 'html';
  const entries = summaries.map((summary, i) => ({ summary, href: `${names[i]}.${extension}` }));
  const whole = write(out, 'league', league(entries, { focus: focus ?? 'steve', margin: margin ?? 0.77 }), format);
  return {
    ...whole,
    experiments: pages.map(({ html, markdown }) => html ?? markdown!),
    files: [...whole.files, ...pages.flatMap(({ files }) => files)],
  };
}
