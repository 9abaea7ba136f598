/** The host's synchronous garbage collection, trusted only after it was seen to work. */

import { makeCollector } from '#host';

/** Collects garbage before it returns, so that WeakRefs of unreachable objects are empty afterwards. */
export type Collector = () => void;

const SAMPLE = 64;

/** Whether `collect` empties WeakRefs of objects that nothing reaches; a few may still lie on the stack. */
function selfTest(collect: Collector): boolean {
  const refs: WeakRef<object>[] = [];
  (() => {
    for (let i = 0; i < SAMPLE; i++) refs.push(new WeakRef({ i }));
  })();
  const kept = { i: -1 };
  const alive = new WeakRef(kept);
  collect();
  const empty = refs.filter(ref => ref.deref() === undefined).length;
  collect();
  return empty >= SAMPLE - 4 && alive.deref() === kept;
}

let known: Collector | null | undefined;

/** The collector of this host, tested once at the first call (some milliseconds); null where there is none. */
export function collector(): Collector | null {
  if (known === undefined) {
    try {
      known = makeCollector();
      if (known !== null && !selfTest(known)) known = null;
    } catch {
      known = null;
    }
  }
  return known;
}
