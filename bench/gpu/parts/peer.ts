/** PyTorch in a process of its own, which answers lines of JSON: torch_peer.py. */

import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Request } from './tasks.ts';

/** float32 as it is; its products by TF32; and autocast to bfloat16, with master weights in float32. */
export const MODES = ['float32', 'TF32', 'mixed'] as const;
export type Mode = (typeof MODES)[number];

type Answer = { readonly check?: number; readonly ms?: number; readonly gpuMs?: number; readonly error?: string };

/** Beside the program, bundled or not. */
const SCRIPT = 'torch_peer.py';
const script = () =>
  [dirname(process.argv[1]!), import.meta.dirname, dirname(import.meta.dirname)]
    .map(folder => join(folder, SCRIPT))
    .find(existsSync);

export type Found = { readonly python: string; readonly versions: string };

/** The first Python whose torch has CUDA (or any torch, with device 'cpu'), or why there is none. */
export function findTorch(device: string): Found | string {
  const file = script();
  if (file === undefined) return `no ${SCRIPT} beside this program`;
  const tried: string[] = [];
  for (const python of [process.env.PYTHON, 'python3', '/usr/bin/python3'].filter(one => one !== undefined)) {
    const { stdout, stderr, error } = spawnSync(python, [file, '--versions', device], { encoding: 'utf8' });
    if (stdout?.startsWith('torch ')) return { python, versions: stdout.trim() };
    const why = error === undefined ? `${stdout}${stderr}`.trim().split('\n').at(-1) : error.message;
    tried.push(`${python}: ${why}`);
  }
  return tried.join('; ');
}

export class TorchPeer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(python: string, device: string) {
    this.#child = spawn(python, [script()!, device], { stdio: 'pipe' });
    this.#child.stderr.on('data', chunk => {
      this.#errors = (this.#errors + chunk).slice(-2000);
    });
    // Writing to a process that has ended; that it ended is told by its output.
    this.#child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async #ask(request: object): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`PyTorch ended: ${this.#errors}`);
      if (!value.startsWith('{')) continue;
      const answer = JSON.parse(value) as Answer;
      if (answer.error !== undefined) throw new Error(`PyTorch: ${answer.error}`);
      return answer;
    }
  }

  /** Makes the task in each mode, and warms it up. */
  async prepare(request: Request, modes: readonly Mode[], seconds: number): Promise<void> {
    await this.#ask({ prepare: request, modes, seconds });
  }

  /** Milliseconds a unit, over some seconds. */
  async sample(mode: Mode, seconds: number): Promise<number> {
    return (await this.#ask({ sample: mode, seconds })).ms!;
  }

  /** Gives the memory of the task back. */
  async drop(): Promise<void> {
    await this.#ask({ drop: true });
  }

  end(): void {
    this.#child.stdin.end();
  }
}
