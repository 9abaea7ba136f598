/** The report of one run: its sections in order. */

import { settingText } from '../format.ts';
import type { Block, Document, Section } from './document.ts';
import { curves } from './figures/curves.ts';
import { costs, timesToTarget } from './figures/rows.ts';
import { spectra } from './figures/spectra.ts';
import { edges, tuningCharts } from './figures/tuning.ts';
import { countText, megabytes } from './format.ts';
import type { Summary } from './summary.ts';
import { diverged, finals, inside, lossesTable, phases, seeds, settings, tests } from './tables.ts';
import { answer, losses, method } from './words.ts';

const text = (text: string, strong = false): Block => ({ kind: 'text', text, strong });

/** What a reader must know before any number. */
export function warnings(s: Summary): Block[] {
  return [
    ...(s.run.info.short ? [text('A shortened run, as tests make them: nothing here is a result.', true)] : []),
    ...(s.run.info.changes === undefined
      ? []
      : [
          text(
            `Not as the experiment has it: ${s.run.info.changes.join(', ')}. ${
              s.run.info.changes.some(change => change.startsWith('--epochs'))
                ? 'The target was chosen for another budget.'
                : 'The target was chosen before.'
            }`,
            true,
          ),
        ]),
    ...(s.run.info.note === undefined ? [] : [text(`Note: ${s.run.info.note}`, true)]),
    ...(s.missing.length === 0 ? [] : [text(`This run has not ended. ${s.missing.join(' ')}`, true)]),
  ];
}

export const answerOf = (s: Summary): Block[] => [...warnings(s), text(answer(s).join(' '))];

export function lossesOf(s: Summary): Block[] {
  if (s.ranked.length === 0) return [];
  return [lossesTable(s), { kind: 'list', items: losses(s).map(({ one, sentence }) => `${one.label}: ${sentence}`) }];
}

function tuningOf(s: Summary): Block[] {
  const { tuning } = s.run.info.experiment;
  const near = edges(s.tuned);
  const ranged = s.tuned.some(({ space, trials }) => space !== null && trials.length > 1);
  return [
    settings(s),
    ...tuningCharts(s),
    ...(near.length > 0
      ? [text('Optima near an edge:', true), { kind: 'list', items: near } as const]
      : ranged
        ? [text('No best trial lies near an end of its range.')]
        : tuning.trials > 0
          ? [
              text(
                s.tuned.every(({ space }) => space === null)
                  ? 'Whether a best trial lies near an end of its range is not known: ranges were not recorded.'
                  : 'Whether a best trial lies near an end of its range cannot be said yet: of no contender two trials have ended.',
              ),
            ]
          : []),
  ];
}

function machineOf(s: Summary): Block[] {
  const { experiment, versions, machine, started } = s.run.info;
  return [
    {
      kind: 'table',
      caption: 'Machine and versions',
      columns: [{ title: 'what' }, { title: 'which' }],
      rows: [
        ['started', started],
        ['processor', `${machine.cpu}, ${countText(machine.cores, 'core')}`],
        ['memory', megabytes(machine.memory)],
        ['platform', machine.platform],
        ['tensors on', machine.device],
        ...Object.entries(versions).map(([name, version]) => [name, version]),
      ],
    },
    ...(Object.keys(experiment.kronecker).length === 0
      ? []
      : [text(`Options of all Kronecker optimizers: ${JSON.stringify(experiment.kronecker)}`)]),
    ...Object.entries(experiment.fixed ?? {}).map(([name, setting]) =>
      text(`Not tuned, ${name}: ${settingText(setting)}`),
    ),
    { kind: 'folded', summary: 'The experiment as JSON', text: JSON.stringify(experiment, null, 2) },
  ];
}

/** `page` is the address of the HTML page, for the Markdown to link to. */
export function report(s: Summary): Document {
  const { experiment } = s.run.info;
  const some = s.ranked.length > 0;
  const gone = diverged(s);
  const within = inside(s);
  const drawn = spectra(s);
  const sections: (Section | null)[] = [
    { id: 'answer', title: 'Answer', blocks: answerOf(s) },
    some ? { id: 'finals', title: 'Time to the target', blocks: [finals(s), timesToTarget(s), seeds(s)] } : null,
    some ? { id: 'loses', title: 'Where each loses', blocks: lossesOf(s) } : null,
    some ? { id: 'curves', title: 'Curves', blocks: curves(s), onlyHtml: true } : null,
    some ? { id: 'test', title: 'Test set', blocks: [tests(s)] } : null,
    { id: 'tuning', title: 'Settings and tuning', blocks: tuningOf(s) },
    {
      id: 'diverged',
      title: 'Divergences',
      blocks: [gone ?? text(s.run.trials.length === 0 ? 'No run has ended yet.' : 'No run diverged.')],
    },
    some
      ? { id: 'costs', title: 'Time by phase, and memory', blocks: [costs(s), phases(s), ...(within ? [within] : [])] }
      : null,
    drawn.length > 0 ? { id: 'spectra', title: 'Spectra of the factors', blocks: drawn, onlyHtml: true } : null,
    { id: 'method', title: 'How it was measured', blocks: [{ kind: 'list', items: method(s) }] },
    { id: 'config', title: 'Machine, versions, configuration', blocks: machineOf(s) },
  ];
  return {
    title: experiment.title,
    lead: experiment.about,
    sections: sections.filter(section => section !== null),
  };
}
