#!/usr/bin/env node
// Starts the command line: from dist, or in a checkout of the repository from the sources, so that nothing is to be built before.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = path => fileURLToPath(new URL(path, import.meta.url));

/** The compiler of the sources, in a checkout alone: packages have sources too, but no tsconfig.json. */
function compiler() {
  if (!existsSync(at('../tsconfig.json')) || !existsSync(at('../src/cli.ts'))) return null;
  try {
    return import.meta.resolve('tsx');
  } catch {
    return null;
  }
}

const tsx = compiler();
if (tsx === null) {
  const { main } = await import('../dist/cli.js');
  process.exitCode = await main(process.argv.slice(2));
} else {
  const cli = JSON.stringify(new URL('../src/cli.ts', import.meta.url).href);
  const start = `import { main } from ${cli}; process.exitCode = await main(process.argv.slice(1));`;
  const options = ['--conditions=@otimes/source', '--import', tsx, '--input-type=module', '--eval', start, '--'];
  // By the channel the other process knows when this one is gone.
  const stdio = ['inherit', 'inherit', 'inherit', 'ipc'];
  const child = spawn(process.execPath, [...options, ...process.argv.slice(2)], { stdio });
  // The other one ends in its own time.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('close', (code, signal) => {
    process.exitCode = code ?? (signal === null ? 1 : 128);
  });
}
