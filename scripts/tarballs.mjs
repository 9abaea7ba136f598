// 'npm run tarballs -- FOLDER' builds the packages and packs them as npm would publish them, by default into 'packed'.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const folder = process.argv[2] ?? join(root, 'packed');
mkdirSync(folder, { recursive: true });
const packages = ['kernels', 'linalg', 'core', 'nn', 'data', 'optim', 'gpu', 'experiments'];
// What is left of files that are gone would be packed too.
for (const name of packages) rmSync(join(root, name, 'dist'), { recursive: true, force: true });
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b'], { cwd: root, stdio: 'inherit' });
execFileSync(process.execPath, [join(root, 'gpu/bundle.mjs')], { stdio: 'inherit' });
const to = ['--pack-destination', folder, '--loglevel', 'error'];
execFileSync('npm', ['pack', ...packages.map(name => `./${name}`), ...to], { cwd: root, stdio: 'inherit' });
