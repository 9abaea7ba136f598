/** What `gpuKernel` takes as a function, and what of its text it refuses, by name. */

import assert from 'node:assert/strict';
import { grad, type Tensor, tensor } from '@otimes/core';
import { gpuKernel, type KernelThis } from '@otimes/gpu';
import t from 'tap';
import { laterDevice } from './helpers/later.ts';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');

const methods = {
  square(x: number) {
    return x * x;
  },
  async later(x: number) {
    return x;
  },
  *many(x: number) {
    yield x;
  },
  get one() {
    return 1;
  },
};
class Functions {
  half(this: KernelThis, x: number) {
    return x / this.constants.two!;
  }
  twice(x: number) {
    return 2 * x;
  }
  get(x: number) {
    return this.#own(x);
  }
  own() {
    return this.#own;
  }
  #own(x: number) {
    return -x;
  }
}
const getter = String(Object.getOwnPropertyDescriptor(methods, 'one')!.get);

law('methods are functions, of objects and classes, as gradients and as text', async () => {
  const kernels = [
    gpuKernel(methods.square, {
      gradient(gy, x) {
        return [2 * gy * x];
      },
    }),
    gpuKernel(new Functions().half, {
      constants: { two: 2 },
      gradient: 'slope(gy) { return [gy / this.constants.two]; }',
    }),
    gpuKernel(new Functions().twice, { gradient: gy => [2 * gy] }),
    gpuKernel(new Functions().own(), { gradient: gy => [-gy] }),
    gpuKernel(String(methods.square), { gradient: '(gy, x) => [gy * x * 2] // of x²' }),
  ];
  for (const device of ['cpu', 'gpu']) {
    const x = tensor([-3, 4], { device });
    x.requiresGrad = true;
    const made = kernels.map(kernel => kernel(x)).flatMap(y => [y, ...grad(y.sum(), [x])]);
    const found = await Promise.all(made.map(async y => [...(await y!.data())]));
    assert.deepEqual(found, [
      [9, 16],
      [-6, 8],
      [-1.5, 2],
      [0.5, 0.5],
      [-6, 8],
      [2, 2],
      [3, -4],
      [-1, -1],
      [9, 16],
      [-6, 8],
    ]);
  }
});

/** Runs where a page's policy denies that text becomes code. */
async function withoutEvaluation<T>(run: () => Promise<T>): Promise<T> {
  const { Function: original, eval: evaluate } = globalThis;
  const denied = () => {
    throw new EvalError('text is no code here');
  };
  globalThis.Function = new Proxy(original, { apply: denied, construct: denied });
  globalThis.eval = denied;
  try {
    return await run();
  } finally {
    Object.assign(globalThis, { Function: original, eval: evaluate });
  }
}

law('a text is evaluated for a CPU alone, when it runs there', () =>
  withoutEvaluation(async () => {
    const kernel = gpuKernel('(x) => x*x+1', { gradient: '(gy, x) => [2 * gy * x]' });
    const x = tensor([1, -3], { device: 'gpu', requiresGrad: true });
    const y = kernel(x);
    assert.deepEqual([...(await y.data())], [2, 10]);
    assert.deepEqual([...(await grad(y.sum(), [x])[0]!.data())], [2, -6]);
    assert.throws(() => kernel(tensor([1])), {
      message: /on a CPU a function's text has to be evaluated.*EvalError: text is no code here/,
    });
    const half = gpuKernel((x: number) => x / 2, { gradient: 'gy => [gy / 2]' });
    const z = tensor([4], { requiresGrad: true });
    assert.equal(half(z).item(), 2);
    assert.throws(() => half(z).sum().backward(), {
      message: /gradient: on a CPU .* has to be evaluated/,
    });
  }),
);

const unset = (name: string) => new RegExp(`may have no value here; give ${name} a value where it is declared`);
const early = (name: string) => new RegExp(`cannot translate ${name}: it is used before its declaration`);
const variables: [RegExp, string][] = [
  [unset('y'), 'let y; return y;'],
  [unset('y'), 'let y; y += x; return x;'],
  [unset('y'), 'let y; y++; return x;'],
  [unset('y'), 'let z = 1, y; return z + y;'],
  [unset('y'), 'let y; if (x > 0) y = 1; return y;'],
  [unset('y'), 'let y; if (x > 0) y = 1; else if (x < -1) y = 2; return y;'],
  [unset('y'), 'let y; x > 0 && (y = 1); return y;'],
  [unset('y'), 'let y; return x > 0 ? (y = 1, y) : (x = 1, y);'],
  [unset('y'), 'let y; for (let i = 0; i < x; i++) y = i; return y;'],
  [unset('y'), 'let y; for (let i = 0; i < x; y = i) i++; return y;'],
  [unset('y'), 'let y; while (x > y) y = x; return x;'],
  [unset('y'), 'let y; do { if (x > 0) break; y = 1; } while (y > x); return y;'],
  [unset('y'), 'let z = 0; while (z < 2) { let y; if (z > 0) x += y; y = 3; z++; } return x;'],
  [/var y = 1;: var is not there, use let/, 'var y = 1; return y;'],
  [/var is not there, use let/, '{ var x = 2; } return x;'],
  [/var is not there, use let/, 'for (var i = 0; i < 3; i++) x += i; return i;'],
  [/var is not there, use let/, 'return Math.sin(x); var Math;'],
  [/no function inside/, 'return Math.sin(x); function Math() {}'],
  [/y = x: y is const, which has one value; use let/, 'const y = 1; y = x; return y;'],
  [/y\+\+: y is const/, 'const y = 1; y++; return y;'],
  [/y \*= 2: y is const/, 'const y = 1; { x > 0 && (y *= 2); } return y;'],
  [/i\+\+: i is const/, 'for (const i = 0; i < x; i++) x--; return x;'],
  [early('x'), '{ let x = x + 1; return x; }'],
  [early('x'), 'if (x > 0) { const y = x; let x = 2; return y + x; } return 1;'],
  [early('y'), 'let z = y, y = 1; return z;'],
  [early('y'), 'y = 1; let y = 2; return y;'],
  [early('Math'), 'const y = Math.sin(x), Math = 1; return y;'],
  [early('x'), 'for (let i = 0, x = x; i < 1; i++) {} return 1;'],
];
t.test('a variable is used where it has its value, and a const keeps it: else it is told by name', async () => {
  for (const [message, body] of variables) assert.throws(() => gpuKernel(`x => { ${body} }`), { message }, body);
});

const outside = 3;
const leaky = gpuKernel((x: number, slope: number) => (x > 0 ? x : slope * x), { name: 'leaky' });
const bad: [RegExp, () => unknown][] = [
  [/cannot translate outside: it is not of the function/, () => gpuKernel((x: number) => x * outside)],
  [/cannot translate 'a': kernels compute with numbers, and have no string/, () => gpuKernel("x => x + 'a'")],
  [/it may come to its end without a return/, () => gpuKernel('x => { if (x > 0) return 1; }')],
  [/expected a return with a value/, () => gpuKernel('x => { return; }')],
  [/cannot translate Math.random\(\): kernels call/, () => gpuKernel((x: number) => x + Math.random())],
  [/expected 1 argument, got 2/, () => gpuKernel('x => Math.sin(x, 1)')],
  [/arguments are plain names/, () => gpuKernel('({ a }) => a')],
  [/the operator \| is not there/, () => gpuKernel((x: number) => x | 0)],
  [/no function inside/, () => gpuKernel('x => { const f = y => y; return f(x); }')],
  [/neither async/, () => gpuKernel('async x => x')],
  [/expected the text of a function/, () => gpuKernel('x y')],
  [/expected the text of a function, got m\(x\) \{\} n/, () => gpuKernel('m(x) {} n(x) {}')],
  [/sin: Math\.sin is native code, wrap it: x => Math\.sin\(x\)/, () => gpuKernel(Math.sin)],
  [/wrap it: \(x, y\) => Math\.atan2\(x, y\)/, () => gpuKernel(Math.atan2)],
  [/bound square is native code, as all that bind makes/, () => gpuKernel(methods.square.bind(null))],
  [
    /gradient: bound is native code/,
    () => gpuKernel((x: number) => x, { gradient: ((gy: number) => [gy]).bind(null) }),
  ],
  [/neither async nor a generator/, () => gpuKernel(methods.later as never)],
  [/neither async nor a generator/, () => gpuKernel(methods.many as never)],
  [/get one\(\) .*expected a function, and this is a getter/, () => gpuKernel(getter)],
  [/class Functions .*expected a function/, () => gpuKernel(Functions as never)],
  [/this\.#own/, () => gpuKernel(new Functions().get)],
  [
    /the option constants has b/,
    () => gpuKernel('function (x) { return this.constants.a + x; }', { constants: { b: 1 } }),
  ],
  [/expected an array of 2/, () => gpuKernel((x: number, y: number) => x + y, { gradient: gy => [gy] })],
  [
    /expected gradient or backward, got both/,
    () => gpuKernel((x: number) => x, { gradient: gy => [gy], backward: gy => [gy] }),
  ],
  [/expected a function of at least one argument/, () => gpuKernel(() => 1)],
  [/leaky: expected 2 arguments \(x, slope\), got 1/, () => (leaky as (...x: Tensor[]) => Tensor)(tensor([1]))],
  [/expected a tensor among \(x, slope\), got numbers alone/, () => leaky(1, 2)],
  [/expected floating tensors, got int32\[1\]/, () => leaky(tensor([1], { dtype: 'int32' }), 2)],
  [/leaky: /, () => leaky('1' as never, 2)],
];
t.test('what a kernel cannot have or take is told by name', async () => {
  for (const [message, f] of bad) assert.throws(f, { message });
  assert.throws(() => leaky(tensor([1], { device: laterDevice().device }), 1), {
    message: /expected the device 'gpu', or one that is read at once/,
  });
});
