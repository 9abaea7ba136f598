/** What `registerBackend` refuses, before anything is registered. */

import assert from 'node:assert/strict';
import { type Backend, ComposedBackend, getBackend, ReferenceBackend, registerBackend, zeros } from '@otimes/core';
import t from 'tap';
import { Dozen, Narrow, Queued } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';

/** As from plain JavaScript: without the methods of these names. */
const without = (backend: Backend, ...names: string[]): Backend => {
  for (const name of names) Object.defineProperty(backend, name, { value: undefined });
  return backend;
};

const refused = (backend: Backend, error: { name: string; message: string | RegExp }) => {
  assert.throws(() => registerBackend(backend), error);
  assert.throws(() => getBackend(backend.device), /no backend is registered/);
};

law(t, 'a device without a kernel is refused, by its name, that of its class and what is missing', () => {
  const end = '; ComposedBackend and AwaitedBackend have all but a dozen kernels';
  const says = (what: string) => ({ name: 'TypeError', message: `registerBackend: the device ${what}${end}` });
  const kernels = 'store copy assign fill unary binary where reduce argReduce matmul gather scatterAdd allocate';
  for (const name of kernels.split(' '))
    refused(without(new Dozen('lacks'), name), says(`'lacks' of class Dozen has no ${name}`));
  for (const name of ['moments', 'softmax', 'normalize'])
    refused(without(new ReferenceBackend('lacks'), name), says(`'lacks' of class ReferenceBackend has no ${name}`));
  refused(without(new Dozen('lacks'), 'read'), says(`'lacks' of class Dozen has no read or readAsync`));
  for (const name of ['fetch', 'write'])
    refused(without(new Queued('lacks'), name), says(`'lacks' of class Queued has no ${name}`));
  // @ts-expect-error: the kernels are abstract
  class Bare extends ComposedBackend {
    device = 'bare';
  }
  refused(
    new Bare(),
    says(
      "'bare' of class Bare has no read or readAsync, allocate, assign, copy, fill, store, binary, unary, where, argReduce, reduce, gather, scatterAdd, matmul",
    ),
  );
  registerBackend(without(new ReferenceBackend('whole'), 'checkIndex', 'checkFinite'));
  assert.deepEqual(zeros([2], { device: 'whole' }).toArray(), [0, 0]);
});

law(t, 'the dtypes of a device are a list of dtypes with float32, int32 and bool', () => {
  const wrong = [['float32'], ['float32', 'int32'], ['float32', 'int32', 'bool', 'float16'], 'float32', [], null];
  for (const dtypes of wrong)
    refused(Object.assign(new Narrow('few'), { dtypes }) as Backend, {
      name: 'DTypeError',
      message:
        /^registerBackend: Narrow 'few': expected dtypes to be a list of dtypes with 'float32', 'int32' and 'bool', .*, got /,
    });
  registerBackend(new Narrow('enough'));
  registerBackend(Object.assign(new Dozen('all'), { dtypes: undefined }) as unknown as Backend);
});
