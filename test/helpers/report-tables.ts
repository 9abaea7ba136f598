/** Tables of reports, as pages have them. */

import assert from 'node:assert/strict';
import type { parseHTML } from 'linkedom';

type Document = ReturnType<typeof parseHTML>['document'];

/** Cells of the first table whose caption has these words, by the text of the first. */
export function rowsOf(document: Document, caption: RegExp): Map<string, string[]> {
  const tables = [...document.querySelectorAll('table')];
  const table = tables.find(one => caption.test(one.querySelector('caption')?.textContent ?? ''));
  assert.ok(table, `a table whose caption is like ${caption}`);
  const rows = [...table.querySelectorAll('tbody tr')];
  return new Map(
    rows.map(row => {
      const [first, ...cells] = [...row.children].map(cell =>
        (cell.textContent ?? '').replaceAll('\u00a0', ' ').trim(),
      );
      return [first!, cells];
    }),
  );
}
