/** All presets, in the order of lists. */

import type { Experiment } from '../experiment.ts';
import { autoencoderPreset } from './autoencoder.ts';
import { charsGpt } from './chars-gpt.ts';
import { cifarCnn } from './cifar-cnn.ts';
import { cifarResnet } from './cifar-resnet.ts';
import { digitsCnn } from './digits-cnn.ts';
import { digitsMlp } from './digits-mlp.ts';
import { fashionCnn } from './fashion-cnn.ts';
import { fashionMlp } from './fashion-mlp.ts';
import { fashionVit } from './fashion-vit.ts';
import { PAPER } from './paper.ts';
import { pinnPoissonPreset } from './pinn-poisson.ts';

export const PRESETS: readonly Experiment[] = [
  ...[digitsMlp, digitsCnn, fashionMlp, fashionCnn, fashionVit, cifarCnn, cifarResnet],
  ...[charsGpt, pinnPoissonPreset, autoencoderPreset],
  ...PAPER,
];
