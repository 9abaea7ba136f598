/** The documentation is held to the code: its programs type-check and run, what it links to and names exists. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { law } from './helpers/law.ts';
import { startNode } from './helpers/program.ts';
import { testNeeding } from './helpers/requires.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...['kernels', 'linalg', 'core', 'nn', 'data', 'gpu', 'optim', 'experiments'].map(name => `${name}/README.md`),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .map(name => name.replaceAll('\\', '/'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
].map(page => ({ page, text: readFileSync(join(root, page), 'utf8') }));

// NOTE: awaited before the first test is told, or tap would take the pause for the end.
const [always, withBlas] = [await testNeeding(t), await testNeeding(t, 'openblas')];

// --- programs ---

/** A block of TypeScript or JavaScript, and the line of its page on which its code begins. */
type Block = { page: string; line: number; language: 'ts' | 'js'; code: string };

const blocks: Block[] = pages.flatMap(({ page, text }) =>
  [...text.matchAll(/^```(ts|js)\n(.*?)^```$/gms)].map(({ index, 1: language, 2: code = '' }) => ({
    page,
    line: text.slice(0, index).split('\n').length + 1,
    language: language === 'ts' ? 'ts' : 'js',
    code,
  })),
);
const programs = blocks.filter(({ code }) => code.startsWith('import '));

/** Where programs live while they are tested: inside of the repository, so that they find its packages. */
const build = join(root, '.build');
mkdirSync(build, { recursive: true });
const folder = mkdtempSync(join(build, 'docs-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const fileOf = ({ page, line, language }: Block) =>
  `${page.replace('.md', '').replaceAll('/', '-').toLowerCase()}-${line}.${language === 'ts' ? 'ts' : 'mjs'}`;
for (const program of programs) writeFileSync(join(folder, fileOf(program)), program.code);
const config = { extends: join(root, 'tsconfig.scripts.json'), include: ['*.ts'] };
writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));

/** Runs node in the folder of the programs. */
function node(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = startNode(args, folder);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', code => resolve({ code, output }));
  });
}

law(t, 'a block of code is a whole program, which begins with an import, or says that it is a fragment', () => {
  const neither = blocks.filter(({ code }) => !/^(import |\/\/ fragment)/.test(code));
  assert.deepEqual(
    neither.map(({ page, line }) => `${page}:${line}`),
    [],
  );
  assert.ok(programs.length > 5, `found ${programs.length} programs`);
});

// The compiler works beside the programs, which run one after the other.
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
const checked = node(tsc, '-p', folder, '--pretty', 'false');

const inOneLine = (text: string) => text.replace(/\s+/g, ' ');
/** What a program says it prints, in that order: the ends of lines behind `// →` or `// some words: →`. */
const claims = ({ code }: Block) => [...code.matchAll(/\/\/ (?:.*: )?→ (.+)$/gm)].map(([, claim]) => inOneLine(claim!));

for (const program of programs) {
  const test = program.code.includes('await useBlas(') ? withBlas : always;
  test(`${program.page}:${program.line} runs, and prints what it says`, async () => {
    const { code, output } = await node('--conditions=@otimes/source', '--import', 'tsx', fileOf(program));
    assert.equal(code, 0, output);
    const printed = inOneLine(output);
    let end = 0;
    for (const claim of claims(program)) {
      const begin = printed.indexOf(claim, end);
      assert.ok(begin >= 0, `expected ${claim} next in\n${output}`);
      end = begin + claim.length;
    }
  });
}

law(t, 'all programs type-check', async () => {
  const { code, output } = await checked;
  assert.equal(code, 0, output);
});

// --- links and files ---

const withoutFences = (text: string) => text.replace(/^```.*?^```$/gms, '');
const inlineCode = /`([^`\n]+)`/g;

/** The anchors that GitHub gives to the headings of a page. */
const anchorsOf = (text: string) =>
  [...withoutFences(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-'),
  );

for (const { page, text } of pages) {
  law(t, `${page}: every relative link leads somewhere`, () => {
    const dead: string[] = [];
    for (const [, link] of withoutFences(text)
      .replace(inlineCode, '')
      .matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link!)) continue;
      const [path, anchor] = link!.split('#');
      const target = path === '' ? join(root, page) : join(root, dirname(page), path!);
      const there = existsSync(target) && (!anchor || anchorsOf(readFileSync(target, 'utf8')).includes(anchor));
      if (!there) dead.push(link!);
    }
    assert.deepEqual(dead, []);
  });

  law(t, `${page}: every file that it names exists`, () => {
    const entries = new Set(readdirSync(root));
    const words = [...withoutFences(text).matchAll(inlineCode)].flatMap(([, code]) => code!.split(/\s+/));
    const paths = words.filter(word => {
      if (!/^[\w.-]+(\/[\w.-]+)+\/?$/.test(word)) return false;
      // `expand/reduce` is no file: one has an extension or lies in a folder of the repository.
      return entries.has(word.split('/')[0]!) || /\.[a-z]+$/.test(word);
    });
    assert.deepEqual(
      paths.filter(path => ![root, join(root, dirname(page))].some(folder => existsSync(join(folder, path)))),
      [],
    );
  });
}
