/** What the small programs share: a command line of an optimizer and numbers, lines of progress, and an exit code. */

import { parseArgs } from 'node:util';
import { isLive, styles } from './terminal.ts';

/** A number that the command line can set: its default, what it is, the least (default 0) and the most that it may be, and whether it may be no whole one. */
export type Setting = {
  readonly value: number;
  readonly about: string;
  readonly least?: number;
  readonly most?: number;
  readonly fraction?: boolean;
};

export type Command<Name extends string, Numbers extends string, Texts extends string = never> = {
  readonly name: string;
  /** A sentence or two. */
  readonly about: string;
  /** The optimizers there are, each with a learning rate that suits it; the first is the default. */
  readonly optimizers: Readonly<Record<Name, number>>;
  readonly settings: Readonly<Record<Numbers, Setting>>;
  /** Flags that take text, such as a path, and what it is; '' where they are not given. */
  readonly texts?: Readonly<Record<Texts, string>>;
};

export type Chosen<Name extends string, Numbers extends string, Texts extends string = never> = Readonly<
  Record<Numbers | 'lr' | 'seed', number> & Record<Texts, string>
> & { readonly optimizer: Name };

/** How a program ended: what it reached, and whether that is enough. */
export type Outcome = { readonly reached: string; readonly ok: boolean };

export const { bold, dim } = styles(isLive(process.stdout));
export const say = (text = ''): boolean => process.stdout.write(`${text}\n`);

/** A clock that starts now: the seconds since, as text. */
export function clock(): () => string {
  const start = performance.now();
  return () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
}

/**
 * Runs a program with what its command line says: --optimizer, --lr, --seed, --help and a flag for each of its settings. The exit code is 0
 * if it ends well, 1 if it does not, and 2 for options that are wrong.
 */
export async function command<Name extends string, Numbers extends string, Texts extends string = never>(
  c: Command<Name, Numbers, Texts>,
  run: (chosen: Chosen<Name, Numbers, Texts>) => Outcome | Promise<Outcome>,
): Promise<void> {
  let chosen: Chosen<Name, Numbers, Texts> | null;
  try {
    chosen = parse(c, process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    process.stderr.write(`${c.name}: ${error.message}\n\n${usage(c)}\n`);
    process.exitCode = 2;
    return;
  }
  if (chosen === null) {
    say(usage(c));
    return;
  }
  const passed = clock();
  const { reached, ok } = await run(chosen);
  say(`\n${bold('Reached:')} ${reached}, in ${passed()}.`);
  if (ok) return;
  process.stderr.write(`${c.name}: the target is missed\n`);
  process.exitCode = 1;
}

/** What the arguments choose; null for --help. Throws a TypeError or RangeError whose message is for the user. */
export function parse<Name extends string, Numbers extends string, Texts extends string = never>(
  { optimizers, settings, texts }: Command<Name, Numbers, Texts>,
  args: readonly string[],
): Chosen<Name, Numbers, Texts> | null {
  const words = Object.keys(texts ?? {});
  const flags = ['optimizer', 'lr', 'seed', ...Object.keys(settings), ...words];
  const options = Object.fromEntries(flags.map(flag => [flag, { type: 'string' as const }]));
  const parsed = parseArgs({ args: [...args], options: { ...options, help: { type: 'boolean' } } });
  const values: Record<string, unknown> = parsed.values;
  if (values.help) return null;
  const names = Object.keys(optimizers) as Name[];
  const asked = String(values.optimizer ?? names[0]);
  const optimizer = names.find(name => name.toLowerCase() === asked.toLowerCase());
  if (optimizer === undefined) throw new RangeError(`--optimizer: expected ${names.join(' or ')}, got '${asked}'`);
  const all: Record<string, Setting> = { ...settings, lr: rate(optimizers[optimizer]), seed: SEED };
  const numbers = Object.entries(all).map(([flag, setting]) => [flag, numberOf(flag, setting, values[flag])]);
  const said = words.map(flag => [flag, values[flag] ?? '']);
  return { ...Object.fromEntries([...numbers, ...said]), optimizer };
}

const rate = (value: number): Setting => ({ value, about: 'learning rate', fraction: true });
const SEED: Setting = { value: 0, about: 'of all random numbers' };

function numberOf(flag: string, { value, least = 0, most, fraction = false }: Setting, given: unknown): number {
  if (given === undefined) return value;
  const number = String(given).trim() === '' ? Number.NaN : Number(given);
  const fits = number >= least && number <= (most ?? Number.MAX_VALUE) && (fraction || Number.isInteger(number));
  if (!fits) {
    const range = most === undefined ? `${least} or more` : `${least} … ${most}`;
    throw new RangeError(`--${flag}: expected a ${fraction ? 'number' : 'whole number'} of ${range}, got '${given}'`);
  }
  return number;
}

function usage<Name extends string, Numbers extends string, Texts extends string>(
  c: Command<Name, Numbers, Texts>,
): string {
  const rates = Object.entries<number>(c.optimizers);
  const rows = [
    ...Object.entries<Setting>(c.settings).map(([flag, s]) => [`--${flag} N`, `${s.about} (default ${s.value})`]),
    ...Object.entries<string>(c.texts ?? {}).map(([flag, about]) => [`--${flag} text`, about]),
    ['--optimizer name', `${rates.map(([name]) => name).join(' or ')} (default ${rates[0]![0]})`],
    ['--lr N', `learning rate (default ${rates.map(([name, lr]) => `${lr} for ${name}`).join(', ')})`],
    ['--seed N', `${SEED.about} (default ${SEED.value})`],
    ['--help', 'this text'],
  ];
  const width = Math.max(...rows.map(([flag]) => flag!.length)) + 2;
  return [
    `Usage: npm run example ${c.name} -- [options]\n`,
    `${c.about}\n`,
    ...rows.map(([flag, about]) => `  ${flag!.padEnd(width)}${about}`),
    '\nExit code: 0 if the target is reached, 1 if it is not, 2 if the options are wrong.',
  ].join('\n');
}
