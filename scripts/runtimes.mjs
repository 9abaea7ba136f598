// 'npm run runtimes' packs the packages, installs them into an empty project and runs test/runtimes/program.mjs there under
// several Nodes, Deno and Bun, which come from npm (test/runtimes/package.json); and the same by require where there is one.
// With '--write' the table goes into docs/runtimes.md. Exit code 1 if a runtime fails.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const installed = join(root, 'test/runtimes/node_modules');
const npm = (args, cwd) =>
  execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel', 'error'], { cwd, stdio: 'inherit' });
if (!existsSync(installed)) npm(['ci', '--ignore-scripts'], join(root, 'test/runtimes'));

const folder = mkdtempSync(join(tmpdir(), 'otimes-runtimes-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
execFileSync(process.execPath, [join(root, 'scripts/tarballs.mjs'), folder], { stdio: 'ignore' });
writeFileSync(join(folder, 'package.json'), '{ "private": true }');
const packages = ['kernels', 'linalg', 'core', 'nn', 'data', 'optim', 'gpu'];
npm(['install', ...packages.map(name => `./otimes-${name}-${version()}.tgz`), join(installed, 'koffi')], folder);
copyFileSync(join(root, 'test/runtimes/program.mjs'), join(folder, 'program.mjs'));
writeFileSync(
  join(folder, 'require.cjs'),
  "console.log(require('@otimes/core').tensor([1, 2]).mul(2).sum().item());\n",
);

function version() {
  return JSON.parse(readFileSync(join(root, 'core/package.json'), 'utf8')).version;
}

/** The first file of a package of a platform, such as @deno/linux-x64-glibc. */
function binary(name, file) {
  const { optionalDependencies = {} } = createRequire(join(installed, 'x'))(`./${name}/package.json`);
  return Object.keys(optionalDependencies)
    .map(part => join(installed, part, file))
    .find(existsSync);
}

const runtimes = [
  ...['20.11', '20.19', '26'].map(node => ['Node', join(installed, `node-${node}`, 'bin/node'), []]),
  ['Node, this one', process.execPath, []],
  ['Deno', binary('deno', 'deno'), ['run', '-A']],
  ['Bun', binary('bun', 'bin/bun'), []],
];

const rows = [];
for (const [name, command, args] of runtimes) {
  if (command === undefined || !existsSync(command)) {
    console.log(`${name}: not installed here (${command ?? 'no package for this platform'})`);
    continue;
  }
  const run = (...rest) =>
    spawnSync(command, rest, {
      cwd: folder,
      encoding: 'utf8',
      timeout: 300_000,
      env: { PATH: process.env.PATH, HOME: folder },
    });
  const label = `${name} ${run('--version').stdout.match(/\d+\.\d+\.\d+/)?.[0]}`;
  const { status, stdout, stderr } = run(...args, 'program.mjs');
  if (status !== 0 || stderr !== '') {
    console.error(`${label}: exit code ${status}\n${stdout}${stderr}`);
    process.exitCode = 1;
    if (status !== 0) continue;
  }
  const { collector, peak, blas, gpu } = JSON.parse(stdout);
  const required = run(...args, 'require.cjs').stdout.trim() === '6' ? 'yes' : 'no';
  rows.push(`| ${label} | ${collector ? 'yes' : 'no'} | ${peak} MB | ${blas} | ${gpu} | ${required} |`);
}
const table = `| runtime | synchronous collection | resident in the loop | BLAS | WebGPU | \`require\` |\n|---|---|---:|---|---|---|\n${rows.join('\n')}\n`;
console.log(table);
if (process.argv.includes('--write')) {
  const page = join(root, 'docs/runtimes.md');
  const text = readFileSync(page, 'utf8');
  writeFileSync(page, text.replace(/\| runtime \|(.*\n)*?(?=\n)/, table));
}
