/** Checks that run on a device and are told by reads: which were entered, and what is undone when one has failed. */

/** What a read that is called now is to be told of. */
export type Mark<C> = { readonly checks: ReadonlyMap<number, C>; readonly last: number };

/**
 * The checks of a device that is read with await, from when they are entered until reads have told that they passed, or that one
 * has failed. Then those behind that one are told with it. `C` is what the device has to remember of a check to word its error.
 */
export class PendingChecks<C> {
  /** By number; another map after each failure that was told, by which reads know what is theirs. */
  #checks = new Map<number, C>();
  #last = 0;
  /** What is to be undone if a check up to `after` has failed. */
  #undos: { readonly after: number; readonly undo: () => void }[] = [];

  /** Enters a check. Returns its number, from 1 on, which the device keeps where it fails. */
  add(check: C): number {
    this.#checks.set(++this.#last, check);
    return this.#last;
  }

  /** See `Backend.onFailure`. */
  onFailure(undo: () => void): void {
    if (this.#checks.size > 0) this.#undos.push({ after: this.#last, undo });
  }

  mark(): Mark<C> {
    return { checks: this.#checks, last: this.#last };
  }

  /** All checks that a read was to be told of have passed. */
  passed({ checks, last }: Mark<C>): void {
    if (checks !== this.#checks) return;
    for (const number of this.#checks.keys()) {
      if (number > last) break;
      this.#checks.delete(number);
    }
    this.#undos = this.#undos.filter(({ after }) => after > last);
  }

  /**
   * The error of a check that has failed, for a read to reject with. The first read that does not peek tells it: `clear` is called, by
   * which the device writes again, and then what was undone is undone, the last first. What throws there becomes the error's `cause`.
   *
   * @param errorOf the error of a check, from what the device has found
   */
  tell(mark: Mark<C>, failed: number, peek: boolean, errorOf: (check: C) => Error, clear: () => void): Error {
    const broken: unknown[] = [];
    if (!peek && this.#checks === mark.checks) {
      const undos = this.#undos.filter(({ after }) => after >= failed);
      this.#checks = new Map();
      this.#undos = [];
      clear();
      for (const { undo } of undos.reverse()) attempt(undo, broken);
    }
    const error = errorOf(mark.checks.get(failed)!);
    if (broken.length > 0) error.cause = new AggregateError(broken, 'undoing what the check refused has failed too');
    return error;
  }
}

/** What one undo throws must not keep others from running. */
function attempt(undo: () => void, errors: unknown[]): void {
  try {
    undo();
  } catch (error) {
    errors.push(error);
  }
}
