/** The packages as npm would publish them, installed into projects of their own. */

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

export const root = join(import.meta.dirname, '../..');
export const PACKAGES = ['kernels', 'linalg', 'core', 'nn', 'data', 'optim', 'gpu'];
/** What they depend on, from the repository's own node_modules, so that no network is needed. */
const DEPENDENCIES = [
  ...['ndarray', '@types/ndarray', 'iota-array', 'is-buffer'],
  ...['@jsquash/jpeg', 'fast-png', 'fflate', 'iobuffer'],
];

/**
 * Runs a program to its end, with nothing of the test's environment but PATH and HOME; its output. Rejects with what it wrote.
 * NOTE: `env -i` for the reason that program.ts gives.
 */
export async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { PATH = '', HOME = '' } = process.env;
  try {
    const clean = ['-i', `PATH=${PATH}`, `HOME=${HOME}`, command, ...args];
    const { stdout } = await promisify(execFile)('env', clean, { cwd, maxBuffer: 2 ** 26, timeout: 120_000 });
    return stdout.trim();
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${stderr ?? ''}${stdout ?? ''}`.slice(0, 4000), { cause: error });
  }
}

/** npm beside the Node that runs this. */
const npm = (args: readonly string[], cwd: string) => run('npm', [...args, '--no-audit', '--no-fund'], cwd);

/** What npm says of a tarball. */
export type Packed = { readonly name: string; readonly filename: string; readonly files: readonly { path: string }[] };

/** Builds and packs all packages into a folder. */
export async function pack(folder: string): Promise<Packed[]> {
  await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b'], root);
  await run(process.execPath, [join(root, 'gpu/bundle.mjs')], root);
  const folders = [...PACKAGES, ...DEPENDENCIES.map(name => `node_modules/${name}`)].map(name => `./${name}`);
  const said = await npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder, ...folders], root);
  const list = JSON.parse(said) as Packed[] | Record<string, Packed>;
  return Object.values(list);
}

/** An empty project with the packages installed and these files. */
export async function project(
  folder: string,
  tarballs: readonly string[],
  files: Readonly<Record<string, string>>,
): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "name": "mine", "private": true }');
  await npm(['install', '--offline', '--ignore-scripts', '--no-package-lock', ...tarballs], folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

/** Paths that an installed package names and does not have: exports, and the sources of its maps. */
export function dangling(folder: string): string[] {
  const missing: string[] = [];
  const need = (from: string, path: string) => {
    if (!existsSync(path)) missing.push(`${from}: ${path}`);
  };
  const targets = (value: unknown): string[] =>
    typeof value === 'string' ? [value] : value === null ? [] : Object.values(value as object).flatMap(targets);
  const { exports, imports = {}, main, types } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  for (const path of [...targets(exports), ...targets(imports), main, types]) need('package.json', join(folder, path));
  return missing;
}

/** The sources that a map names and that are not beside it. */
export function sourcesWithout(folder: string, files: Packed['files']): string[] {
  return files.flatMap(({ path }) => {
    if (!path.endsWith('.map')) return [];
    const { sources } = JSON.parse(readFileSync(join(folder, path), 'utf8')) as { sources: string[] };
    return sources
      .filter(source => !existsSync(join(folder, dirname(path), source)))
      .map(source => `${path}: ${source}`);
  });
}
