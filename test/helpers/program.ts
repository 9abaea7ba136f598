// Programs that tests start as processes of their own.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { type BuildOptions, build } from 'esbuild';
import type { Test } from 'tap';

/**
 * Node with these arguments and nothing of the test's environment but PATH. NOTE: `env -i`, because tap adds its loaders
 * and its coverage to the environment of whatever a test spawns, and the lines of a program that tsx compiles are not
 * those of tap's compiler.
 */
export function startNode(args: readonly string[], cwd = process.cwd()): ChildProcessByStdio<null, Readable, Readable> {
  const command = ['-i', `PATH=${process.env.PATH}`, process.execPath, ...args];
  return spawn('env', command, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs Node to its end: the exit code, and what it wrote to both streams. */
async function finished(args: readonly string[], cwd: string): Promise<{ code: number | null; output: string }> {
  const child = startNode(args, cwd);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      output += chunk;
    });
  const code = await new Promise<number | null>(done => child.on('close', done));
  return { code, output: output.trim() };
}

/**
 * A program that prints one line ends by itself: bundled into one file for Node, bundled for a browser (and run in Node, with
 * nothing of it inside; another program if one is given), and from the sources.
 */
export async function endsByItself(
  t: Test,
  program: string,
  { prints, inBrowser }: { prints: string; inBrowser: { warning: RegExp; prints: string; program?: string } },
): Promise<void> {
  const root = resolve(import.meta.dirname, '../..');
  const folder = t.testdir();
  const want = { code: 0, output: prints };
  const make = async (name: string, o: BuildOptions, contents = program) => {
    const outfile = join(folder, name);
    const stdin = { contents, resolveDir: join(root, 'test'), loader: 'ts' } as const;
    const conditions = ['@otimes/source'];
    await build({ stdin, bundle: true, outfile, logLevel: 'silent', conditions, ...o });
    return outfile;
  };
  const node = await make('node.mjs', { platform: 'node', format: 'esm', minify: true });
  t.strictSame(await finished([node], root), want, 'bundled and minified');
  const web = await make('web.mjs', { platform: 'browser', format: 'esm' }, inBrowser.program);
  t.notMatch(readFileSync(web, 'utf8'), /["']node:/);
  const { code, output } = await finished([web], root);
  t.equal(code, 0);
  t.match(output, inBrowser.warning);
  t.ok(output.endsWith(inBrowser.prints));
  const sources = ['--conditions=@otimes/source', '--import', 'tsx', '--input-type=module', '-e', program];
  t.strictSame(await finished(sources, root), want, 'from the sources');
}
