/**
 * What the tests use of tap, for machines that have none: gpu-pack bundles them with this in its place. An assertion that
 * fails ends its test. Closes with 'N passed, N failed, N skipped'; the exit code is 1 where something failed.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

type Options = { readonly skip?: string | boolean; readonly timeout?: number };
type Body = (t: Test) => unknown;

const counts = { passed: 0, failed: 0, skipped: 0 };
/** Titles of what runs, for the case that the process ends early. */
const running: string[] = [];

export class Test {
  readonly #path: readonly string[];
  /** Tests within run one after the other, in the order of their calls. */
  #last: Promise<unknown> = Promise.resolve();
  #inner = 0;
  readonly #teardowns: (() => unknown)[] = [];

  constructor(path: readonly string[]) {
    this.#path = path;
  }

  test(title: string, ...rest: [Body] | [Options, Body]): Promise<unknown> {
    const [o, body] = rest.length === 1 ? [{}, rest[0]] : rest;
    this.#inner++;
    const inner = new Test([...this.#path, title]);
    this.#last = this.#last.then(() => inner.#run(o, body));
    return this.#last;
  }

  async #run({ skip }: Options, body: Body): Promise<void> {
    const name = this.#path.join(' › ');
    if (skip !== undefined && skip !== false) {
      counts.skipped++;
      console.log(`skipped ${name}: ${skip}`);
      return;
    }
    const begun = performance.now();
    running.push(name);
    try {
      try {
        await body(this);
        await this.#settled();
      } finally {
        for (const teardown of this.#teardowns.reverse()) await teardown();
      }
      if (this.#inner > 0) return;
      counts.passed++;
      console.log(`ok ${name} (${(performance.now() - begun).toFixed(0)} ms)`);
    } catch (error) {
      counts.failed++;
      console.log(`NOT OK ${name}\n${error instanceof Error ? error.stack : error}`);
    } finally {
      running.pop();
    }
  }

  async #settled(): Promise<void> {
    for (let last: Promise<unknown> | null = null; last !== this.#last; ) {
      last = this.#last;
      await last;
    }
  }

  teardown(run: () => unknown): void {
    this.#teardowns.push(run);
  }

  /** An empty folder that is removed with the test. */
  testdir(): string {
    const folder = mkdtempSync(join(tmpdir(), 'test-'));
    this.teardown(() => rmSync(folder, { recursive: true }));
    return folder;
  }

  comment(text: string): void {
    console.log(`# ${text}`);
  }

  end(): void {}
  pass(_message?: string): void {}
  fail(message = 'failed'): never {
    assert.fail(message);
  }
  ok(value: unknown, message?: string): void {
    assert.ok(value, message);
  }
  notOk(value: unknown, message?: string): void {
    assert.ok(!value, message);
  }
  equal(actual: unknown, expected: unknown, message?: string): void {
    assert.equal(actual, expected, message);
  }
  not(actual: unknown, expected: unknown, message?: string): void {
    assert.notEqual(actual, expected, message);
  }
  same(actual: unknown, expected: unknown, message?: string): void {
    assert.deepEqual(actual, expected, message);
  }
  strictSame(actual: unknown, expected: unknown, message?: string): void {
    assert.deepEqual(actual, expected, message);
  }
  match(actual: string, expected: RegExp, message?: string): void {
    assert.match(actual, expected, message);
  }
  notMatch(actual: string, expected: RegExp, message?: string): void {
    assert.doesNotMatch(actual, expected, message);
  }
  throws(run: () => unknown, expected: assert.AssertPredicate = Error): void {
    assert.throws(run, expected);
  }
  async rejects(run: Promise<unknown> | (() => Promise<unknown>), expected: assert.AssertPredicate = Error) {
    await assert.rejects(run, expected);
  }
}

process.on('exit', code => {
  for (const name of running) {
    counts.failed++;
    console.log(`NOT OK ${name}\nthe process ended within it, with code ${code}`);
  }
  if (counts.passed + counts.failed + counts.skipped === 0) {
    counts.failed++;
    console.log('NOT OK: no test ran');
  }
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  if (counts.failed > 0) process.exitCode = 1;
});

export default new Test([]);
