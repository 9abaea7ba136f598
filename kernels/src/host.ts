/**
 * What differs between Node and browsers. `#host` in package.json resolves to node.ts or browser.ts by export condition,
 * so that no `node:` module reaches a browser's bundle.
 */

export interface Host {
  /** Turns relaxed SIMD on where the runtime has it behind a flag. */
  enableRelaxedSimd(): void;
  /**
   * A function that collects garbage before it returns and makes WeakRefs of unreachable objects empty, those made in the
   * running job too; null where there is none.
   */
  makeCollector(): (() => void) | null;
}
