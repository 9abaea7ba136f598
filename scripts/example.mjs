// 'npm run example NAME -- ARGS' runs one program of examples from the sources; without a name it lists them.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';

const [name, ...args] = process.argv.slice(2);
// What has a page runs in a browser: npm run demo:browser.
const has = (folder, file) => existsSync(`examples/${folder}/${file}`);
const names = readdirSync('examples').filter(folder => has(folder, 'main.ts') && !has(folder, 'index.html'));
if (names.includes(name)) {
  const program = ['--conditions=@otimes/source', '--import', 'tsx', `examples/${name}/main.ts`, ...args];
  process.exitCode = spawnSync(process.execPath, program, { stdio: 'inherit' }).status ?? 1;
} else {
  process.stderr.write(`Usage: npm run example NAME -- [options]\n\n${names.map(one => `  ${one}\n`).join('')}`);
  process.exitCode = name === undefined ? 0 : 2;
}
