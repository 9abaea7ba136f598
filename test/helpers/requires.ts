/**
 * What some tests need beside Node. Where it is missing they are skipped, with the reason; with REQUIRE_ALL=1 in the
 * environment, as `.ci/run` has it, they fail instead.
 */

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { openBlas } from '@otimes/kernels';
import type { Test } from 'tap';
import { openGpu } from './gpu.ts';

const onPath = (...names: string[]) =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .flatMap(folder => names.map(name => join(folder, name)))
    .find(existsSync);

/** The browser: $CHROMIUM, or the first of its usual names on the PATH; undefined where there is none. */
export const CHROMIUM =
  process.env.CHROMIUM === undefined
    ? onPath('chromium', 'chromium-browser', 'google-chrome')
    : [process.env.CHROMIUM].find(existsSync);

/** Debian's OpenBLAS with 32-bit and with 64-bit integers. */
export const OPENBLAS = ['libopenblas.so.0', 'libopenblas64.so.0'];

/** Bundlers, with a lock of their own: they are large, and `npm ci` of the repository should stay quick. */
export const BUNDLERS = join(import.meta.dirname, '../bundlers/node_modules');

const NEEDS = {
  chromium: async () =>
    CHROMIUM === undefined ? 'no Chromium: apt-get install chromium, or set CHROMIUM to where one is' : null,
  async openblas() {
    const loads = (library: string) =>
      openBlas(library).then(
        () => null,
        () => library,
      );
    const missing = (await Promise.all(OPENBLAS.map(loads))).filter(library => library !== null);
    if (missing.length === 0) return null;
    return `no ${missing.join(', no ')}: apt-get install libopenblas0 libopenblas64-0`;
  },
  gpu: openGpu,
  bundlers: async () => (existsSync(BUNDLERS) ? null : 'no bundlers: npm ci --prefix test/bundlers'),
};

export type Need = keyof typeof NEEDS;

/** Why the first of these that is missing is so; null if all are here. */
async function missing(needs: readonly Need[]): Promise<string | null> {
  for (const need of needs) {
    const why = await NEEDS[need]();
    if (why !== null) return why;
  }
  return null;
}

/** `t.test` for tests that cannot run without all of these. */
export async function testNeeding(
  t: Test,
  ...needs: Need[]
): Promise<(title: string, run: (t: Test) => void | Promise<void>) => void> {
  const why = await missing(needs);
  return (title, run) => {
    if (why === null) void t.test(title, async t => run(t));
    else if (process.env.REQUIRE_ALL) void t.test(title, async t => t.fail(why));
    else void t.test(title, { skip: why }, () => {});
  };
}
