/** Every operation against plain loops and central differences, on every backend. */

import assert from 'node:assert/strict';
import { ReferenceBackend, registerBackend, Tensor } from '@otimes/core';
import t from 'tap';
import { law } from './helpers/law.ts';
import { opEntries } from './suites/ops.ts';
import { opsSuite } from './suites/opsLaws.ts';

/** The reference, whose memory is never clean here, as in a pool: what an operation forgets to write shows. */
class Dirty extends ReferenceBackend {
  override allocate(...[dtype, size]: Parameters<ReferenceBackend['allocate']>) {
    const memory = super.allocate(dtype, size);
    if (ArrayBuffer.isView(memory)) memory.fill(dtype === 'bool' ? 1 : 77);
    return memory;
  }
}
registerBackend(new Dirty('dirty'));

for (const device of ['cpu', 'dirty']) opsSuite(t, { device });

law(t, 'every method of Tensor is in the list of operations, or here with the reason', () => {
  const elsewhere = {
    'copy_ addScaled_ addcdiv_ scale_': 'write in place: core-writes.test.ts',
    'backward detach': 'belong to the graph: core-gradients.test.ts',
    'constructor make borrowGrad receiveGrad runGradHooks onGrad keep':
      'belong to what a tensor is: core-gradients.test.ts, core-lifetime.test.ts',
    'item number dataSync data array cpu toArray ndarray toString toJSON':
      'look at a tensor: core-tensor.test.ts, printing.test.ts',
    to: 'moves between devices: core-tensor.test.ts',
  };
  const listed = new Set([...opEntries.map(op => op.name), ...Object.keys(elsewhere)].flatMap(name => name.split(' ')));
  assert.deepEqual(
    Object.entries(Object.getOwnPropertyDescriptors(Tensor.prototype))
      .filter(([name, { value }]) => typeof value === 'function' && !listed.has(name))
      .map(([name]) => name),
    [],
  );
});
