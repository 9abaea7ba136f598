/**
 * Reachable means valid: random programs of operations, views, scopes, writes and backward passes, which hold on to
 * random tensors and compare each with a shadow copy. Memory that is reused, or released too early, shows.
 */

import { Generator, GraphError, noGrad, ReleasedError, randn, scope, type Tensor, type TypedArray } from '@otimes/core';
import { floatOf } from '../helpers/devices.ts';

/** What the programs did. `corrupted` must be empty, and so must `unexpected`. */
export type FuzzReport = {
  checks: number;
  released: number;
  backward: number;
  refused: number;
  corrupted: string[];
  unexpected: string[];
};

type Storage = Tensor['storage'];

/** Where the elements of `x` lie in its storage, in row-major order. */
function positions(x: Tensor): number[] {
  let all = [x.offset];
  x.shape.forEach((n, axis) => {
    all = all.flatMap(p => Array.from({ length: n }, (_, i) => p + i * x.strides[axis]!));
  });
  return all;
}

/** What a storage should hold: what was there at first, halved at the positions of each write since. */
type Shadow = { readonly first: Promise<TypedArray>; readonly writes: (readonly number[])[] };

type Fuzz = { device: string; seed: number; steps: number };

export async function lifetimeFuzz({ device, seed, steps }: Fuzz): Promise<FuzzReport> {
  const rng = new Generator(seed);
  const dtype = floatOf(device);
  const below = (n: number) => rng.integer(0, n);
  const report: FuzzReport = { checks: 0, released: 0, backward: 0, refused: 0, corrupted: [], unexpected: [] };
  /** The values that each storage should have. */
  const shadows = new Map<Storage, Shadow>();
  /** Those whose scope has ended: the values are there, for some graph, or reading them is an error. */
  const ended = new Set<Storage>();
  let held: Tensor[] = [];
  /** Comparisons under way: what is read is what is there at the time of the call, wherever that is awaited. */
  const comparing: Promise<void>[] = [];

  /** Takes a result into the game: new storages are covered by their first tensor. */
  const hold = (x: Tensor): Tensor => {
    if (!shadows.has(x.storage)) shadows.set(x.storage, { first: x.data(), writes: [] });
    if (below(3) > 0) held.push(x);
    return x;
  };

  const check = (x: Tensor): void => {
    report.checks++;
    // Nothing that waits holds the tensor, which the collector may find.
    comparing.push(compare(positions(x), shadows.get(x.storage)!, x.data(), ended.has(x.storage)));
  };

  const compare = async (places: number[], shadow: Shadow, read: Promise<TypedArray>, hasEnded: boolean) => {
    const writes = [...shadow.writes];
    try {
      const [actual, first] = await Promise.all([read, shadow.first]);
      const elements = Float64Array.from(first);
      for (const p of writes.flat()) elements[p]! *= 0.5;
      const values = places.map(p => elements[p]!);
      if (values.some((v, i) => !Object.is(v, actual[i]))) report.corrupted.push(`${actual}, expected ${values}`);
    } catch (error) {
      if (!(error instanceof ReleasedError) || !hasEnded) report.unexpected.push(String(error));
      else report.released++;
    }
  };

  const shapes = [[], [1], [3], [2, 3], [4, 4], [8, 40], [3, 1, 200]];
  const make = () => hold(randn(shapes[below(shapes.length)]!, { rng, dtype, device, requiresGrad: below(2) === 0 }));
  const any = (): Tensor => {
    const living = held.filter(x => !ended.has(x.storage));
    return living.length === 0 ? make() : living[below(living.length)]!;
  };

  const operate = (): void => {
    const [x, y] = [any(), any()];
    const made = [
      () => x.mul(0.5),
      () => x.neg().tanh(),
      () => x.sum(x.rank === 0 ? undefined : below(x.rank)),
      () => x.square().add(1).log(),
      () => (x.shape.join() === y.shape.join() ? x.sub(y).exp() : x.mean()),
      () => x.softmax(x.rank === 0 ? undefined : -1),
    ][below(x.rank === 0 ? 5 : 6)]!();
    hold(made);
  };

  const look = (): void => {
    const x = any();
    const views = [
      () => x.flatten(),
      () => x.unsqueeze(0),
      () => x.expand(2, ...x.shape),
      () => x.detach(),
      () => (x.rank > 1 ? x.transpose() : x),
      () => (x.rank > 0 ? x.slice([null, null, -1]) : x),
      () => (x.rank > 0 && x.shape[0]! > 1 ? x.narrow(0, 1, 1) : x),
    ];
    hold(views[below(views.length)]!());
  };

  const write = (): void => {
    const x = any();
    if (x.strides.some((stride, i) => stride === 0 && x.shape[i]! > 1)) return;
    noGrad(() => x.scale_(0.5));
    shadows.get(x.storage)!.writes.push(positions(x));
  };

  /** Values that were written over, graphs that are gone and scopes that have ended are refused, never miscounted. */
  const differentiate = (): void => {
    const y = any();
    if (!y.requiresGrad) return;
    try {
      y.sum().backward();
      report.backward++;
      for (const x of held) if (x.grad !== null) hold(x.grad);
    } catch (error) {
      const known = error instanceof GraphError || error instanceof ReleasedError;
      if (known && /changed in place|was freed|released/.test(error.message)) report.refused++;
      else report.unexpected.push(String(error));
    }
  };

  const inScope = (depth: number): void => {
    const before = new Set(shadows.keys());
    const inside: Tensor[] = [];
    const result = scope(() => {
      run(3 + below(5), depth + 1);
      inside.push(...held.filter(x => !before.has(x.storage)));
      if (inside.length > 0 && below(3) === 0) inside[below(inside.length)]!.keep();
      return { some: [any()] };
    });
    const gradients = new Set(held.flatMap(x => (x.grad === null ? [] : [x.grad.storage])));
    for (const [storage] of shadows) {
      const survives = before.has(storage) || storage.kept || gradients.has(storage);
      if (!survives && storage !== result.some[0]!.storage) ended.add(storage);
    }
  };

  const run = (count: number, depth: number): void => {
    for (let i = 0; i < count; i++) {
      const kind = below(20);
      if (kind < 3) make();
      else if (kind < 10) operate();
      else if (kind < 14) look();
      else if (kind < 16) write();
      else if (kind < 18) differentiate();
      else if (depth < 3) inScope(depth);
      if (held.length > 60 && depth === 0) {
        held.forEach(check);
        held = held.filter(() => below(3) === 0);
        const reachable = new Set(held.map(x => x.storage));
        for (const storage of shadows.keys()) if (!reachable.has(storage)) shadows.delete(storage);
      }
    }
  };
  run(steps, 0);
  held.forEach(check);
  await Promise.all(comparing);
  return report;
}
