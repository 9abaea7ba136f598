/** Runs a fuzz program seed by seed: a line for each deviation, which shows again with its seed, and one a minute meanwhile. */

/** Seeds from the command line: how many, then the first. */
export function seedsOf(count: number): { count: number; first: number } {
  const [given = count, first = 0] = process.argv.slice(2).map(Number);
  return { count: given, first };
}

/** `check` gives what is wrong with a seed, or null; what it throws is wrong, too. Returns the number of deviations. */
export async function trySeeds(
  { count, first }: { count: number; first: number },
  check: (seed: number) => string | null | Promise<string | null>,
): Promise<number> {
  let deviations = 0;
  let told = performance.now();
  for (let seed = first; seed < first + count; seed++) {
    let wrong: string | null;
    try {
      wrong = await check(seed);
    } catch (error) {
      wrong = `threw ${error instanceof Error ? error.stack : error}`;
    }
    if (wrong !== null) {
      deviations++;
      console.log(`seed ${seed}: ${wrong.replaceAll('\n', ' ')}`);
    }
    if (performance.now() - told > 60_000) {
      told = performance.now();
      console.log(`… ${seed + 1 - first} tried, ${deviations} deviations`);
    }
  }
  return deviations;
}
