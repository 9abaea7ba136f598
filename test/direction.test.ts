/** `npm run direction` finds what it is for: imports that point up, out, or in a circle. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { law } from './helpers/law.ts';
import { PACKAGES, root } from './helpers/packages.ts';

let count = 0;
const folder = t.testdir();

/** What the script says of packages with these files, path → text; the packages that have none are empty. */
async function verdict(files: Readonly<Record<string, string>>): Promise<string> {
  const home = join(folder, String(count++));
  for (const name of [...PACKAGES, 'experiments']) mkdirSync(join(home, name, 'src'), { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(home, path)), { recursive: true });
    writeFileSync(join(home, path), text);
  }
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'scripts/direction.mjs'), home]);
    return stdout.trim();
  } catch (error) {
    return (error as { stderr: string }).stderr.trim();
  }
}

const FINE = 'direction: every import points down';
const CIRCLE = 'nn/src/a.ts, nn/src/b.ts: import values of each other in a circle';

const back = "export { a } from './a.ts';\nexport const b = 1;\n";
for (const [what, text] of Object.entries({
  'an import': "import { b } from './b.ts';\nexport const a = b;\n",
  'an import over several lines': "import {\n  b,\n  type B,\n} from './b.ts';\nexport const a = b;\n",
  'a namespace': "import * as b from './b.ts';\nexport const a = b;\n",
  'a re-export': "export { b } from './b.ts';\nexport const a = 1;\n",
  'a re-export of all': "export * from './b.ts';\nexport const a = 1;\n",
  'a re-export of all under a name': "export * as other from './b.ts';\nexport const a = 1;\n",
  'a re-export with types among values': "export { type B, b } from './b.ts';\nexport const a = 1;\n",
  'braces with nothing but types, which still run the file': "import { type B } from './b.ts';\nexport const a = 1;\n",
  'a re-export of braces with types alone': "export { type B } from './b.ts';\nexport const a = 1;\n",
}))
  law(t, `a circle is found: ${what}`, async () => {
    assert.equal(await verdict({ 'nn/src/a.ts': text, 'nn/src/b.ts': back }), CIRCLE);
  });

for (const [what, text] of Object.entries({
  'an import of types': "import type { B } from './b.ts';\nexport const a = 1;\n",
  'a re-export of types': "export type { B } from './b.ts';\nexport const a = 1;\n",
  'a re-export of all types': "export type * from './b.ts';\nexport const a = 1;\n",
}))
  law(t, `no circle: ${what}`, async () => {
    assert.equal(await verdict({ 'nn/src/a.ts': text, 'nn/src/b.ts': back }), FINE);
  });

law(
  t,
  'what is not on a floor below, leaves its package, is for Node, or is imported for its effects is named',
  async () => {
    for (const [line, problem] of [
      ["import { x } from '@otimes/optim';", "nn/src/a.ts: '@otimes/optim' is not on a floor below"],
      ["export * from '@otimes/data';", "nn/src/a.ts: '@otimes/data' is not on a floor below"],
      ["import { x } from '../../core/src/x.ts';", "nn/src/a.ts: '../../core/src/x.ts' leaves its package"],
      ["import { readFileSync } from 'node:fs';", "nn/src/a.ts: 'node:fs' would not bundle for a browser"],
      ["import './b.ts';", 'nn/src/a.ts: imports a module for its side effects'],
    ] as const)
      assert.equal(await verdict({ 'nn/src/a.ts': `${line}\n`, 'nn/src/b.ts': '', 'core/src/errors.ts': '' }), problem);
  },
);

law(t, 'within core a file imports values from its layer and those below, and has a layer', async () => {
  const files = { 'core/src/storage.ts': '', 'core/src/ops/view.ts': '', 'core/src/op.ts': '' };
  const storage = "import { x } from './ops/view.ts';\n";
  assert.equal(
    await verdict({ ...files, 'core/src/storage.ts': storage }),
    'core/src/storage.ts: imports core/src/ops/view.ts, which lies in a layer above',
  );
  assert.equal(await verdict({ ...files, 'core/src/storage.ts': storage.replace('import', 'import type') }), FINE);
  assert.equal(await verdict({ ...files, 'core/src/ops/view.ts': "import { x } from '../op.ts';\n" }), FINE);
  assert.match(
    await verdict({ ...files, 'core/src/other.ts': '' }),
    /^core\/src\/other\.ts: has no place among the layers/,
  );
});
