// 'npm run bench FILE -- ARGS' runs one program from the sources; without a file it prints the table against peers.
import { spawnSync } from 'node:child_process';

const args = process.argv.slice(2);
const program = args.length > 0 && !args[0].startsWith('-');
const { status } = spawnSync(
  process.execPath,
  program ? ['--conditions=@otimes/source', '--import', 'tsx', ...args] : ['bench/table.mjs', ...args],
  { stdio: 'inherit' },
);
process.exitCode = status ?? 1;
