/** checkpoint of activations: the bits of the plain call with less memory, whatever the function draws, writes, and contains. */

import assert from 'node:assert/strict';
import {
  checkpoint,
  defaultGenerator,
  Generator,
  getBackend,
  grad,
  isRecording,
  manualSeed,
  noGrad,
  ones,
  owningIntermediates,
  rand,
  randn,
  type Tensor,
  WasmBackend,
} from '@otimes/core';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Dropout,
  Linear,
  Module,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { EKFAC, KFAC, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const wide = { dtype: 'float64' } as const;
type Call = <A extends readonly unknown[], R extends Tensor | readonly Tensor[]>(fn: (...x: A) => R, ...x: A) => R;
const plainly: Call = (fn, ...x) => fn(...x);
const bits = (x: Tensor | null) => (x === null ? null : [...new Uint8Array(new Float64Array(x.dataSync()).buffer)]);

/** Layers of all kinds with shared weights, dropout and batch norm, of which a part runs by `call`. */
class Net extends Module {
  first: Conv2d;
  norm: BatchNorm2d;
  second: Conv2d;
  drop: Dropout;
  block: TransformerBlock;
  out: Linear;
  by: Call = plainly;
  constructor(seed: number, own: Generator | null = null) {
    super();
    const rng = new Generator(seed);
    const at = { rng, ...wide };
    this.first = new Conv2d(2, 4, 3, { padding: 1, ...at });
    this.norm = new BatchNorm2d(4, wide);
    this.second = new Conv2d(4, 4, 3, { padding: 1, ...at });
    this.drop = new Dropout(0.3, own === null ? {} : { rng: own });
    this.block = new TransformerBlock(4, 2, at);
    this.out = new Linear(4, 3, at);
  }
  override forward(x: Tensor): Tensor {
    const y = this.first.call(x);
    const z = this.by((a: Tensor) => {
      const once = this.second.call(this.norm.call(a).relu());
      return this.drop.call(this.second.call(once).add(a));
    }, y);
    // The convolution is used outside too, and y in several places: sums of many summands.
    const w = this.second.call(z).add(y);
    const positions = w.reshape(w.shape[0]!, 4, -1).transpose();
    return this.out.call(this.by((a: Tensor) => this.block.call(a), positions).mean(1));
  }
}

const images = randn([3, 2, 4, 4], { ...wide, rng: new Generator(2), requiresGrad: true });
const labels = ones([3], { dtype: 'int32' });

/** Loss, gradients, buffers, and the generators afterwards. */
function trained(by: Call, device = 'cpu') {
  manualSeed(5);
  const own = new Generator(6);
  const x = images.detach().to(device);
  x.requiresGrad = true;
  const model = new Net(1, own).to(device);
  model.by = by;
  const losses = [0, 1].map(() => {
    const loss = crossEntropy(model.call(x), labels.to(device));
    loss.backward();
    return loss;
  });
  return { x, model, losses, states: [defaultGenerator(), own].map(rng => [...rng.getState()]) };
}

law(t, 'loss, gradients, averages of batch norm and generators are those of the plain call, to the last bit', () => {
  for (const device of ['cpu', 'reference']) {
    const [expected, actual] = [trained(plainly, device), trained(checkpoint, device)];
    assert.deepEqual(actual.states, expected.states);
    assert.deepEqual(actual.losses.map(bits), expected.losses.map(bits));
    assert.deepEqual(bits(actual.x.grad), bits(expected.x.grad));
    const [ps, qs] = [actual, expected].map(({ model }) => model.parameters());
    for (const [i, p] of ps!.entries()) assert.deepEqual(bits(p.grad), bits(qs![i]!.grad), `parameter ${i}`);
    const [state, other] = [actual, expected].map(({ model }) => model.stateDict());
    for (const name of Object.keys(other!)) assert.deepEqual(bits(state![name]!), bits(other![name]!), name);
  }
});

law(t, 'so they are with checkpoints in checkpoints, and with the whole model in one', () => {
  const nested: Call = (fn, ...x) => checkpoint((...y: typeof x) => checkpoint(fn, ...y), ...x);
  const [expected, actual] = [trained(plainly), trained(nested)];
  for (const [i, p] of actual.model.parameters().entries())
    assert.deepEqual(bits(p.grad), bits(expected.model.parameters()[i]!.grad));
  const model = new Net(3).eval();
  const gradients = [plainly, checkpoint].map(call => {
    for (const p of model.parameters()) p.grad = null;
    crossEntropy(
      call((x: Tensor) => model.call(x), images),
      labels,
    ).backward();
    return model.parameters().map(p => bits(p.grad));
  });
  assert.deepEqual(gradients[1], gradients[0]);
});

law(
  t,
  'several outputs, of which some are used, of other dtypes, or inputs: each gradient is that of the plain call',
  () => {
    const w = randn([3, 3], { ...wide, rng: new Generator(1), requiresGrad: true });
    const x = randn([2, 3], { ...wide, rng: new Generator(2), requiresGrad: true });
    const f = (a: Tensor): Tensor[] => [a.matmul(w).tanh(), a, a.mul(w.sum()), a.gt(0), w.square()];
    for (const used of [[0], [1], [2, 0], [0, 1, 2, 4]]) {
      const gradients = [plainly, checkpoint].map(call => {
        const y = call(f, x);
        assert.equal(y[3]!.dtype, 'bool');
        const loss = used.map(i => y[i]!.mul(i + 1).sum()).reduce((a, b) => a.add(b));
        return grad(loss, [x, w], { allowUnused: true }).map(bits);
      });
      assert.deepEqual(gradients[1], gradients[0], String(used));
    }
    // A walk that ends at an output leaves nothing to the next.
    const y = checkpoint(f, x);
    grad(y[0]!.sum(), [y[0]!]);
    mustBeClose(grad(y[2]!.sum(), [x])[0]!, w.sum().expand([2, 3]).detach());
  },
);

law(t, 'second gradients are those of the plain call, by inputs, parameters and gy', () => {
  const w = randn([3, 3], { ...wide, rng: new Generator(1), requiresGrad: true });
  const x = randn([2, 3], { ...wide, rng: new Generator(2), requiresGrad: true });
  const [expected, actual] = [plainly, checkpoint].map(call => {
    const h = x.sin();
    const y = call((a: Tensor) => a.matmul(w).tanh().mul(a), h);
    const [gx, gw] = grad(y.square().sum(), [x, w], { createGraph: true });
    return grad(gx.square().sum().add(gw.mul(w).sum()), [x, w]);
  });
  for (const [i, g] of actual!.entries()) mustBeClose(g, expected![i]!, { rtol: 1e-12 });
});

law(t, 'inside of noGrad, and where nothing requires a gradient, it is the plain call', () => {
  let runs = 0;
  const f = (x: Tensor) => {
    runs++;
    return x.mul(2);
  };
  const x = ones([2], { requiresGrad: true });
  assert.equal(noGrad(() => checkpoint(f, x)).requiresGrad, false);
  assert.equal(checkpoint(f, ones([2])).requiresGrad, false);
  assert.equal(runs, 2);
  checkpoint(f, x).sum().backward();
  assert.equal(runs, 4);
  assert.equal(isRecording(), true);
});

law(t, 'what was drawn is drawn again, also after another seed, and the generators go on from where they were', () => {
  const x = ones([100], { ...wide, requiresGrad: true });
  const own = new Generator(3);
  manualSeed(1);
  const masked = (a: Tensor) =>
    a.mul(rand([100], wide).gt(0.5).astype('float64')).mul(randn([100], { ...wide, rng: own }));
  const y = checkpoint(masked, x);
  manualSeed(2);
  const after = [String(own.getState()), String(defaultGenerator().getState())];
  y.sum().backward();
  assert.deepEqual([String(own.getState()), String(defaultGenerator().getState())], after);
  assert.deepEqual(bits(x.grad), bits(y));
});

law(t, 'a write in place is done once, and the second run reads what the first read', () => {
  const count = ones([], wide);
  const x = ones([2], { ...wide, requiresGrad: true });
  const y = checkpoint((a: Tensor) => {
    const scaled = a.mul(count.clone());
    count.scale_(3);
    return scaled.mul(count.clone());
  }, x);
  assert.equal(count.item(), 3);
  count.scale_(5);
  y.sum().backward();
  assert.equal(count.item(), 15);
  assert.deepEqual(x.grad!.toArray(), [3, 3]);
});

law(t, 'an input or parameter that changed since, and a function that computes something else, are GraphErrors', () => {
  const w = ones([2], { ...wide, requiresGrad: true });
  const x = ones([2], { ...wide, requiresGrad: true });
  for (const changed of [w, x]) {
    const y = checkpoint((a: Tensor) => a.mul(w), x);
    noGrad(() => changed.scale_(2));
    assert.throws(() => y.sum().backward(), /^GraphError: checkpoint: backward needs its input \d, \[2\], as it was/);
  }
  let first = true;
  const changing = (other: (a: Tensor) => Tensor) => {
    first = true;
    return checkpoint((a: Tensor) => {
      const result = first ? a.mul(2) : other(a);
      first = false;
      return result;
    }, x);
  };
  assert.throws(
    () =>
      changing(a => a.sum())
        .sum()
        .backward(),
    /^GraphError: checkpoint: fn returned float64\[2\] in the forward pass and float64\[\] in the backward pass/,
  );
  assert.throws(
    () =>
      changing(a => a.mul(w))
        .sum()
        .backward(),
    /^GraphError: checkpoint: fn reads float64\[2\], which requires a gradient, in the backward pass, but did not/,
  );
  assert.throws(
    () =>
      changing(() => {
        throw new RangeError('mine');
      })
        .sum()
        .backward(),
    /^RangeError: mine/,
  );
});

law(t, 'between forward and backward a chain of n layers keeps the memory of its checkpoints alone', () => {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  const { heap } = backend.kernels;
  const rng = new Generator(1);
  const parts = Array.from({ length: 4 }, () => {
    const layers = Array.from({ length: 6 }, () => [new Linear(64, 64, { rng }), new ReLU()]).flat();
    return new Sequential(...layers);
  });
  const x = randn([1024, 64], { rng });
  const size = x.size * 4;
  const kept = [plainly, checkpoint].map(call => {
    heap.collect();
    const before = heap.stats.live;
    const y = parts.reduce((a, part) => call((b: Tensor) => part.call(b), a), x).sum();
    heap.collect();
    const after = heap.stats.live;
    y.backward();
    return (after - before) / size;
  });
  // A layer keeps its output and that of its activation: 48 of them, beside an output for each of the four parts.
  assert.ok(kept[0]! > 24, `plain: ${kept[0]}`);
  assert.ok(kept[1]! < 6, `checkpoints: ${kept[1]}`);
});

law(t, 'backward through a chain of n residual parts keeps the gradients of one part at a time', () => {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  const { heap } = backend.kernels;
  const rng = new Generator(1);
  const parts = Array.from({ length: 16 }, () => new Linear(64, 64, { rng }));
  const x = randn([1024, 64], { rng, requiresGrad: true });
  const run = (call: Call) => {
    x.grad = null;
    let live = 0;
    const atTheEnd = () => {
      heap.collect();
      live = heap.stats.live;
    };
    const hook = x.onGrad(atTheEnd, { borrows: true });
    const part = (layer: Linear) => (b: Tensor) => owningIntermediates(() => layer.call(b).add(b).relu());
    const y = parts.reduce((a: Tensor, layer) => call(part(layer), a), x).sum();
    heap.collect();
    const before = heap.stats.live;
    y.backward();
    hook.remove();
    return { tensors: (live - before) / (x.size * 4), gradient: bits(x.grad) };
  };
  const [expected, actual] = [plainly, checkpoint].map(run) as [ReturnType<typeof run>, ReturnType<typeof run>];
  assert.ok(actual.tensors < 4, `${actual.tensors} tensors`);
  assert.deepEqual(actual.gradient, expected.gradient);
});

law(t, 'gradients that pass a checkpoint as they are, or go two ways, and what fn keeps, are whole in the end', () => {
  const run = (call: Call) => {
    const x = randn([5, 3], { ...wide, rng: new Generator(2), requiresGrad: true });
    const kept: Tensor[] = [];
    const a = x.mul(2);
    const same = call((b: Tensor) => b.reshape([15]), a);
    // One gradient of the sum goes to a checkpoint and around it; another is the program's.
    const [u, v] = call(
      (b: Tensor) => {
        const c = b.mul(3);
        kept.push(c);
        return [c.add(b), b.add(1)] as const;
      },
      same.reshape([5, 3]).add(a),
    );
    const gy = randn([5, 3], { ...wide, rng: new Generator(3) });
    const seen: Tensor[] = [];
    u.onGrad(g => void seen.push(g));
    u.add(v).add(a).backward(gy);
    const last = kept.at(-1)!;
    return [x.grad, gy, last, ...seen].map(bits);
  };
  const [expected, actual] = [run(plainly), run(checkpoint)];
  assert.deepEqual(actual, expected);
  assert.equal(expected.length, 4);
});

law(t, 'on a device that is read with await nothing is read, and the gradients are those of cpu', async () => {
  const later = laterDevice();
  const [expected, actual] = [trained(plainly, 'reference'), trained(checkpoint, later.device)];
  for (const [i, p] of actual.model.parameters().entries())
    mustBeClose(await p.grad!.cpu(), expected.model.parameters()[i]!.grad!.to('cpu'), { rtol: 1e-9, atol: 1e-12 });
  assert.equal(later.instantReads, 0);
});

for (const [name, make] of Object.entries({
  KFAC: (model: Module, o: object) => new KFAC(model, { lr: 0.01, ...o }),
  EKFAC: (model: Module, o: object) => new EKFAC(model, { lr: 0.01, ...o }),
  STEVE: (model: Module, o: object) => new STEVE(model, { lr: 0.01, ...o }),
})) {
  /** Trained for some steps. */
  const run = (call: Call, o: object, whole = false, double = false) => {
    const rng = new Generator(1);
    const layers = [0, 1, 2, 3].map(() => new Linear(4, 4, { rng, ...wide }));
    class Chain extends Module {
      readonly layers = layers;
      override forward(x: Tensor): Tensor {
        const [a, b, c, d] = layers as [Linear, Linear, Linear, Linear];
        const h = a.call(x).tanh();
        const part = (y: Tensor) => c.call(b.call(y).tanh()).tanh();
        return d.call(whole ? part(h) : call(part, h));
      }
    }
    const model = new Chain();
    const optimizer = make(model, { refreshEvery: 2, refresh: 'sync', rng: new Generator(4), ...o });
    const data = randn([16, 4], { rng, ...wide });
    for (let step = 0; step < 6; step++) {
      optimizer.zeroGrad();
      const outputs = (double ? [data, data.mul(0.5)] : [data]).map(x =>
        whole ? call((y: Tensor) => model.call(y), x) : model.call(x),
      );
      outputs
        .map(y => crossEntropy(y, ones([16], { dtype: 'int32' })))
        .reduce((a, b) => a.add(b))
        .backward();
      optimizer.step();
    }
    return model.parameters();
  };
  const same = (a: Tensor[], b: Tensor[]) => {
    for (const [i, p] of a.entries()) mustBeClose(p, b[i]!, { rtol: 1e-9, atol: 1e-9 }, `parameter ${i}`);
  };

  law(t, `${name} sees each layer of a checkpoint once a pass: it learns what it learns without`, () => {
    same(run(checkpoint, {}), run(plainly, {}));
    same(run(checkpoint, {}, false, true), run(plainly, {}, false, true));
    same(run(checkpoint, {}, true), run(plainly, {}, true));
  });

  law(t, `${name} with drawn labels takes the whole model in a checkpoint, and refuses a part of it in words`, () => {
    const o = { fisher: 'sampled', loss: 'crossEntropy' };
    same(run(checkpoint, o, true), run(plainly, o, true));
    assert.throws(() => run(checkpoint, o), /^Error: fisher 'sampled': 'layers\.1' runs inside of checkpoint\(…\)/);
  });
}
