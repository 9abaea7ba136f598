/** Which call of `backward` is running, and who wants to know how it ended. */

/** Told whether the pass left its gradients; if not, it threw and left none. */
type Ending = (completed: boolean) => void;

type Pass = { readonly number: number; readonly endings: Ending[] };

let passes = 0;
let current: Pass | null = null;

/** A number of the call of `backward` that is running, 0 outside of any and inside `grad`: for hooks that tell passes apart. */
export function backwardPass(): number {
  return current?.number ?? 0;
}

/**
 * Calls `ending` when the backward pass that is running has ended, the last that was registered first. For hooks that
 * collect something: of a pass that threw, no gradient stays, and nothing else should.
 */
export function onBackwardEnd(ending: Ending): void {
  if (current === null) throw new Error('onBackwardEnd: no backward pass is running');
  current.endings.push(ending);
}

/** Runs `run` as a backward pass. */
export function asPass(run: () => void): void {
  const outer = current;
  const endings: Ending[] = [];
  current = { number: ++passes, endings };
  let completed = false;
  try {
    run();
    completed = true;
  } finally {
    current = outer;
    while (endings.length > 0) endings.pop()!(completed);
  }
}

/** Runs `run` as no part of the backward pass around it. */
export function outsidePass<T>(run: () => T): T {
  const outer = current;
  current = null;
  try {
    return run();
  } finally {
    current = outer;
  }
}
