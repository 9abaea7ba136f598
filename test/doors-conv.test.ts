/** Wrong arguments for convolutions along one and three axes, transposed ones, and what goes with them. */

import * as core from '@otimes/core';
import { Generator, ones, zeros } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';
import { convDoors } from './helpers/doors-conv.ts';

const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args });
const place = () => ({ rng: new Generator(0), dtype: 'float32', device: 'cpu' });
const init = (shape: number[]) => zeros(shape);
/** A device that does not exist is refused by core, where tensors are made. */
const made = (Class: (new (...args: never[]) => unknown) & { builtIn: string }, ...args: unknown[]): Door => ({
  ...door((...given) => new Class(...given), ...args),
  says: [Class.builtIn, 'device'],
});

const line = () => ones([2, 4, 6]);
const images = () => ones([2, 4, 5, 6]);
const volumes = () => ones([1, 4, 3, 4, 5]);
const window = { stride: 1, padding: 1, dilation: 1, groups: 2 };
const wider = { ...window, stride: 2, outputPadding: 1 };

checkDoors(t, 'core, convolutions', convDoors.core, {
  conv1d: door(core.conv1d, line(), ones([2, 2, 3]), { ...window, bias: ones([2]) }),
  conv3d: door(core.conv3d, volumes(), ones([2, 2, 3, 3, 3]), { ...window, bias: ones([2]) }),
  convTranspose1d: door(core.convTranspose1d, line(), ones([4, 1, 3]), { ...wider, bias: ones([2]) }),
  convTranspose2d: door(core.convTranspose2d, images(), ones([4, 1, 3, 3]), { ...wider, bias: ones([2]) }),
  adaptiveAvgPool1d: door(core.adaptiveAvgPool1d, line(), [4]),
  adaptiveAvgPool2d: door(core.adaptiveAvgPool2d, images(), [3, null]),
  adaptiveMaxPool1d: door(core.adaptiveMaxPool1d, line(), 4),
  adaptiveMaxPool2d: door(core.adaptiveMaxPool2d, images(), [3, 4]),
  avgPool1d: door(core.avgPool1d, line(), 2, { stride: 1, padding: 1, countIncludePad: true }),
  avgPool3d: door(core.avgPool3d, volumes(), 2, { stride: 1, padding: 1, countIncludePad: true }),
  maxPool1d: door(core.maxPool1d, line(), 2, { stride: 1, padding: 1 }),
  maxPool3d: door(core.maxPool3d, volumes(), 2, { stride: 1, padding: 1 }),
  tupleOf: {
    ...door(core.tupleOf, 'op', 'stride', [1, 2, 3], 1, 3),
    says: 'op',
    skip: { 0: 'names the caller', 4: 'a constant' },
  },
});

const norm = () => ({ eps: 1e-5, momentum: 0.1, affine: true, trackRunningStats: true, ...place() });
const layer = () => ({ ...window, bias: true, init, ...place() });
checkDoors(t, 'nn, convolutions', convDoors.nn, {
  AdaptiveAvgPool1d: made(nn.AdaptiveAvgPool1d, 4),
  AdaptiveAvgPool2d: made(nn.AdaptiveAvgPool2d, [3, null]),
  AdaptiveMaxPool1d: made(nn.AdaptiveMaxPool1d, 4),
  AdaptiveMaxPool2d: made(nn.AdaptiveMaxPool2d, [3, null]),
  AvgPool1d: made(nn.AvgPool1d, 2, { stride: 2, padding: 0, countIncludePad: true }),
  AvgPool3d: made(nn.AvgPool3d, 2, { stride: 2, padding: 0, countIncludePad: true }),
  MaxPool1d: made(nn.MaxPool1d, 2, { stride: 2, padding: 0 }),
  MaxPool3d: made(nn.MaxPool3d, 2, { stride: 2, padding: 0 }),
  BatchNorm1d: made(nn.BatchNorm1d, 4, norm()),
  BatchNorm3d: made(nn.BatchNorm3d, 4, norm()),
  InstanceNorm1d: made(nn.InstanceNorm1d, 4, norm()),
  InstanceNorm2d: made(nn.InstanceNorm2d, 4, norm()),
  InstanceNorm3d: made(nn.InstanceNorm3d, 4, norm()),
  Conv1d: made(nn.Conv1d, 2, 4, 3, { ...layer(), paddingMode: 'zeros' }),
  Conv3d: made(nn.Conv3d, 2, 4, 3, layer()),
  CircularPad1d: made(nn.CircularPad1d, [1, 2]),
  CircularPad2d: made(nn.CircularPad2d, [1, 2, 0, 1]),
  ReflectionPad1d: made(nn.ReflectionPad1d, [1, 2]),
  ReflectionPad2d: made(nn.ReflectionPad2d, [1, 2, 0, 1]),
  ReplicationPad1d: made(nn.ReplicationPad1d, [1, 2]),
  ReplicationPad2d: made(nn.ReplicationPad2d, [1, 2, 0, 1]),
  ZeroPad1d: made(nn.ZeroPad1d, [1, 2]),
  ZeroPad2d: made(nn.ZeroPad2d, [1, 2, 0, 1]),
  ConstantPad1d: made(nn.ConstantPad1d, [1, 2], 0.5),
  ConstantPad2d: made(nn.ConstantPad2d, 1, 0.5),
  Fold: made(nn.Fold, 4, 2, { dilation: 1, padding: 0, stride: 1 }),
  PixelShuffle: made(nn.PixelShuffle, 2),
  PixelUnshuffle: made(nn.PixelUnshuffle, 2),
  Unfold: made(nn.Unfold, 2, { dilation: 1, padding: 0, stride: 1 }),
  Upsample: made(nn.Upsample, { scaleFactor: 2, mode: 'nearest', alignCorners: false }),
  ConvTranspose1d: made(nn.ConvTranspose1d, 2, 4, 3, { ...layer(), stride: 2, outputPadding: 1 }),
  ConvTranspose2d: made(nn.ConvTranspose2d, 2, 4, 3, { ...layer(), stride: 2, outputPadding: 1 }),
});

const F = nn.functional;
checkDoors(t, 'nn.functional, convolutions', convDoors.functional, {
  conv1d: door(F.conv1d, line(), ones([2, 4, 3]), ones([2]), { stride: 1, padding: 1 }),
  conv3d: door(F.conv3d, volumes(), ones([2, 4, 3, 3, 3]), ones([2]), { stride: 1, padding: 1 }),
  convTranspose1d: door(F.convTranspose1d, line(), ones([4, 2, 3]), ones([2]), { stride: 1, padding: 1 }),
  convTranspose2d: door(F.convTranspose2d, images(), ones([4, 2, 3, 3]), ones([2]), { stride: 1, padding: 1 }),
});

const calls: Record<string, [layer: () => nn.Module, input: () => core.Tensor, operation: string]> = {
  Conv1d: [() => new nn.Conv1d(4, 2, 3), line, 'conv1d'],
  Conv3d: [() => new nn.Conv3d(4, 2, 3), volumes, 'conv3d'],
  ConvTranspose1d: [() => new nn.ConvTranspose1d(4, 2, 3), line, 'convTranspose1d'],
  BatchNorm1d: [() => new nn.BatchNorm1d(4), line, 'batchNorm'],
  InstanceNorm2d: [() => new nn.InstanceNorm2d(4), images, 'groupNorm'],
  AvgPool1d: [() => new nn.AvgPool1d(2), line, 'avgPool1d'],
  AdaptiveMaxPool2d: [() => new nn.AdaptiveMaxPool2d(2), images, 'adaptiveMaxPool2d'],
  ConvTranspose2d: [() => new nn.ConvTranspose2d(4, 2, 3), images, 'convTranspose2d'],
};
for (const [name, [make, input, operation]] of Object.entries(calls))
  checkDoors(t, 'nn', [`${name}.call`], {
    [`${name}.call`]: {
      call: (...given) => (make().call as (...all: unknown[]) => unknown).call(make(), ...given),
      args: () => [input()],
      says: [name, operation],
    },
  });
