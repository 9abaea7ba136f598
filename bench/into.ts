/** Tables of Markdown, on the terminal and into a document. */

import { readFileSync, writeFileSync } from 'node:fs';

/** Columns are padded; all but the first are numbers, to the right. */
export function markdown(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(4, ...rows.map(row => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((c, i) => (i === 0 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!))).join(' | ')} |`;
  const rule = widths.map((n, i) => (i === 0 ? '-'.repeat(n) : `${'-'.repeat(n - 1)}:`));
  return [line(rows[0]!), line(rule), ...rows.slice(1).map(line)].join('\n');
}

/** Puts the text between `<!-- NAME -->` and `<!-- end of NAME -->` of a file, in place of what is there. */
export function putInto(file: string, name: string, text: string): void {
  const document = readFileSync(file, 'utf8');
  const [open, close] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [document.indexOf(open), document.indexOf(close)];
  if (from < 0 || to < from) throw new Error(`${file}: expected a line '${open}' and after it '${close}'`);
  writeFileSync(file, `${document.slice(0, from + open.length)}\n${text.trim()}\n${document.slice(to)}`);
}
