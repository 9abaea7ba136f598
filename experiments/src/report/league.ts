/** Several experiments on one page: a row for each, who is quicker there than the best first-order contender, and by what. */

import type { Block, Cell, Document } from './document.ts';
import { ratioChart } from './figures/ratios.ts';
import { digits, intervalText, listText, medianText, pText, ratioText, times, winsText } from './format.ts';
import { answerOf, lossesOf } from './page.ts';
import { sideOf, signTest, smallestP } from './statistics.ts';
import { budgetOf, type Comparison, compare, type Finalist, type Summary } from './summary.ts';
import { finals } from './tables.ts';
import { goal, measureName } from './words.ts';

/** One experiment: its summary and the address of its page. */
export type Entry = { readonly summary: Summary; readonly href: string };

export type LeagueOptions = {
  /** The contender that has columns of its own. */
  readonly focus: string;
  /** A ratio of seconds that counts as clearly quicker. */
  readonly margin: number;
};

type Standing = { readonly name: string; readonly one: Finalist; readonly beside: Comparison };

/** A finalist beside the best first-order one, where there are both and they can be paired. */
function standing(s: Summary, one: Finalist | null): Standing | null {
  if (one === null || s.firstOrder === null || one === s.firstOrder) return null;
  const beside = compare(one, s.firstOrder, s.measure);
  return beside.ratio.n === 0 ? null : { name: s.run.info.experiment.name, one, beside };
}

const focusOf = (s: Summary, focus: string): Finalist | null =>
  s.ranked.find(({ contender }) => contender === focus) ?? null;

function cells(found: Standing | null, named: boolean): Cell[] {
  if (found === null) return [...(named ? [{ text: '–' }] : []), { text: '–' }, { text: '–' }];
  const { one, beside } = found;
  const { ratio, wins } = beside;
  return [
    ...(named ? [{ text: one.label }] : []),
    {
      text: ratioText(ratio),
      best: sideOf(ratio) === 'below',
      ...(ratio.interval !== null && { note: intervalText(ratio) }),
    },
    { text: winsText(wins), note: `p ${pText(wins.p)}` },
  ];
}

/** How a contender does over all experiments, in sentences. */
function overall(name: string, all: readonly (Standing | null)[], margin: number): string {
  const found = all.filter(one => one !== null);
  const unmeasured = all.length - found.length;
  const n = found.length;
  if (n === 0) return `${name} was measured beside a first-order contender in none of these experiments.`;
  // An upper bound below a limit is below it, a lower bound above it; the others say nothing.
  const atMost = ({ beside: { ratio } }: Standing) => (ratio.bound === 'at least' ? null : ratio.value) ?? Infinity;
  const atLeast = ({ beside: { ratio } }: Standing) => (ratio.bound === 'at most' ? null : ratio.value) ?? 0;
  const won = found.filter(one => atMost(one) < 1);
  const lost = found.filter(one => atLeast(one) > 1);
  const open = found.filter(one => !won.includes(one) && !lost.includes(one));
  const surely = (side: 'below' | 'above') => found.filter(({ beside }) => sideOf(beside.ratio) === side);
  const clear = found.filter(one => atMost(one) <= margin);
  const exact = found.filter(({ beside }) => beside.ratio.bound === 'exact').map(atMost);
  const mean = Math.exp(exact.reduce((sum, ratio) => sum + Math.log(ratio), 0) / exact.length);
  const titles = (list: readonly Standing[]) => listText(list.map(({ name }) => name));
  const lostSurely = surely('above');
  return [
    `${name} is quicker than the best first-order contender in ${won.length} of ${n} experiments (sign test over experiments, p = ${pText(signTest(won.length, lost.length))}); in ${surely('below').length} of them the 95 % interval lies below 1${surely('below').some(({ beside }) => smallestP(beside.ratio.n) > 0.05) ? ', which with so few seeds is no test of significance' : ''}.`,
    `It takes at most ${margin} times the seconds in ${clear.length} of ${n}.`,
    ...(exact.length > 1
      ? [
          `The geometric mean of the ${exact.length === n ? '' : `${exact.length} `}ratios that no miss leaves open is ${times(mean)}, from ${times(Math.min(...exact))} to ${times(Math.max(...exact))}.`,
        ]
      : []),
    lost.length === 0
      ? 'It loses in none.'
      : `It loses in ${lost.length}: ${titles(lost)}${lostSurely.length > 0 ? `; the interval lies above 1 in ${titles(lostSurely)}` : ''}.`,
    ...(open.length > 0 ? [`Neither is known to be quicker in ${open.length}: ${titles(open)}.`] : []),
    ...(unmeasured > 0 ? [`Not measured, or the best first-order contender itself, in ${unmeasured}.`] : []),
  ].join(' ');
}

/** A row for each contender, in the order of the experiments', and a column for each experiment: the better schedule where there are two. */
function everyone(summaries: readonly Summary[]): Block {
  const labels = new Map(summaries.flatMap(({ run }) => Object.entries(run.info.labels)));
  const rows = [...labels].filter(([name]) => summaries.some(s => focusOf(s, name) !== null));
  return {
    kind: 'table',
    caption: 'All contenders: seconds to the target over those of the best first-order one, geometric means over seeds',
    columns: [
      { title: 'contender' },
      ...summaries.map(({ run }) => ({ title: run.info.experiment.name, numeric: true })),
    ],
    rows: rows.map(([name, label]) => [
      label,
      ...summaries.map((s): Cell => {
        const one = focusOf(s, name);
        if (one === null) return { text: '–' };
        if (one === s.firstOrder) return { text: '1' };
        const { ratio } = standing(s, one)?.beside ?? {};
        if (ratio === undefined) return { text: 'not measured' };
        return ratio.bound === 'unknown'
          ? { text: 'missed' }
          : { text: ratioText(ratio), best: sideOf(ratio) === 'below' };
      }),
    ]),
  };
}

export function league(entries: readonly Entry[], { focus, margin }: LeagueOptions): Document {
  const summaries = entries.map(({ summary }) => summary);
  const families = summaries.map(s => standing(s, s.kronecker));
  const focused = summaries.map(s => standing(s, focusOf(s, focus)));
  const label = summaries.map(s => s.run.info.labels[focus]).find(name => name !== undefined) ?? focus;
  const unfinished = summaries.filter(({ missing }) => missing.length > 0);
  const shortened = summaries.filter(({ run }) => run.info.short);
  const titles = (list: readonly Summary[]) => listText(list.map(s => s.run.info.experiment.title));
  const byCpu = summaries.filter(({ measure }) => measure === 'cpu');
  const text = (text: string, strong = false): Block => ({ kind: 'text', text, strong });
  return {
    title: `A league of ${entries.length} experiments`,
    lead: `The quickest Kronecker-factored contender of each, and ${label}, beside the quickest tuned first-order contender.`,
    sections: [
      {
        id: 'overall',
        title: 'Overall',
        blocks: [
          ...(shortened.length > 0 ? [text(`Shortened runs, which are no results: ${titles(shortened)}.`, true)] : []),
          ...(unfinished.length > 0 ? [text(`Not finished: ${titles(unfinished)}.`, true)] : []),
          text(overall(label, focused, margin)),
          text(overall("The family's best", families, margin)),
          text(
            "The family's best, as the best first-order contender, is picked in each experiment by the seeds that it is judged by.",
          ),
          {
            kind: 'table',
            caption: `Seconds to the target over those of the best first-order contender${byCpu.length > 0 ? `; CPU seconds as measured in ${titles(byCpu)}` : ''}`,
            columns: [
              { title: 'experiment' },
              { title: 'best first-order' },
              { title: 'its seconds', numeric: true },
              { title: "family's best" },
              { title: 'ratio', numeric: true },
              { title: 'seeds won', numeric: true },
              { title: `${label}: ratio`, numeric: true },
              { title: 'seeds won', numeric: true },
            ],
            rows: summaries.map((s, i) => {
              const first = s.firstOrder;
              return [
                { text: s.run.info.experiment.title, note: `to ${goal(s)}` },
                first?.label ?? '–',
                first === null
                  ? '–'
                  : medianText(first.spreads[s.measure], budgetOf(first.to[s.measure]), x => digits(x)),
                ...cells(families[i]!, true),
                ...cells(focused[i]!, false),
              ];
            }),
          },
          ...ratioChart(
            summaries.map(s => s.run.info.experiment.title),
            [
              { label: "the family's best", ratios: families.map(one => one?.beside.ratio ?? null) },
              { label, ratios: focused.map(one => one?.beside.ratio ?? null) },
            ],
            { margin, file: 'league.svg' },
          ),
          everyone(summaries),
          text(
            'Bold: the interval lies below 1. 1: the best first-order one. A ">": its misses make it a lower bound, a "<": those of the first-order one an ' +
              'upper bound; "missed": both have some. A dash: not in that experiment.',
          ),
        ],
      },
      ...entries.map(({ summary: s, href }, i) => ({
        id: `experiment-${i + 1}`,
        title: s.run.info.experiment.title,
        blocks: [
          text(s.run.info.experiment.about),
          ...answerOf(s),
          ...(s.ranked.length === 0 ? [] : [finals(s), ...lossesOf(s)]),
          { kind: 'link', text: `Full report, ${measureName(s.measure)} and all else`, href } as const,
        ],
      })),
    ],
  };
}
