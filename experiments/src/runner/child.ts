/** The parent's end of a child process. */

import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Answer, Order, Setup } from './messages.ts';
import type { TrialProgress } from './trial.ts';

/** The child ended in the middle of its work: it was killed, or had no memory left. */
export class ChildDied extends Error {
  override name = 'ChildDied';
}

/** The task, a contender or the library threw; in the child, which has ended. */
export class ChildFailed extends Error {
  override name = 'ChildFailed';
}

/** Where a child's task or contender threw, the innermost call first: lines of its stack without those of Node, five at most; none of another error. */
export function framesOf(error: unknown): string[] {
  if (!(error instanceof ChildFailed)) return [];
  const lines = (error.stack ?? '').split('\n').filter(line => /^\s+at /.test(line) && !line.includes('node:'));
  return lines.slice(0, 5).map(line => line.trim());
}

/** What Node needs to run this package's files: nothing where they are JavaScript, a compiler where they are sources. */
export function nodeArguments(): string[] {
  if (!isSource()) return [];
  return ['--conditions=@otimes/source', `--import=${import.meta.resolve('tsx')}`];
}

const isSource = (): boolean => import.meta.url.endsWith('.ts');

/** As many characters of what a child wrote last as are told when it dies. */
const TAIL = 2000;

type Pending = {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly onProgress: (progress: TrialProgress) => void;
};

export class Child {
  readonly #process: ChildProcess;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  #pending: Pending | null = null;
  /** Why there is no more to be had of it. */
  #gone: Error | null = null;
  #tail = '';

  /** @param hear gets the lines that the child writes, each once */
  constructor(setup: Setup, env: NodeJS.ProcessEnv, hear: (line: string) => void) {
    const file = fileURLToPath(new URL(`./worker.${isSource() ? 'ts' : 'js'}`, import.meta.url));
    const child = fork(file, [], { execArgv: nodeArguments(), env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#process = child;
    const heard = new Set<string>();
    for (const input of [child.stdout!, child.stderr!])
      createInterface({ input }).on('line', line => {
        this.#tail = `${this.#tail}${line}\n`.slice(-TAIL);
        if (!heard.has(line)) hear(line);
        heard.add(line);
      });
    child.on('message', (answer: Answer) => this.#hear(answer));
    this.ended = new Promise(resolve => {
      child.on('error', error => {
        this.#fail(new ChildDied(error.message));
        // Without a process there is no end of it.
        if (child.pid === undefined) resolve();
      });
      child.on('close', (code, signal) => {
        const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
        const memory = signal === 'SIGKILL' || signal === 'SIGABRT' ? ', as happens where memory is short' : '';
        const said = this.#tail.trim();
        this.#fail(
          new ChildDied(`its process was ended ${how}${memory}${said === '' ? '' : `. It said last:\n${said}`}`),
        );
        resolve();
      });
    });
    this.#send({ kind: 'setup', setup });
  }

  /** One order at a time. */
  ask(order: Order, onProgress: (progress: TrialProgress) => void = () => {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== null) return reject(this.#gone);
      this.#pending = { resolve, reject, onProgress };
      this.#send(order);
    });
  }

  /** Ends the process, whatever it does. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.ended;
  }

  #send(order: Order): void {
    // A child that is gone is told by 'close'.
    if (this.#process.connected) this.#process.send(order, () => {});
  }

  #hear(answer: Answer): void {
    if (answer.kind === 'progress') return this.#pending?.onProgress(answer.progress);
    if (answer.kind === 'failed') {
      const error = new ChildFailed(answer.message);
      error.stack = answer.stack;
      return this.#fail(error);
    }
    const pending = this.#pending;
    this.#pending = null;
    pending?.resolve(answer);
  }

  #fail(error: Error): void {
    this.#gone ??= error;
    const pending = this.#pending;
    this.#pending = null;
    pending?.reject(error);
  }
}
