/**
 * One network, four optimizers: Adam, KFAC, EKFAC and STEVE learn to read handwritten digits from the same start and
 * the same batches. Ends on a table, a chart, and exit code 1 if one of them misses the target.
 *
 *   npm run demo                          npm run demo -- --help
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chart } from '../shared/chart.ts';
import { progress, type Status } from '../shared/progress.ts';
import { list, percent, type Run } from '../shared/run.ts';
import { isLive, styles } from '../shared/terminal.ts';
import { loadDigits } from './load.ts';
import { type Options, parseOptions, USAGE } from './options.ts';
import { kroneckerProduct } from './preview.ts';
import { misses, table, verdict } from './report.ts';
import { BATCH, CHOICE, CONTENDERS, NETWORK, parameterCount, prepare, stepsPerEpoch, train } from './train.ts';

const { stdout } = process;
const live = isLive(stdout);
const style = styles(live);
const say = (text = '') => stdout.write(`${text}\n`);
const count = (n: number) => n.toLocaleString('en-US');

process.exitCode = await main();

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(
      process.argv.slice(2),
      CONTENDERS.map(({ name }) => name),
    );
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    process.stderr.write(`digits: ${error.message}\n\n${USAGE}\n`);
    return 2;
  }
  if (options.help) {
    say(USAGE);
    return 0;
  }
  return compare(options);
}

async function compare(options: Options): Promise<number> {
  const { epochs, target, seed } = options;
  const path =
    options.out === null ? join(dirname(fileURLToPath(import.meta.url)), 'digits.svg') : resolve(options.out);
  // Before the work, so that a folder that cannot be is known at once.
  mkdirSync(dirname(path), { recursive: true });

  if (live) stdout.write('Reading 10,000 digits …');
  const digits = loadDigits();
  if (live) stdout.write('\r\x1b[K');
  const { images, labels } = digits.train;
  const learn = { images: images.slice([0, options.samples]), labels: labels.slice([0, options.samples]) };
  const task = prepare(learn, digits.test);
  const contenders = CONTENDERS.filter(({ name }) => options.only.includes(name.toLowerCase()));
  const names = contenders.map(({ name }) => name);
  const [toLearn, toTest] = [count(learn.labels.size), count(digits.test.labels.size)];

  say(`${kroneckerProduct(learn, seed)}\n`);
  say(`${style.bold(`${toLearn} handwritten digits`)} to learn from, ${toTest} others to be tested on.`);
  say(`One network: ${NETWORK}, ${count(parameterCount())} parameters.`);
  say(`${list(names)}: the same start and batches of ${BATCH}, ${epochs} epochs;`);
  say(`${CHOICE} (docs/decisions/measurements.md).`);
  say(`Who is the first to read ${percent(target)} right?\n`);

  const runs: Run[] = [];
  const reporter = progress({ names, steps: epochs * stepsPerEpoch(task), target });
  try {
    for (const contender of contenders) {
      const onStep = (status: Status) => reporter.update(contender.name, status);
      const run = await train(contender, task, { epochs, seed, onStep });
      reporter.done(run);
      runs.push(run);
    }
  } finally {
    reporter.stop();
  }

  say(`\n${table(runs, target, style)}\n\n${verdict(runs, target)}`);
  const title = `Reading handwritten digits: ${names.length > 1 ? 'the same network, the same batches' : names[0]}`;
  const subtitle =
    `${NETWORK}, ${count(parameterCount())} parameters; ${toLearn} digits of MNIST to learn from, ${toTest} to test; ` +
    `batches of ${BATCH}, seed ${seed}; ${CHOICE}`;
  writeFileSync(path, chart(runs, { title, subtitle, target }));
  say(`The chart: ${style.bold(relative(process.cwd(), path))}`);

  const missed = misses(runs, target);
  for (const line of missed) process.stderr.write(`digits: ${line}\n`);
  return missed.length > 0 ? 1 : 0;
}
