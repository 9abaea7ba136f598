// A test is a law: its title says what holds, its body throws where it does not.
import type { Test } from 'tap';

export function law(on: Test, title: string, holds: () => void | Promise<void>): void {
  on.test(title, async t => {
    await holds();
    t.pass('holds');
  });
}
