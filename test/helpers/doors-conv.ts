// The public names whose doors are in test/doors-conv.test.ts.

const names = (list: string) => list.split(' ');

export const convDoors = {
  core: names(
    'conv1d conv3d convTranspose1d convTranspose2d tupleOf adaptiveAvgPool1d adaptiveAvgPool2d adaptiveMaxPool1d adaptiveMaxPool2d ' +
      'avgPool1d avgPool3d maxPool1d maxPool3d',
  ),
  nn: names(
    'Conv1d Conv3d ConvTranspose1d ConvTranspose2d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d ' +
      'AvgPool1d AvgPool3d MaxPool1d MaxPool3d BatchNorm1d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d ' +
      'CircularPad1d CircularPad2d ConstantPad1d ConstantPad2d ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d ZeroPad1d ZeroPad2d ' +
      'Fold PixelShuffle PixelUnshuffle Unfold Upsample',
  ),
  functional: names('conv1d conv3d convTranspose1d convTranspose2d'),
};

/** As the names that a table leaves out, with the reason. */
export const apartConv = (list: readonly string[]): Record<string, string> =>
  Object.fromEntries(list.map(name => [name, 'in doors-conv.test.ts']));
