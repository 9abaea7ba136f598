// Errors as tables: what is called, the class of its error, and the error's text.

import assert from 'node:assert/strict';
import { isRecording } from '@otimes/core';
import type { Test } from 'tap';
import { law } from './law.ts';

export type Case = [run: () => unknown, kind: new (message: string) => Error, message: RegExp];

/** Each message names the operation, what it expected, and what came. */
export function tells(on: Test, errors: Record<string, Case>): void {
  for (const [title, [run, kind, message]] of Object.entries(errors))
    law(on, `${title}: an error tells what was expected and what came`, () => {
      assert.throws(run, error => {
        assert.ok(error instanceof kind, `${error} is no ${kind.name}`);
        assert.equal(error.name, kind.name);
        assert.match(error.message, message);
        return true;
      });
      assert.ok(isRecording(), 'recording goes on after the error');
    });
}
