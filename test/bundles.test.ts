/** What a browser downloads: a training script with Adam and one with STEVE, bundled, minified and gzipped. */

import assert from 'node:assert/strict';
import t from 'tap';
import { law } from './helpers/law.ts';

/**
 * Limits in kB (1000 bytes): what was reached. They are lowered with what becomes smaller; whoever raises one says in
 * docs/decisions/ what the bytes are for.
 */
const LIMITS = { ADAM: 73.5, STEVE: 125.5 };

type Bundle = Record<keyof typeof LIMITS, string> & { bundledSize(program: string): Promise<number> };
const bundle: Bundle = await import(new URL('../bench/bundle.mjs', import.meta.url).href);

for (const [name, limit] of Object.entries(LIMITS) as [keyof typeof LIMITS, number][])
  law(t, `a training script with ${name} is at most ${limit} kB for a browser`, async () => {
    const kB = (await bundle.bundledSize(bundle[name])) / 1000;
    assert.ok(kB <= limit, `${kB} kB, limit ${limit}; LIMITS in test/bundles.test.ts`);
    assert.ok(kB > limit - 1.5, `${kB} kB, and the limit is still ${limit}: lower it in test/bundles.test.ts`);
  });
