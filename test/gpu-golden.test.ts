/** Training on the device 'gpu' against PyTorch's recorded numbers. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { recordedModels, recordedTrajectories } from './suites/recorded.ts';

const law = await testNeeding(t, 'gpu');

law('recorded', inner => {
  recordedTrajectories(inner, { name: 'mlp', runs: 8, model: recordedModels.mlp, device: 'gpu' });
  recordedTrajectories(inner, { name: 'conv', runs: 3, model: recordedModels.conv, device: 'gpu' });
  recordedTrajectories(inner, { name: 'attn', runs: 4, model: recordedModels.attn, device: 'gpu' });
});
