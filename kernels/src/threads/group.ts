/** Workers over the memory of a set of kernels, and whether there can be any. */

import type { Host } from '../host.ts';
import { type Kernels, moduleFor } from '../instance.ts';
import type { SplitOptions } from './split.ts';
import { Team } from './team.ts';

export type ThreadOptions = SplitOptions & {
  /** Where workers come from, defaults to what this package was bundled for. */
  readonly host?: Host;
  /** Told once why there is one thread alone, and when the second thread stopped; defaults to console.warn. */
  readonly warn?: (message: string) => void;
  /** Looks at the shared memory before a thread sleeps, defaults to 2,000. */
  readonly spin?: number;
};

/** Workers, and the scratch memory that they were given. */
export type WorkerGroup = { readonly team: Team; readonly scratches: readonly number[] };

/** Why kernels run on one thread, and what to do about it; null where workers can share their memory. */
export function whyOne(kernels: Kernels, host: Host): string | null {
  const why = host.whyOneThread();
  if (why !== null || kernels.memory.shared) return why;
  return 'the memory of these kernels is not shared; make them with `memory: { shared: true }`';
}

export function startWorkers(kernels: Kernels, host: Host, workers: number, spin: number | undefined): WorkerGroup {
  const { compiled, heap, memory, scratch, variant } = kernels;
  const scratches = Array.from({ length: workers }, () => heap.pool.alloc(compiled.convScratch()));
  try {
    const module = moduleFor(memory.wasm, variant);
    const shared = { module, memory: memory.wasm, exports: compiled, scratch, scratches };
    return { team: new Team({ workers, host, spin, ...shared }), scratches };
  } catch (error) {
    free(kernels, scratches);
    throw error;
  }
}

export async function stopWorkers(kernels: Kernels, { team, scratches }: WorkerGroup): Promise<void> {
  await team.stop();
  free(kernels, scratches);
}

/** NOTE: not before the workers have ended, as they write to it. */
function free(kernels: Kernels, scratches: readonly number[]): void {
  const bytes = kernels.compiled.convScratch();
  for (const scratch of scratches) kernels.heap.pool.free(scratch, bytes);
}

export const warnWith = (o: ThreadOptions, message: string): void =>
  (o.warn ?? (message => console.warn(message)))(message);
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
