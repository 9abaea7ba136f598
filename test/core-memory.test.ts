// Who holds memory: gradients that share it, ndarrays that outlive tensors, heaps that are full, passes that fail.
import assert from 'node:assert/strict';
import {
  concat,
  full,
  Generator,
  grad,
  noGrad,
  type Operand,
  OutOfMemoryError,
  ones,
  ReferenceBackend,
  ReleasedError,
  registerBackend,
  scope,
  type Tensor,
  tensor,
  WasmBackend,
  zeros,
} from '@otimes/core';
import { createKernels } from '@otimes/kernels';
import { Linear, type Module, mlp, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { Adam, SGD, STEVE } from '@otimes/optim';
import fc from 'fast-check';
import type { NdArray } from 'ndarray';
import t from 'tap';
import { law } from './helpers/law.ts';
import { checkGraph } from './suites/graphs.ts';
import { opEntries } from './suites/ops.ts';

const leaf = (x: number[]) => tensor(x, { dtype: 'float64', requiresGrad: true });
const shown = (x: Tensor | null) => String(x?.toArray());
const scaleAll = (xs: readonly Tensor[], by: number) =>
  noGrad(() => {
    for (const x of xs) x.scale_(by);
  });
/** Fills what was released with other numbers. */
const churn = () => {
  for (let i = 0; i < 1500; i++) tensor(new Float32Array(5000).fill(-i)).add(1);
};

law(t, 'backward and grad of 500 random graphs give what they give where nothing is released early', async () => {
  for (let seed = 0; seed < 500; seed++) {
    const wrong = await checkGraph(seed, seed % 2 === 0 ? 'cpu' : 'reference', 3 + (seed % 14));
    assert.equal(wrong, null);
  }
});

law(
  t,
  'sums that use an operand again: the gradients of (a + b) + a and its like, for leaves and intermediates',
  () => {
    const w = tensor([3, 5], { dtype: 'float64' });
    const cases: [(a: Tensor, b: Tensor) => Tensor, a: string, b: string][] = [
      [(a, b) => a.add(a).add(a).add(b.mul(0)), '9,15', '0,0'],
      [a => a.add(a.add(a)), '9,15', 'undefined'],
      [(a, b) => a.add(b).add(a), '6,10', '3,5'],
      [(a, b) => a.add(a.add(b)), '6,10', '3,5'],
      [(a, b) => a.add(a.add(b).reshape([2, 1]).reshape([2])), '6,10', '3,5'],
      [(a, b) => a.sub(a.neg().sub(b)), '6,10', '3,5'],
      [(a, b) => b.add(a).add(a), '6,10', '3,5'],
    ];
    for (const [build, ga, gb] of cases)
      for (const through of [(x: Tensor) => x, (x: Tensor) => x.mul(1)]) {
        const [a, b] = [leaf([1, 2]), leaf([1, 2])];
        build(through(a), through(b)).mul(w).sum().backward();
        assert.deepEqual([shown(a.grad), shown(b.grad)], [ga, gb]);
      }
    const x = leaf([1, 2]);
    x.add(x.add(x.tanh())).mul(w).sum().backward();
    const expected = [1, 2].map((v, i) => [3, 5][i]! * (3 - Math.tanh(v) ** 2));
    assert.ok((x.grad!.toArray() as number[]).every((g, i) => Math.abs(g - expected[i]!) < 1e-12));
  },
);

law(
  t,
  'what grad gives is the caller’s alone: writing to one changes no other, nor gy, nor does it repeat elements',
  () => {
    for (const createGraph of [false, true]) {
      const [w, b1, b2] = [leaf([1, 1]), leaf([0, 0]), leaf([0, 0])];
      const gradients = grad(w.mul([1, 2]).add(b1).add(b2).square().sum(), [w, b1, b2], { createGraph });
      scaleAll(gradients, 0.5);
      assert.deepEqual(gradients.map(shown), ['1,4', '1,2', '1,2']);

      const gy = tensor([1, 1], { dtype: 'float64' });
      scaleAll(grad(w.add(1), [w], { gy, createGraph }), 10);
      assert.equal(shown(gy), '1,1');

      const h = w.mul(2);
      const [gh, gw] = grad(h.sum(), [h, w], { createGraph });
      scaleAll([gh!], 3);
      assert.deepEqual([shown(gh!), shown(gw!)], ['3,3', '2,2']);
    }
  },
);

law(t, 'a hook may write to the gradient it sees: those of other tensors, and gy, stay', () => {
  const [a, b] = [leaf([1, 2]), leaf([3, 4])];
  const double = (g: Tensor) => {
    noGrad(() => g.scale_(10));
  };
  a.onGrad(double);
  a.add(b).square().sum().backward();
  assert.deepEqual([shown(a.grad), shown(b.grad)], ['80,120', '8,12']);

  const [c, gy] = [leaf([1, 2]), tensor([1, 1], { dtype: 'float64' })];
  const y = c.add(0);
  y.onGrad(double);
  y.backward(gy);
  assert.deepEqual([shown(c.grad), shown(gy)], ['10,10', '1,1']);

  const d = leaf([1, 2]);
  const sum = d.sum(0, { keepdim: true }).expand(2);
  d.onGrad(double); // its gradient repeats one element
  sum.sum().backward();
  assert.equal(shown(d.grad), '20,20');
});

law(t, 'a gradient is like its tensor: shape, dtype and device', () => {
  const a = leaf([1, 2, 3]);
  for (const [g, says] of [
    [
      zeros([2, 3], { dtype: 'float64' }),
      /grad: expected a gradient like the tensor, float64\[3\], got float64\[2,3\]/,
    ],
    [zeros([3]), /got float32\[3\]/],
    [zeros([3], { dtype: 'float64', device: 'reference' }), /expected tensors on one device, got cpu and reference/],
    [[1, 2, 3], /grad: expected the gradient to be a tensor, got \[1, 2, 3\]/],
  ] as [Tensor, RegExp][])
    assert.throws(() => {
      a.grad = g;
    }, says);
  assert.equal(a.grad, null);
});

law(t, 'a backward pass that fails while it hands gradients out leaves none', () => {
  class Full extends ReferenceBackend {
    copies = 0;
    override copy(x: Operand, out: Operand): void {
      if (++this.copies === 1) throw new RangeError('no memory, on purpose');
      super.copy(x, out);
    }
  }
  registerBackend(new Full('full once'));
  const o = { device: 'full once', requiresGrad: true };
  const [a, b] = [ones([3], o), ones([3], o)];
  const y = a.add(b).sum();
  assert.throws(() => y.backward(), /on purpose/);
  assert.deepEqual([a.grad, b.grad], [null, null]);
  y.backward();
  assert.deepEqual([shown(a.grad), shown(b.grad)], ['1,1,1', '1,1,1']);
});

// --- ndarrays ---------------------------------------------------------------------------------------------------------

law(t, 'an ndarray keeps its elements: past the scope of its tensor, and through any view of its data', () => {
  let a!: NdArray<Float32Array>;
  scope(() => {
    a = full([5000], 3).ndarray() as NdArray<Float32Array>;
  });
  const row = (() => (full([5000], 3).ndarray().data as Float32Array).subarray(0, 4))();
  const over = scope(() => tensor(full([5000], 3).ndarray()));
  churn();
  assert.deepEqual([a.get(0), a.get(4999), String(row), over.sum().item()], [3, 3, '3,3,3,3', 15_000]);
  const victims = Array.from({ length: 50 }, () => full([5000], 7));
  a.set(0, 99);
  row.fill(99);
  assert.ok(victims.every(v => v.min().item() === 7 && v.max().item() === 7));
});

law(t, 'an ndarray of an intermediate, of a gradient and of a hook’s gradient stays what it was', () => {
  const x = full([5000], 2, { requiresGrad: true });
  const seen: NdArray<Float32Array>[] = [];
  const model = new Sequential(new Tanh(), new Tanh());
  model.layers[0]!.onForward((_, __, y) => {
    if (y !== null && typeof y === 'object' && 'ndarray' in y)
      seen.push((y as Tensor).ndarray() as NdArray<Float32Array>);
  });
  x.onGrad(g => {
    seen.push(g.ndarray() as NdArray<Float32Array>);
  });
  model.call(x).sum().backward();
  seen.push(x.grad!.ndarray() as NdArray<Float32Array>);
  const before = seen.map(a => a.get(17));
  x.grad = null;
  churn();
  assert.deepEqual(
    seen.map(a => a.get(17)),
    before,
  );
});

law(t, 'parameters that an ndarray sees train as others do, to the bit', () => {
  for (const make of [
    (m: Module) => new Adam(m.parameters(), { weightDecay: 0.1 }),
    (m: Module) => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 }),
    (m: Module) => new SGD(m.parameters(), { lr: 0.1 }),
    (m: Module) => new STEVE(m, { route: 'gradient' }),
  ]) {
    const train = (exposes: boolean) => {
      const rng = new Generator(3);
      const model = mlp([4, 6, 2], { rng });
      const views = exposes ? model.parameters().map(p => p.ndarray()) : [];
      const optimizer = make(model);
      for (let step = 0; step < 4; step++) {
        optimizer.zeroGrad();
        mseLoss(model.call(ones([5, 4]).mul(step)), ones([5, 2])).backward();
        optimizer.step();
      }
      const values = model.parameters().map(p => String(p.dataSync()));
      views.forEach((view, i) => {
        assert.equal(String(view.data), values[i]);
      });
      return values;
    };
    assert.deepEqual(train(true), train(false));
  }
});

// --- code of the program inside of the library's --------------------------------------------------------------------

law(t, 'an optimizer, a layer and hooks of the program keep what they see and make', () => {
  const seen: Tensor[] = [];
  class Remembers extends SGD {
    protected override slotNames(o: Parameters<SGD['slotNames']>[0]): readonly string[] {
      return [...super.slotNames(o), 'own'];
    }
    protected override update(...[p, g, state, o]: Parameters<SGD['update']>): void {
      seen.push(g, g.mul(2));
      state.slots.set('own', g.add(p));
      super.update(p, g, state, o);
    }
  }
  class Keeps extends Linear {
    override forward(x: Tensor): Tensor {
      const y = super.forward(x);
      seen.push(x, y);
      return y;
    }
  }
  const rng = new Generator(4);
  const model = new Sequential(
    new Linear(3, 4, { rng }),
    new Keeps(4, 4, { rng }),
    new Tanh(),
    new Linear(4, 2, { rng }),
  );
  model.layers[2]!.onForward((_, __, y) => {
    seen.push((y as Tensor).mul(3), (y as Tensor).detach());
  });
  model.layers[3]!.beforeForward((_, [x]) => {
    seen.push((x as Tensor).sum());
  });
  const optimizer = new Remembers(model.parameters(), { lr: 0.1 });
  const values = () => seen.map(x => String(x.toArray()));
  for (const evaluates of [false, true]) {
    seen.length = 0;
    optimizer.zeroGrad();
    if (evaluates) noGrad(() => model.call(ones([5, 3])));
    else {
      mseLoss(model.call(ones([5, 3])), ones([5, 2])).backward();
      optimizer.step();
    }
    const before = values();
    optimizer.zeroGrad();
    churn();
    assert.deepEqual(values(), before);
    assert.ok(seen.length >= 5);
  }
  assert.ok(Object.entries(optimizer.stateDict()).every(([, x]) => x.toArray() !== undefined));
});

// --- scopes -----------------------------------------------------------------------------------------------------------

law(t, 'a result that leaves its scope, returned or kept, is differentiated as one that was made outside', () => {
  for (const [seed, op] of opEntries.entries()) {
    if (op.differentiable === false) continue;
    for (const use of fc.sample(op.use, { seed, numRuns: 3 })) {
      const inputs = use.inputs.map(({ shape, domain, dtype = 'float64' }, i) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const values = fc.sample(domain(size, dtype !== 'float64'), { seed: seed + i, numRuns: 1 })[0]!;
        return tensor(values, { shape, dtype, requiresGrad: dtype === 'float64' });
      });
      const kept = () => {
        let y: Tensor | undefined;
        scope(() => {
          y = use.run(...inputs).keep();
        });
        return y!;
      };
      const leaves = inputs.filter(x => x.requiresGrad);
      const [outside, ...inside] = [() => use.run(...inputs), () => scope(() => use.run(...inputs)), kept].map(make => {
        const y = make();
        return y.requiresGrad
          ? grad(y, leaves, { gy: ones(y.shape, { dtype: y.dtype }), allowUnused: true }).map(shown)
          : null;
      });
      for (const gradients of inside) assert.deepEqual(gradients, outside, op.name);
    }
  }
});

// --- full heaps -------------------------------------------------------------------------------------------------------

law(t, 'past the soft limit operations go on, mixed operands and in-place ones too', () => {
  const scratch = createKernels()!.heap.stats.live;
  const kernels = createKernels({ heap: { collector: null, softLimit: scratch + 2_000_000, warn: () => {} } })!;
  registerBackend(new WasmBackend('full', kernels));
  const device = 'full';
  // Room for small results is left, none for large ones.
  const held = [...Array.from({ length: 64 }, (_, i) => ones([16 * (i + 1)], { device }))];
  for (let i = 0; i < 30; i++) held.push(ones([20_000], { device }));
  const calls: Record<string, (o: { device: string }) => Tensor> = {
    mseLoss: o => mseLoss(ones([300, 100], o), ones([300, 100], o).mul(3)),
    all: o => ones([300, 100], o).gt(0).all(),
    sum: o => ones([300, 100], o).sum(0),
    matmul: o => ones([3, 30_000], o).matmul(ones([30_000, 2], o)),
    addScaled_: o => ones([3], o).addScaled_(ones([9000, 3], o).sum(0), 2),
    concat: o => concat([ones([2], o), ones([30_000], o).narrow(0, 5, 3)]),
    loss: o => {
      const layer = new Linear(30_000, 2, { rng: new Generator(1) });
      if (o.device !== 'cpu') layer.to(o.device);
      mseLoss(layer.call(ones([4, 30_000], o).mul(0.01)), ones([4, 2], o)).backward();
      new Adam(layer.parameters()).step();
      return layer.bias!.detach();
    },
  };
  for (const [name, run] of Object.entries(calls)) {
    const [got, want] = [run({ device }), run({ device: 'reference' })];
    const [p, q] = [got.dataSync(), want.dataSync()];
    assert.ok(
      p.every((v, i) => Math.abs(v - q[i]!) <= 1e-5 * Math.abs(q[i]!)),
      `${name}: ${p}, expected ${q}`,
    );
  }
  // What kernels copied is given back by the next operation, though nothing collects here.
  const large = ones([30_000], { device }).mul(2);
  const before = kernels.heap.stats.live;
  for (let i = 0; i < 200; i++) noGrad(() => held[0]!.copy_(large.narrow(0, 0, 16)));
  large.sum();
  assert.ok(kernels.heap.stats.live <= before + 400_000, `${kernels.heap.stats.live - before} bytes more`);
  assert.equal(held.length, 94);
});

law(t, 'a memory that is not shared may grow under ndarrays and the tensors over them', () => {
  registerBackend(new WasmBackend('plain', createKernels({ memory: { shared: false, initial: 2 ** 25 } })!));
  const o = { device: 'plain' };
  const x = full([5000], 3, o);
  const view = x.ndarray();
  const over = tensor(view, o);
  const large = Array.from({ length: 8 }, () => ones([4_000_000], o));
  assert.deepEqual([over.sum().item(), x.sum().item(), view.get(4999), large.length], [15_000, 15_000, 3, 8]);
});

law(t, 'memory that is full is an error of its own, also inside a kernel', () => {
  const kernels = createKernels({ memory: { initial: 2 ** 24, maximum: 2 ** 25 } })!;
  registerBackend(new WasmBackend('small', kernels));
  assert.throws(() => ones([8_000_000], { device: 'small' }).mul(2), OutOfMemoryError);
  assert.equal(ones([100], { device: 'small' }).sum().item(), 100);
});

// --- what is told -----------------------------------------------------------------------------------------------------

law(t, 'what was released says why', () => {
  let lost!: Tensor;
  scope(() => {
    lost = ones([2]).mul(2);
  });
  assert.throws(() => lost.dataSync(), ReleasedError);
  assert.throws(() => lost.dataSync(), /released when its scope ended; return it from the scope/);
});
