/** The functions of @otimes/core as methods: what @otimes/core/methods adds to Tensor. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import * as core from '@otimes/core';
import { Generator, ones, Tensor } from '@otimes/core';
import { isPlainObject } from '@otimes/core/extend';
import t from 'tap';
import ts from 'typescript';
import { mathDoors } from './helpers/doors-math.ts';
import { shapeDoors } from './helpers/doors-shape.ts';
import { law } from './helpers/law.ts';
import { root } from './helpers/packages.ts';

const prototype: object = Tensor.prototype;
const before = new Set(Object.getOwnPropertyNames(prototype));
await import('@otimes/core/methods');
const added = Object.getOwnPropertyNames(prototype).filter(name => !before.has(name));

/** Functions of a tensor that are no methods, by the reason. */
const APART: Readonly<Record<string, string>> = {
  'attention batchNorm batchNormEval fold gram groupNorm gru layerNorm linear lstm patchGram rnn unfold':
    'parts of layers, which programs call as modules',
  'labelCrossEntropy squaredError': 'parts of losses',
  'adamMoments adamStep sgdStep': 'parts of optimizers, in place',
  'fullLike onesLike randLike randnLike zerosLike': 'make tensors, of which x has shape, dtype and device alone',
  pad: 'the method of this name pads with a constant',
  where: "PyTorch's method has the condition second",
  'describe grad': 'say or do something with a tensor, and make no tensor of it',
};

const [line, images, volumes] = [ones([2, 4, 6]), ones([2, 4, 5, 6]), ones([1, 4, 3, 4, 5])];

/** Examples, with a tensor as the first argument. */
const examples: Readonly<Record<string, () => readonly unknown[]>> = {
  ...Object.fromEntries(Object.entries({ ...shapeDoors, ...mathDoors }).map(([name, door]) => [name, door.args])),
  bernoulli: () => [ones([2, 3]).mul(0.5), { rng: new Generator(1) }],
  multinomial: () => [ones([5]), 2, { rng: new Generator(1) }],
  multinomialAsync: () => [ones([5]), 2, { rng: new Generator(1) }],
  oneHot: () => [ones([2, 3], { dtype: 'int32' }), 2],
  conv1d: () => [line, ones([2, 4, 3]), { padding: 1 }],
  conv2d: () => [images, ones([2, 4, 3, 3]), { padding: 1 }],
  conv3d: () => [volumes, ones([2, 4, 3, 3, 3]), { padding: 1 }],
  convTranspose1d: () => [line, ones([4, 2, 3]), { stride: 2 }],
  convTranspose2d: () => [images, ones([4, 2, 3, 3]), { stride: 2 }],
  avgPool1d: () => [line, 2, { stride: 1 }],
  avgPool2d: () => [images, 2, { stride: 1 }],
  avgPool3d: () => [volumes, 2, { stride: 1 }],
  maxPool1d: () => [line, 2, { stride: 1 }],
  maxPool2d: () => [images, 2, { stride: 1 }],
  maxPool3d: () => [volumes, 2, { stride: 1 }],
  globalAvgPool2d: () => [images],
  adaptiveAvgPool1d: () => [line, 4],
  adaptiveAvgPool2d: () => [images, [3, null]],
  adaptiveMaxPool1d: () => [line, 4],
  adaptiveMaxPool2d: () => [images, [3, 4]],
};

/** Tensors as their layout and elements, in arrays or alone. */
const seen = (value: unknown): unknown =>
  value instanceof Tensor
    ? { dtype: value.dtype, strides: value.strides, offset: value.offset, values: value.toArray() }
    : Array.isArray(value)
      ? value.map(seen)
      : isPlainObject(value)
        ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, seen(one)]))
        : value;

for (const name of added)
  law(t, `x.${name}(…) is ${name}(x, …)`, async () => {
    const call: unknown = Reflect.get(core, name);
    assert.ok(typeof call === 'function');
    // Made twice, as a generator goes on with each draw.
    const [[x, ...rest], again] = [0, 1].map(() => examples[name]?.() ?? []) as [unknown[], unknown[]];
    assert.ok(x instanceof Tensor, 'has an example with a tensor');
    const method: unknown = Reflect.get(x, name);
    assert.ok(typeof method === 'function');
    assert.deepEqual(seen(await Reflect.apply(method, x, rest)), seen(await Reflect.apply(call, undefined, again)));
  });

law(t, 'methods are not enumerable, and those that a tensor has stay what they are', () => {
  const descriptors = added.map(name => Object.getOwnPropertyDescriptor(prototype, name)!);
  assert.ok(descriptors.every(({ enumerable, writable, configurable }) => !enumerable && writable && configurable));
  assert.deepEqual(
    Object.keys(ones([2])).filter(key => added.includes(key)),
    [],
  );
  assert.deepEqual(
    ones([1])
      .pad([[1, 1]])
      .toArray(),
    [0, 1, 0],
  );
});

law(t, 'every function of core whose first argument is a tensor is a method, or here with the reason', () => {
  const file = join(root, 'core/src/index.ts');
  const program = ts.createProgram([file], {
    noEmit: true,
    strict: true,
    allowImportingTsExtensions: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    customConditions: ['@otimes/source'],
    lib: ['lib.es2023.d.ts'],
    types: ['node'],
  });
  const checker = program.getTypeChecker();
  const functions = checker
    .getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)!)!)
    .filter(symbol => {
      const type = checker.getTypeOfSymbol(symbol);
      const [first] = type.getCallSignatures()[0]?.getParameters() ?? [];
      return first !== undefined && checker.typeToString(checker.getTypeOfSymbol(first)) === 'Tensor';
    })
    .map(symbol => symbol.name);
  assert.ok(functions.length > 40, 'the compiler sees them');
  const apart = Object.keys(APART).flatMap(names => names.split(' '));
  assert.deepEqual(
    functions.filter(name => !added.includes(name) && !apart.includes(name)),
    [],
    'in the table of core/src/methods-door.ts, or in APART',
  );
  assert.deepEqual(
    added.filter(name => !functions.includes(name)),
    [],
  );
  assert.deepEqual(
    apart.filter(name => !(name in core) || added.includes(name)),
    [],
  );
});
