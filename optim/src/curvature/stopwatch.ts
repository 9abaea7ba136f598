/** How long the parts of a computation take. */

/** `P` names the parts. */
export class Stopwatch<P extends string> {
  /** Of each part, summed up. */
  readonly milliseconds: Record<P, number>;

  constructor(milliseconds: Record<P, number>) {
    this.milliseconds = milliseconds;
  }

  time<T>(part: P, run: () => T): T {
    const start = performance.now();
    try {
      return run();
    } finally {
      this.milliseconds[part] += performance.now() - start;
    }
  }
}
