/** The name that was probably meant. */

/** Insertions, deletions, exchanges and swaps of neighbours that make one text of the other (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      row.push(least);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

/** `; did you mean 'NAME'?` with the nearest of the names, or nothing where none is near: at most a third of the letters differ. */
export function didYouMean(name: string, known: readonly string[]): string {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[_-]/g, '');
  const ranked = known.map(one => ({ one, distance: editDistance(plain(name), plain(one)) }));
  const [best] = ranked.sort((a, b) => a.distance - b.distance);
  const isNear = best !== undefined && best.distance <= Math.max(1, Math.floor(plain(best.one).length / 3));
  return isNear ? `; did you mean '${best.one}'?` : '';
}
