/**
 * What second order costs at real sizes: the first step with its decompositions, steps between refreshes over Adam's, statistics,
 * a later refresh within the step and in the background, and memory. Each network under each optimizer is a process of its own;
 * Adam's and another's take turns, sample by sample. Markdown tables of what is measured, and of the phases that optimizers count.
 *
 *   npm run bench bench/large.ts                                                   all networks
 *   npm run bench bench/large.ts -- --only resnet18,mnist --structure auto --rounds 5
 *   npm run bench bench/large.ts -- --only resnet18 --structure exact,taps --optimizers steve
 *   npm run bench bench/large.ts -- --options '{"maxFactorDim":1200}'              options of the Kronecker optimizers
 *   npm run bench bench/large.ts -- --quick                                        small sizes, to see that it runs
 *   npm run bench bench/large.ts -- --whole --threads 2                            whole steps of ResNet-50 and ViT-S/16 at 224², each alone in memory
 *   npm run bench bench/large.ts -- --into docs/benchmarks.md                      tables also go there
 */

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { markdown, putInto } from './into.ts';
import type { Answer, Contender, Request, StepKind } from './large/child.ts';
import { NETWORKS, type Network, type OptimizerName, quickened } from './large/networks.ts';
import { wholeSteps } from './large/whole.ts';
import { bundle, median, Peer } from './peers/run.mjs';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    /** Single steps of each network under Adam and under the others, one process at a time. */
    whole: { type: 'boolean', default: false },
    /** Some of steve, kfac, ekfac; each network has its own default. */
    optimizers: { type: 'string' },
    /** Values of the option `structure`, each a row; without it the option is not given. */
    structure: { type: 'string' },
    'block-dim': { type: 'string' },
    /** Further options of the Kronecker optimizers, as JSON. */
    options: { type: 'string', default: '{}' },
    /** Samples of plain steps, and of steps with statistics. */
    rounds: { type: 'string', default: '7' },
    /** Seconds of a sample, which has one step at least. */
    sample: { type: 'string', default: '0.5' },
    /** A later refresh is left out where the first took more seconds. */
    'most-refresh': { type: 'string', default: '120' },
    /** 'yes' or 'no'; each network has its own default. */
    background: { type: 'string' },
    /** Of the library; with more than one, times are those of the clock on the wall. */
    threads: { type: 'string', default: '1' },
    /** Prints which factors blocks have. */
    describe: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    into: { type: 'string' },
  },
});

const rounds = Number(values.rounds);
const threads = Number(values.threads);
const clock = threads > 1 ? 'wall' : 'cpu';
const usual = Object.keys(NETWORKS).filter(name => (NETWORKS[name]!.alone ?? false) === values.whole);
const names = values.only?.split(',') ?? usual;
for (const name of names)
  if (NETWORKS[name] === undefined)
    throw new Error(`large: expected --only some of ${Object.keys(NETWORKS).join(', ')}, got '${name}'`);
const LABELS = { adam: 'Adam', steve: 'STEVE', kfac: 'KFAC', ekfac: 'EKFAC' };
for (const name of values.optimizers?.split(',') ?? [])
  if (!Object.hasOwn(LABELS, name) || name === 'adam')
    throw new Error(`large: expected --optimizers some of steve, kfac, ekfac, got '${name}'`);
const program = await bundle('large/child');

// --- processes --------------------------------------------------------------------------------------------------------------

class Child {
  readonly #peer: Peer;

  constructor(title: string, contender: Contender) {
    this.#peer = new Peer(title, [process.execPath, program, JSON.stringify(contender)]);
  }

  async steps(steps: StepKind, count = 1): Promise<Answer> {
    return this.ask({ steps, count });
  }

  async background(seconds: number): Promise<Answer> {
    return this.ask({ background: seconds });
  }

  async describe(): Promise<string> {
    return ((await this.#peer.ask({ describe: true })) as { text: string }).text;
  }

  async ask(request: Request): Promise<Answer> {
    const answer = (await this.#peer.ask(request)) as Answer;
    if (!Number.isFinite(answer.loss)) throw new Error(`the loss is ${answer.loss}`);
    return answer;
  }

  end(): void {
    this.#peer.end();
  }
}

type Variant = { readonly label: string; readonly optimizer: OptimizerName; readonly options: Contender['options'] };

function variantsOf({ optimizers }: Network): Variant[] {
  const more = {
    ...(values['block-dim'] !== undefined && { blockDim: Number(values['block-dim']) }),
    ...(JSON.parse(values.options) as Contender['options']),
  };
  const described = Object.entries(more).map(([key, value]) => `, ${key} ${JSON.stringify(value)}`);
  const chosen = (values.optimizers?.split(',') as OptimizerName[] | undefined) ?? optimizers;
  return (values.structure?.split(',') ?? [null]).flatMap(structure =>
    chosen.map(optimizer => ({
      label: `${LABELS[optimizer]}${structure === null ? '' : `, ${structure}`}${described.join('')}`,
      optimizer,
      options: structure === null ? more : { structure, ...more },
    })),
  );
}

// --- measuring --------------------------------------------------------------------------------------------------------------

const COLUMNS = [
  'step, ms',
  "× Adam's",
  'with statistics, ms',
  "statistics every 10, × Adam's",
  'first step, s',
  'of it decompositions, s',
  'a later refresh adds, s',
  'peak, GB',
];
const PHASES = ['statistics', 'refresh', 'precondition', 'rest'] as const;
const table: string[][] = [['', ...COLUMNS]];
const wholeTable: string[][] = [
  ['s', 'first step', 'step', 'with statistics', 'with a refresh', 'peak after the first, GB', 'peak, GB'],
];
const phaseTable: string[][] = [['ms a step', 'whole', ...PHASES, 'forward, backward and all else']];
const notes: string[] = [];
const failures: string[] = [];
const say = (text: string) => process.stderr.write(`${text}\n`);
const shown = (x: number) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));
const gigabytes = ({ peak }: Answer) => (peak / 1e9).toFixed(2);

function notePhases(title: string, answers: readonly Answer[]): void {
  const of = (value: (a: Answer) => number) => median(answers.map(value));
  const phases = PHASES.map(phase => of(a => a.phases![phase]));
  const whole = of(a => a.wall);
  phaseTable.push([title, ...[whole, ...phases, whole - phases.reduce((a, b) => a + b, 0)].map(shown)]);
}

/**
 * Steps of a sample. STEVE measures γ after 1, 2, 4, 8, … updates: four steps are made by then, so that samples of one plain step are
 * odd ones and never have it, and few of those with statistics do.
 */
async function warmUp(child: Child, countOf: (a: Answer) => number): Promise<number> {
  const count = countOf(await child.steps('plain'));
  await child.steps('statistics');
  await child.steps('plain');
  return count;
}

/** Adam's process and a variant's in turn. */
async function measure(title: string, adam: Child, child: Child, countOf: (a: Answer) => number): Promise<void> {
  const first = await child.steps('refresh');
  say(`  ${title}: first step ${shown(first.wall / 1000)} s, loss ${first.loss.toFixed(3)}`);
  if (values.describe) say(await child.describe());
  notePhases(`${title}: first step`, [first]);
  const count = await warmUp(child, countOf).catch(error => {
    const seconds = [first.wall, first.phases!.refresh].map(ms => shown(ms / 1000));
    throw new Error(
      `after a first step of ${seconds[0]} s, decompositions ${seconds[1]} s, peak ${gigabytes(first)} GB: ${error.message}`,
    );
  });
  const [base, plain, statistics]: [Answer[], Answer[], Answer[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    base.push(await adam.steps('plain', count));
    plain.push(await child.steps('plain', count));
    statistics.push(await child.steps('statistics', count));
  }
  const [own, adams, fuller] = [plain, base, statistics].map(all => median(all.map(a => a[clock]))) as [
    number,
    number,
    number,
  ];
  const ratio = own / adams;
  const seconds = first.phases!.refresh / 1000;
  const [later, last] = await laterRefresh(title, child, seconds, statistics);
  const averaged = (9 * own + fuller) / 10 / adams;
  const cells = [own, ratio, fuller, averaged, first.wall / 1000, seconds].map(shown);
  table.push([title, ...cells, later, gigabytes(last ?? statistics.at(-1)!)]);
  say(`  ${table.at(-1)!.join('  ')}`);
  notePhases(`${title}: step`, plain);
  notePhases(`${title}: with statistics`, statistics);
  if (last !== null) notePhases(`${title}: with a refresh`, [last]);
}

/** The cell of the table, and the step; null where there was none. A step that fails, for want of memory say, ends the row here. */
async function laterRefresh(
  title: string,
  child: Child,
  first: number,
  statistics: readonly Answer[],
): Promise<[string, Answer | null]> {
  if (first > Number(values['most-refresh'])) return [`left out (> ${values['most-refresh']})`, null];
  try {
    const step = await child.steps('refresh');
    return [shown((step.wall - median(statistics.map(a => a.wall))) / 1000), step];
  } catch (error) {
    notes.push(`${title}: a later refresh fails: ${error instanceof Error ? error.message : String(error)}`);
    say(`  ${notes.at(-1)}`);
    return ['fails', null];
  }
}

/** What a refresh in a worker adds to the steps that are made until the new bases have taken over. */
async function measureBackground(title: string, child: Child, countOf: (a: Answer) => number): Promise<void> {
  const first = await child.steps('refresh');
  if (first.phases!.refresh / 1000 > Number(values['most-refresh'])) {
    notes.push(`${title}: left out, as the first decompositions took ${shown(first.phases!.refresh / 1000)} s.`);
    return;
  }
  const count = await warmUp(child, countOf);
  const [plain, statistics]: [Answer[], Answer[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    plain.push(await child.steps('plain', count));
    statistics.push(await child.steps('statistics', count));
  }
  const taken = await child.background(10 * Number(values['most-refresh']));
  const added = (which: 'wall' | 'thread') => {
    const [without, fuller] = [plain, statistics].map(all => median(all.map(a => a[which]))) as [number, number];
    return (taken.count * taken[which] - (taken.count - 1) * without - fuller) / 1000;
  };
  notes.push(
    `${title}: a refresh adds ${shown(added('wall'))} s on the wall and ${shown(added('thread'))} s of CPU time to the thread ` +
      `that trains, spread over ${taken.count} steps of ${shown(median(plain.map(a => a.wall)))} ms until it has taken over; the ` +
      `longest took ${shown(taken.longest)} ms; peak ${gigabytes(taken)} GB.`,
  );
  say(`  ${notes.at(-1)}`);
}

async function guarded(title: string, contender: Contender, run: (child: Child) => Promise<void>): Promise<void> {
  const child = new Child(title, contender);
  try {
    await run(child);
  } catch (error) {
    const lines = (error instanceof Error ? error.message : String(error)).split('\n');
    if (lines.length > 1) say(lines.join('\n'));
    // Of a process that ended, its last words.
    const reason = lines.find(line => /Error/.test(line)) ?? lines[0]!;
    failures.push(reason.startsWith(title) ? reason : `${title}: ${reason}`);
    say(`  FAILED ${failures.at(-1)}`);
  } finally {
    child.end();
  }
}

async function measureNetwork(network: Network): Promise<void> {
  const spec = values.quick ? quickened(network.spec) : network.spec;
  const title = values.quick ? `small: ${network.title}` : network.title;
  say(`${title} …`);
  const adamsTitle = `${title}: Adam`;
  await guarded(adamsTitle, { spec, optimizer: 'adam', options: {}, threads }, async adam => {
    const first = await adam.steps('plain');
    const sample = 1000 * Number(values.sample);
    const countOf = ({ wall }: Answer) => Math.max(1, Math.min(50, Math.ceil(sample / wall)));
    const count = countOf(await adam.steps('plain'));
    const steps: Answer[] = [];
    for (let round = 0; round < rounds; round++) steps.push(await adam.steps('plain', count));
    const own = median(steps.map(a => a[clock]));
    table.push([adamsTitle, shown(own), '1', '', '', shown(first.wall / 1000), '', '', gigabytes(steps.at(-1)!)]);
    for (const { label, optimizer, options } of variantsOf(network)) {
      const name = `${title}: ${label}`;
      await guarded(name, { spec, optimizer, options, threads }, child => measure(name, adam, child, countOf));
      const wanted = values.background === undefined ? network.background : values.background === 'yes';
      if (!wanted || optimizer !== 'steve') continue;
      const away = { spec, optimizer, options: { refresh: 'background', ...options }, threads };
      await guarded(`${name}, in the background`, away, child =>
        measureBackground(`${name}, in the background`, child, countOf),
      );
    }
  });
}

async function measureAlone(network: Network): Promise<void> {
  const spec = values.quick ? quickened(network.spec) : network.spec;
  const title = values.quick ? `small: ${network.title}` : network.title;
  const adams: Variant = { label: 'Adam', optimizer: 'adam', options: {} };
  for (const { label, optimizer, options } of [adams, ...variantsOf(network)]) {
    const name = `${title}: ${label}`;
    say(`${name} …`);
    await guarded(name, { spec, optimizer, options, threads }, async child => {
      const steps = await wholeSteps(request => child.ask(request), optimizer === 'adam', say);
      const of = (wanted: string) => steps.filter(({ what }) => what === wanted).map(({ answer }) => answer);
      const [first, plain, statistics, later] = ['first step', 'step', 'with statistics', 'with a refresh'].map(of) as [
        Answer[],
        Answer[],
        Answer[],
        Answer[],
      ];
      const cell = (answers: readonly Answer[]) =>
        answers.length === 0 ? '' : shown(median(answers.map(a => a.cpu)) / 1000);
      const all = [first, plain, statistics, later];
      wholeTable.push([name, ...all.map(cell), gigabytes(first[0]!), gigabytes(steps.at(-1)!.answer)]);
      if (optimizer === 'adam') return;
      for (const [i, what] of ['first step', 'step', 'with statistics', 'with a refresh'].entries())
        notePhases(`${name}: ${what}`, all[i]!);
    });
  }
}

// --- the tables -------------------------------------------------------------------------------------------------------------

for (const name of names) await (values.whole ? measureAlone : measureNetwork)(NETWORKS[name]!);
const header =
  `${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0]!.model.trim()}, Node ${process.version}, ` +
  `${threads === 1 ? 'one thread' : `${threads} threads`}; ` +
  (values.whole
    ? 'each alone in memory; steps by CPU time of all threads, phases by the clock on the wall.'
    : `medians of ${rounds} rounds, ${clock === 'cpu' ? 'steps by CPU time, all else' : 'all'} by the clock on the wall.`);
const remarks = [...notes, ...failures.map(failure => `Not measured: ${failure}`)];
const listed = remarks.length === 0 ? [] : [remarks.map(remark => `- ${remark}`).join('\n')];
const document = [
  header,
  markdown(values.whole ? wholeTable : table),
  ...listed,
  'Where the time goes:',
  markdown(phaseTable),
].join('\n\n');
console.log(document);
if (values.into !== undefined)
  putInto(values.into, values.whole ? 'bench/large, whole steps' : 'bench/large', document);
for (const failure of failures) console.error(`FAILED ${failure}`);
if (failures.length > 0) process.exitCode = 1;
