/** A report as Markdown, as GitHub reads it: of the charts those alone that lie beside it as files. */

import { type Block, cellOf, type Document, type Section } from './document.ts';

/** Text that means nothing to Markdown or HTML. */
export const escapeMarkdown = (text: string): string =>
  text
    .replace(/[\\`*_[\]#|~]/g, '\\$&')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replace(/\s+/g, ' ')
    // At the start of a line a number or a dash would begin a list.
    .replace(/^(\d+)\. /, '$1\\. ')
    .replace(/^([-+]) /, '\\$1 ');

/** Longer than any row of backticks inside. */
const fence = (text: string): string =>
  '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([row]) => row.length + 1)));

const addressOf = (href: string): string => encodeURI(href).replace(/[()]/g, c => (c === '(' ? '%28' : '%29'));

function block(one: Block): string[] {
  switch (one.kind) {
    case 'text':
      return [one.strong ? `**${escapeMarkdown(one.text)}**` : escapeMarkdown(one.text)];
    case 'list':
      return [one.items.map(item => `- ${escapeMarkdown(item)}`).join('\n')];
    case 'heading':
      return [`### ${escapeMarkdown(one.text)}`];
    case 'table': {
      const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
      const cells = one.rows.map(cells =>
        cells.map(cellOf).map(({ text, note, best }) => {
          const value = best ? `**${escapeMarkdown(text)}**` : escapeMarkdown(text);
          return note ? `${value} (${escapeMarkdown(note)})` : value;
        }),
      );
      const lines = [
        row(one.columns.map(({ title }) => escapeMarkdown(title))),
        row(one.columns.map(({ numeric }) => (numeric ? '---:' : '---'))),
        ...cells.map(row),
      ];
      return [`${escapeMarkdown(one.caption)}:`, lines.join('\n')];
    }
    case 'figures': {
      const pictures = one.figures.flatMap(({ beside }) =>
        beside === undefined ? [] : [`![${escapeMarkdown(beside.alt)}](${addressOf(beside.file)})`],
      );
      return pictures.length === 0 || one.lead === undefined ? pictures : [escapeMarkdown(one.lead), ...pictures];
    }
    case 'folded': {
      const ticks = fence(one.text);
      return [
        `<details><summary>${escapeMarkdown(one.summary)}</summary>`,
        // In JSON an escape says the same, and no reader takes it for a tag.
        `${ticks}json\n${one.text.replaceAll('<', '\\u003c')}\n${ticks}`,
        '</details>',
      ];
    }
    case 'link':
      return [`[${escapeMarkdown(one.text)}](${addressOf(one.href)})`];
  }
}

const section = ({ title, blocks }: Section): string[] => [`## ${escapeMarkdown(title)}`, ...blocks.flatMap(block)];

export const toMarkdown = ({ title, lead, sections }: Document): string =>
  `${[
    `# ${escapeMarkdown(title)}`,
    escapeMarkdown(lead),
    ...sections.filter(({ onlyHtml }) => !onlyHtml).flatMap(section),
  ].join('\n\n')}\n`;
