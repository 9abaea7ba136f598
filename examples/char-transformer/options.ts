/** The command line of the demo. */

import { parseArgs } from 'node:util';
import { encode } from './text.ts';

export const USAGE = `Usage: npm run demo:text -- [options]

A small transformer learns a poem character by character, and then goes on by itself.

  --optimizer name  adam or steve (default steve)
  --steps N         of training (default 400)
  --target L        loss to reach, nats a character (default 0.2)
  --prompt text     what it continues (default "'Twas ")
  --temperature T   0 says what is likeliest, 1 draws as the model believes (default 0.5)
  --seed N          of the first weights, the batches and the sample (default 0)
  --help            this text

Exit code: 0 if the target is reached, 1 if it is not, 2 if the options are wrong.`;

export type Options = {
  help: boolean;
  optimizer: 'adam' | 'steve';
  steps: number;
  target: number;
  prompt: string;
  temperature: number;
  seed: number;
};

/** Throws a TypeError or RangeError whose message is for the user. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      optimizer: { type: 'string', default: 'steve' },
      steps: { type: 'string', default: '400' },
      target: { type: 'string', default: '0.2' },
      prompt: { type: 'string', default: "'Twas " },
      temperature: { type: 'string', default: '0.5' },
      seed: { type: 'string', default: '0' },
    },
  });
  const number = (name: 'steps' | 'target' | 'temperature' | 'seed', least: number, whole: boolean): number => {
    const value = values[name].trim() === '' ? Number.NaN : Number(values[name]);
    if (!(value >= least && value < Infinity) || (whole && !Number.isInteger(value)))
      throw new RangeError(
        `--${name}: expected a ${whole ? 'whole number' : 'number'} of ${least} or more, got '${values[name]}'`,
      );
    return value;
  };
  const { help, optimizer, prompt } = values;
  if (optimizer !== 'adam' && optimizer !== 'steve')
    throw new RangeError(`--optimizer: expected adam or steve, got '${optimizer}'`);
  if (prompt === '') throw new RangeError('--prompt: expected a character at least');
  try {
    encode(prompt);
  } catch (error) {
    throw new RangeError(`--prompt: ${(error as Error).message}`);
  }
  return {
    help,
    optimizer,
    steps: number('steps', 1, true),
    target: number('target', 0, false),
    prompt,
    temperature: number('temperature', 0, false),
    seed: number('seed', 0, true),
  };
}
