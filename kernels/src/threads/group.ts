/** Workers over the memory of a set of kernels, and whether there can be any. */

import type { Host } from '../host.ts';
import { bytesOf, type Kernels, moduleFor } from '../instance.ts';
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

/** Memory of the kernels' that workers use: its address, and how many bytes it has. */
type Place = { readonly at: number; readonly bytes: number };

/** Workers, the scratch memory that they were given, and the modules that they have beside the first one. */
export type WorkerGroup = { readonly team: Team; readonly scratches: readonly Place[]; readonly parts: Place[] };

/** Why kernels run on one thread, and what to do about it; null where workers can share their memory. */
export function whyOne(kernels: Kernels, host: Host): string | null {
  const why = host.whyOneThread();
  if (why !== null || kernels.memory.shared) return why;
  return 'the memory of these kernels is not shared; make them with `memory: { shared: true }`';
}

/** Starts workers; the program may end before they are ready if they are `unawaited`. */
export function startWorkers(
  kernels: Kernels,
  host: Host,
  workers: number,
  spin: number | undefined,
  unawaited = false,
): WorkerGroup {
  const { first: exports, heap, memory, scratch, variant } = kernels;
  const bytes = exports.convScratch();
  const scratches = Array.from({ length: workers }, () => ({ at: heap.pool.alloc(bytes), bytes }));
  try {
    const module = moduleFor(memory.wasm, variant);
    const shared = { module, memory: memory.wasm, exports, scratch, scratches: scratches.map(({ at }) => at) };
    return { team: new Team({ workers, host, spin, unawaited, ...shared }), scratches, parts: [] };
  } catch (error) {
    free(kernels, scratches);
    throw error;
  }
}

/** Gives the workers the modules that the kernels have and they have not. */
export function shareParts({ heap, memory, parts, variant }: Kernels, group: WorkerGroup): void {
  for (const { part, exports } of parts.slice(group.parts.length)) {
    const bytes = bytesOf(part.packed, variant, memory.shared);
    const place = { at: heap.pool.alloc(bytes.length), bytes: bytes.length };
    memory.u8.set(bytes, place.at);
    group.team.add(exports, place.at, place.bytes);
    group.parts.push(place);
  }
}

export async function stopWorkers(kernels: Kernels, { team, scratches, parts }: WorkerGroup): Promise<void> {
  await team.stop();
  free(kernels, [...scratches, ...parts]);
}

/** NOTE: not before the workers have ended, as they write to it. */
function free(kernels: Kernels, places: readonly Place[]): void {
  for (const { at, bytes } of places) kernels.heap.pool.free(at, bytes);
}

export const warnWith = (o: ThreadOptions, message: string): void =>
  (o.warn ?? (message => console.warn(message)))(message);
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
