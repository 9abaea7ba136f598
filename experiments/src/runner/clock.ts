/** What a training run costs: CPU seconds of the process and seconds by the clock, and CPU seconds by phase. */

export type Phase = 'data' | 'forward' | 'backward' | 'step' | 'evaluate';

export type Spent = {
  readonly cpuSeconds: number;
  readonly seconds: number;
  readonly phases: Readonly<Record<Phase, number>>;
};

/** User and system time of all threads of the process, in seconds. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** As records have seconds: to the microsecond, which is as fine as they are measured. */
export const rounded = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

/** All numbers of a record of them, as `rounded`. */
export const eachRounded = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, rounded(value)]));

/** Runs while the training does, and stands still for evaluations and checkpoints. */
export class Clock {
  readonly #phases: Record<Phase, number> = { data: 0, forward: 0, backward: 0, step: 0, evaluate: 0 };
  #cpu = 0;
  #seconds = 0;
  #since: { readonly cpu: number; readonly seconds: number } | null = null;

  start(): void {
    this.#since = { cpu: cpuSeconds(), seconds: performance.now() / 1000 };
  }

  stop(): void {
    if (this.#since === null) return;
    this.#cpu += cpuSeconds() - this.#since.cpu;
    this.#seconds += performance.now() / 1000 - this.#since.seconds;
    this.#since = null;
  }

  /** Counts CPU seconds of a phase. */
  add(phase: Phase, seconds: number): void {
    this.#phases[phase] += seconds;
  }

  /** Runs `work` as a phase. */
  async phase<T>(phase: Phase, work: () => T | Promise<T>): Promise<T> {
    const before = cpuSeconds();
    try {
      return await work();
    } finally {
      this.add(phase, cpuSeconds() - before);
    }
  }

  /** What was spent until now, or until `stop`. */
  get spent(): Spent {
    const since = this.#since;
    return {
      cpuSeconds: this.#cpu + (since === null ? 0 : cpuSeconds() - since.cpu),
      seconds: this.#seconds + (since === null ? 0 : performance.now() / 1000 - since.seconds),
      phases: { ...this.#phases },
    };
  }

  /** Goes on from what an earlier process spent. */
  resume({ cpuSeconds, seconds, phases }: Spent): void {
    this.#cpu = cpuSeconds;
    this.#seconds = seconds;
    Object.assign(this.#phases, phases);
  }
}
