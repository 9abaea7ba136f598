/** The command line of the demo. */

import { parseArgs } from 'node:util';

export const USAGE = `Usage: npm run demo -- [options]

Trains the same network on handwritten digits with Adam, KFAC, EKFAC and STEVE, and compares them.

  --epochs N       passes over the training set (default 8)
  --target A       test accuracy to reach, 0 … 1 (default 0.965)
  --seed N         of the first weights and of the batches (default 0)
  --only a,b       some optimizers only, such as adam,steve
  --out path       where the chart goes (default examples/digits/digits.svg)
  --short          a quarter of the training set, 4 epochs, target 0.8
  --help           this text

Exit code: 0 if all reach the target, 1 if one does not, 2 if the options are wrong.`;

export type Options = {
  help: boolean;
  epochs: number;
  target: number;
  seed: number;
  /** Names in lower case; all of them by default. */
  only: string[];
  /** Null: beside the demo. */
  out: string | null;
  /** Images to train with. */
  samples: number;
};

/** Throws a TypeError or RangeError whose message is for the user. `names` are the optimizers that exist. */
export function parseOptions(args: readonly string[], names: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      short: { type: 'boolean', default: false },
      epochs: { type: 'string' },
      target: { type: 'string' },
      seed: { type: 'string', default: '0' },
      only: { type: 'string' },
      out: { type: 'string' },
    },
  });
  const known = names.map(name => name.toLowerCase());
  const only = values.only?.split(',').map(name => name.trim().toLowerCase()) ?? known;
  const stranger = only.find(name => !known.includes(name));
  if (stranger !== undefined)
    throw new RangeError(`--only: expected optimizers of ${known.join(', ')}, got '${stranger}'`);
  const target = Number(values.target ?? (values.short ? 0.8 : 0.965));
  if (!(target > 0 && target <= 1)) throw new RangeError(`--target: expected a share of 0 … 1, got '${values.target}'`);
  return {
    help: values.help,
    epochs: whole('epochs', values.epochs ?? (values.short ? '4' : '8'), 1),
    target,
    seed: whole('seed', values.seed, 0),
    only,
    out: values.out ?? null,
    samples: values.short ? 2000 : 8000,
  };
}

function whole(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least || text.trim() === '')
    throw new RangeError(`--${name}: expected a whole number of ${least} or more, got '${text}'`);
  return value;
}
