/**
 * The public face of the packages: all names that each entry exports, as they stand in test/golden/exports. A name that comes or
 * goes is a decision, which shows in the difference.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { law } from './helpers/law.ts';
import { PACKAGES, root } from './helpers/packages.ts';

const golden = join(root, 'test/golden/exports');
const UPDATE = 'UPDATE_EXPORTS=1 npm test -- test/exports.test.ts';

/** Entry, as programs import it → its source. */
const entries = [...PACKAGES, 'experiments'].flatMap(name => {
  const { name: packageName, exports } = JSON.parse(readFileSync(join(root, name, 'package.json'), 'utf8')) as {
    name: string;
    exports: Record<string, string | Record<string, string>>;
  };
  return Object.entries(exports).flatMap(([path, targets]): { name: string; file: string }[] => {
    if (typeof targets === 'string') return [];
    return [{ name: `${packageName}${path.slice(1)}`, file: join(root, name, targets['@otimes/source']!) }];
  });
});

/** What a source file exports: `name` for values, `type name` for what is a type alone. */
function exportsOf(file: string): Set<string> {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
  const names = new Set<string>();
  for (const statement of source.statements) {
    if (ts.isExportDeclaration(statement)) {
      const { exportClause, isTypeOnly, moduleSpecifier } = statement;
      if (exportClause === undefined) {
        const from = (moduleSpecifier as ts.StringLiteral).text;
        for (const name of exportsOf(resolve(dirname(file), from))) names.add(name);
      } else if (ts.isNamespaceExport(exportClause)) names.add(exportClause.name.text);
      else
        for (const one of exportClause.elements)
          names.add(`${isTypeOnly || one.isTypeOnly ? 'type ' : ''}${one.name.text}`);
      continue;
    }
    if (!ts.canHaveModifiers(statement)) continue;
    if (!ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) continue;
    if (ts.isTypeAliasDeclaration(statement) || ts.isInterfaceDeclaration(statement))
      names.add(`type ${statement.name.text}`);
    else if (ts.isVariableStatement(statement))
      for (const { name } of statement.declarationList.declarations) names.add(name.getText(source));
    else if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) names.add(statement.name!.text);
  }
  // An interface may add to a class of the same name.
  for (const name of names) names.delete(`type ${name}`);
  return names;
}

const fileOf = (name: string): string => join(golden, `${name.replace('@otimes/', '').replace('/', '-')}.txt`);

/** By name, types among the values. */
const sorted = (names: Iterable<string>): string[] =>
  [...names].sort((a, b) => (a.replace('type ', '') < b.replace('type ', '') ? -1 : 1));

function known(name: string): string[] {
  try {
    return readFileSync(fileOf(name), 'utf8').trim().split('\n');
  } catch {
    return [];
  }
}

if (process.env.UPDATE_EXPORTS) {
  mkdirSync(golden, { recursive: true });
  for (const { name, file } of entries) writeFileSync(fileOf(name), `${sorted(exportsOf(file)).join('\n')}\n`);
}

for (const { name, file } of entries) {
  law(t, `${name} exports the names that it is known for, no more and no less`, () => {
    const [before, now] = [known(name), sorted(exportsOf(file))];
    const gone = before.filter(one => !now.includes(one)).map(one => `- ${one}`);
    const come = now.filter(one => !before.includes(one)).map(one => `+ ${one}`);
    assert.equal([...gone, ...come].join('\n'), '', `${name} changed; if that is meant: ${UPDATE}`);
    assert.deepEqual(before, now, 'sorted, each once');
  });

  law(t, `${name} exports as values what its source exports as such`, async () => {
    const values = Object.keys(await import(name));
    assert.deepEqual(values.sort(), [...exportsOf(file)].filter(one => !one.startsWith('type ')).sort());
  });
}

law(t, 'every list of names is one of an entry', () => {
  assert.deepEqual(readdirSync(golden).sort(), entries.map(({ name }) => fileOf(name).slice(golden.length + 1)).sort());
});
