// Programs that tests start as processes of their own.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';

/**
 * Node with these arguments and nothing of the test's environment but PATH. NOTE: `env -i`, because tap adds its loaders
 * and its coverage to the environment of whatever a test spawns, and the lines of a program that tsx compiles are not
 * those of tap's compiler.
 */
export function startNode(args: readonly string[], cwd = process.cwd()): ChildProcessByStdio<null, Readable, Readable> {
  const command = ['-i', `PATH=${process.env.PATH}`, process.execPath, ...args];
  return spawn('env', command, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}
