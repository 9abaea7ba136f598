/** Runs a program of the folder examples from the sources, and what it wrote. */

import { resolve } from 'node:path';
import { startNode } from './program.ts';

export type Outcome = { code: number | null; stdout: string; stderr: string };

export function program(example: string, ...args: string[]): Promise<Outcome> {
  return programUntil(example, args, () => false);
}

/** The same, killed once `isEnough` of what it has printed. */
export function programUntil(
  example: string,
  args: readonly string[],
  isEnough: (stdout: string) => boolean,
): Promise<Outcome> {
  const node = ['--conditions=@otimes/source', '--import', 'tsx', resolve(`examples/${example}/main.ts`), ...args];
  return new Promise((done, failed) => {
    const child = startNode(node);
    const outcome: Outcome = { code: null, stdout: '', stderr: '' };
    child.stdout.on('data', chunk => {
      outcome.stdout += chunk;
      if (isEnough(outcome.stdout)) child.kill('SIGKILL');
    });
    child.stderr.on('data', chunk => (outcome.stderr += chunk));
    child.on('error', failed);
    child.on('close', code => done({ ...outcome, code }));
  });
}
