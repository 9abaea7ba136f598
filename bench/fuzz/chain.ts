/**
 * Random programs that are differentiated as a whole: a chain of operations over two or three leaves, its gradients and
 * those of a weighted sum of them, on every device, and against central differences along a direction on one of them.
 *
 * Rounding adds up here, so a device may differ from the reference by `ROOM` ε of the largest gradient, and by what moving every
 * leaf and every result on the way by a relative 2⁻²⁰ does, brought to ε of the dtype, times `ROOM`; a device that has the bits of
 * another one has them here too. Differences are left out where two step sizes do not give the same: near a kink, or where
 * they are too coarse.
 */

import { type DType, Generator, grad, owningIntermediates, scope, type Tensor, tensor } from '@otimes/core';
import { nonzero, positive } from '../../test/arbitraries/tensor.ts';
import { opEntries } from '../../test/suites/ops.ts';
import { EPS, NUDGE, sameBits } from './agree.ts';
import type { Device } from './devices.ts';
import type { Counts } from './lockstep.ts';
import { Draw, fitted } from './operands.ts';

const ROOM = 500;
/** Results stay below, where 1 − tanh² still has digits. */
const TAME = 5;
const STEPS = [1e-4, 0.5e-4];
/** Relative distance of derivative and difference. */
const CLOSE = 1e-4;
const SHAPES = [[], [1], [3], [2, 3], [3, 2], [2, 2, 2], [1, 2, 4, 4], [4, 5]];

type Step = (values: readonly Tensor[], device: string, dtype: DType) => Tensor;
/** `mixed` is Σ w · first, of which `second` is the gradient. */
type Result = { loss: number; mixed: number; first: Float64Array; second: Float64Array };

/** Factors for the elements of x that are 1 but for a little. */
const near = (x: Tensor, rng: Generator): Tensor =>
  tensor(
    Array.from({ length: x.size }, () => 1 + NUDGE * (2 * rng.uniform() - 1)),
    { shape: x.shape, dtype: x.dtype, device: x.device },
  );

const differentiable = opEntries.filter(entry => entry.differentiable !== false);

export class Chain {
  readonly #draw: Draw;
  readonly #devices: readonly Device[];
  readonly #counts: Counts & { differences: number };
  readonly #seed: number;
  readonly log: string[] = [];

  constructor(seed: number, devices: readonly Device[], counts: Counts & { differences: number }) {
    this.#draw = new Draw(seed);
    this.#devices = devices;
    this.#counts = counts;
    this.#seed = seed;
  }

  run(statements: number): string | null {
    const draw = this.#draw;
    const dtype: DType = draw.once(3) ? 'float32' : 'float64';
    const shapes = Array.from({ length: 2 + draw.below(2) }, () => draw.one(SHAPES));
    const leaves = shapes.map(shape =>
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.fround(draw.rng.normal())),
    );
    const steps = this.#steps(shapes, leaves, statements);
    const all = this.#devices.map(({ name }) => this.#evaluate(steps, shapes, leaves, name, dtype));
    const [reference] = all;
    if (typeof reference === 'string') return reference;
    let room: Result | null = null;
    for (const [i, { name, bitsOf }] of this.#devices.entries()) {
      const got = all[i]!;
      const want = bitsOf === null ? reference! : all[this.#devices.findIndex(d => d.name === bitsOf)]!;
      if (typeof got === 'string' || typeof want === 'string') return `${name}: ${got}`;
      for (const part of ['first', 'second'] as const) {
        if (sameBits(got[part], want[part])) continue;
        if (bitsOf !== null) return `${name}: ${part} gradients ${got[part]}, on ${bitsOf} ${want[part]}`;
        room ??= this.#room(steps, shapes, leaves);
        // By the largest of all: what cancels in one gradient is as large as others.
        const size = want[part].reduce((most, y) => Math.max(most, Math.abs(y)), 1e-3);
        const eps = dtype === 'float32' ? EPS.float32 : EPS.float64;
        for (const [k, x] of got[part].entries()) {
          const y = want[part][k]!;
          const may = ROOM * eps * (room[part][k]! / NUDGE + size);
          if (Math.abs(x - y) <= may || !Number.isFinite(y) || !Number.isFinite(may)) continue;
          return `${name}, ${dtype}: ${part} gradient ${k} is ${x}, expected ${y} within ${may.toExponential(2)}: ${this.log.join('; ')}`;
        }
      }
    }
    return this.#differences(steps, shapes, leaves);
  }

  /** Draws the program; the reference runs along, for the shapes. */
  #steps(shapes: readonly (readonly number[])[], leaves: readonly number[][], count: number): Step[] {
    const draw = this.#draw;
    const steps: Step[] = [];
    const values = leaves.map((data, i) =>
      tensor([...data], { shape: shapes[i]!, dtype: 'float64', device: 'reference' }),
    );
    for (let tries = 0; steps.length < count && tries < 10 * count; tries++) {
      const entry = draw.one(differentiable);
      const use = draw.from(entry.use);
      const operands = use.inputs.map(({ shape, domain, dtype: fixed }) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const constant = draw.from(domain(size, fixed === 'int32' || fixed === 'bool'));
        const fit = new Draw(draw.below(2 ** 30));
        const seed = fit.below(2 ** 30);
        const from = Math.max(draw.below(values.length), draw.below(values.length));
        const fits = fixed === undefined && !draw.once(8) && fitted(new Draw(seed), [values[from]!], shape) !== null;
        return (all: readonly Tensor[], device: string, dtype: DType): Tensor => {
          if (!fits) return tensor([...constant], { shape, dtype: fixed ?? dtype, device });
          const x = fitted(new Draw(seed), [all[from]!], shape)![0]!;
          // Where a function has a domain, something that is in it.
          return domain === positive || domain === nonzero ? x.square().add(0.25) : x;
        };
      });
      const [tamed, scoped, owned] = [draw.below(3), draw.once(6), draw.once(6)];
      const step: Step = (all, device, dtype) => {
        const go = (): Tensor => {
          const y = use.run(...operands.map(operand => operand(all, device, dtype))).astype(dtype);
          return tamed === 0 ? y.sin() : tamed === 1 ? y.sin().mul(2) : y;
        };
        return scoped ? scope(go) : owned ? owningIntermediates(go) : go();
      };
      const y = step(values, 'reference', 'float64');
      if (y.size > 200 || y.dataSync().some(v => !(Math.abs(v) < TAME))) continue;
      this.log.push(`${entry.name}[${use.inputs.map(({ shape }) => `[${shape}]`)}]`);
      values.push(y);
      steps.push(step);
      this.#counts.statements++;
    }
    return steps;
  }

  #evaluate(
    steps: readonly Step[],
    shapes: readonly (readonly number[])[],
    leaves: readonly (readonly number[])[],
    device: string,
    dtype: DType,
    noise: Generator | null = null,
  ): Result | string {
    try {
      return scope(() => {
        const x = leaves.map((data, i) => tensor([...data], { shape: shapes[i]!, dtype, device, requiresGrad: true }));
        const values: Tensor[] = [...x];
        for (const step of steps) {
          const y = step(values, device, dtype);
          values.push(noise === null ? y : y.mul(near(y, noise)));
        }
        const rng = new Generator(this.#seed + 1);
        const weighted = (t: Tensor) => {
          const w = tensor(
            Array.from({ length: t.size }, () => rng.normal()),
            { shape: t.shape, dtype, device },
          );
          return t.mul(w).sum();
        };
        const loss = [...x.map(t => t.square()), ...values.slice(-3)].map(weighted).reduce((a, b) => a.add(b));
        const flat = (gradients: readonly (Tensor | null)[]) =>
          Float64Array.from(gradients.flatMap((g, i) => (g === null ? leaves[i]!.map(() => 0) : [...g.dataSync()])));
        const first = grad(loss, x, { createGraph: true, allowUnused: true });
        const ends = first.flatMap(g => (g?.requiresGrad ? [weighted(g)] : []));
        const mixed = ends.length === 0 ? null : ends.reduce((a, b) => a.add(b));
        const second = mixed === null ? x.map(() => null) : grad(mixed, x, { allowUnused: true });
        return { loss: loss.item(), mixed: mixed?.item() ?? 0, first: flat(first), second: flat(second) };
      });
    } catch (error) {
      return `threw ${error instanceof Error ? error.stack : error}: ${this.log.join('; ')}`;
    }
  }

  /** The largest changes of gradients where leaves and every result on the way move a little. */
  #room(steps: readonly Step[], shapes: readonly (readonly number[])[], leaves: readonly number[][]): Result {
    const still = this.#evaluate(steps, shapes, leaves, 'reference', 'float64') as Result;
    const room = { loss: 0, mixed: 0, first: still.first.map(() => 0), second: still.second.map(() => 0) };
    const rng = new Generator(this.#seed);
    for (let i = 0; i < 4; i++) {
      const moved = leaves.map(x =>
        x.map(v => v * (1 + NUDGE * (2 * rng.uniform() - 1)) + NUDGE * (rng.uniform() - 0.5)),
      );
      const there = this.#evaluate(steps, shapes, moved, 'reference', 'float64', rng) as Result;
      for (const part of ['first', 'second'] as const) {
        // An element may move by what moves others: gradients are mixed on the way.
        const largest = Math.max(0, ...there[part].map((x, k) => Math.abs(x - still[part][k]!)));
        for (const k of room[part].keys()) room[part][k] = Math.max(room[part][k]!, largest);
      }
    }
    return room;
  }

  /** Gradients, and gradients of gradients, along a direction against differences, in float64. */
  #differences(
    steps: readonly Step[],
    shapes: readonly (readonly number[])[],
    leaves: readonly number[][],
  ): string | null {
    const device = this.#devices[this.#seed % this.#devices.length]!.name;
    const rng = new Generator(this.#seed + 2);
    const direction = leaves.map(x => x.map(() => rng.normal()));
    const along = (by: number) =>
      this.#evaluate(
        steps,
        shapes,
        leaves.map((x, i) => x.map((v, j) => v + by * direction[i]![j]!)),
        device,
        'float64',
      ) as Result;
    const here = along(0);
    const dot = (x: Float64Array) => direction.flat().reduce((sum, d, i) => sum + d * x[i]!, 0);
    const slope = (h: number) => {
      const [ahead, behind] = [along(h), along(-h)];
      return { first: (ahead.loss - behind.loss) / (2 * h), second: (ahead.mixed - behind.mixed) / (2 * h) };
    };
    const [coarse, fine] = STEPS.map(slope) as [ReturnType<typeof slope>, ReturnType<typeof slope>];
    let compared = false;
    for (const part of ['first', 'second'] as const) {
      const size = 1 + Math.abs(fine[part]) + (part === 'second' ? Math.abs(fine.first) : 0);
      if (!(Math.abs(coarse[part] - fine[part]) <= 1e-5 * size)) continue;
      compared = true;
      const got = dot(here[part]);
      if (!(Math.abs(got - fine[part]) <= CLOSE * size))
        return `${device}: ${part} derivative along a direction is ${got}, by differences ${fine[part]}: ${this.log.join('; ')}`;
    }
    if (compared) this.#counts.differences++;
    return null;
  }
}
