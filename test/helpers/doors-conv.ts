// The public names whose doors are in test/doors-conv.test.ts.

const names = (list: string) => list.split(' ');

export const convDoors = {
  core: names('conv1d conv3d convTranspose1d convTranspose2d tupleOf'),
  nn: names('Conv1d Conv3d ConvTranspose1d ConvTranspose2d'),
  functional: names('conv1d conv3d convTranspose1d convTranspose2d'),
};

/** As the names that a table leaves out, with the reason. */
export const apartConv = (list: readonly string[]): Record<string, string> =>
  Object.fromEntries(list.map(name => [name, 'in doors-conv.test.ts']));
