/** Leagues of runs that are made up with known answers: who wins, ties and misses, the chart, and which files there are. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { writeReport } from 'otimes-experiments';
import t from 'tap';
import { law } from './helpers/law.ts';
import { rowsOf } from './helpers/report-tables.ts';
import { DOZEN, type SyntheticOptions, syntheticRun, writeRun } from './helpers/synthetic-run.ts';

const home = t.testdir();
let count = 0;
const made = (o: SyntheticOptions): string => writeRun(join(home, `run-${count++}`), syntheticRun(o));
const pick = (...names: string[]) => DOZEN.filter(({ name }) => names.includes(name));

law(t, 'a league has a row for each experiment, a verdict by numbers, and a page for each', () => {
  const slower = pick('adamw', 'muon').concat(
    pick('steve').map(c => ({ ...c, steps: c.steps.map(steps => 4 * (steps as number)) })),
  );
  const folders = [
    made({ contenders: pick('adamw', 'muon', 'steve', 'soap'), experiment: { name: 'a/one', title: 'One' } }),
    made({ contenders: slower, experiment: { name: 'two', title: 'Two' } }),
    made({ contenders: pick('adamw', 'soap'), experiment: { name: 'three', title: 'Three' } }),
  ];
  const out = join(home, 'league');
  const { html, markdown, experiments } = writeReport(folders, { out });
  assert.deepEqual(
    experiments,
    ['a-one', 'two', 'three'].map(name => join(out, `${name}.html`)),
  );
  for (const path of [...experiments, html, markdown]) assert.ok(existsSync(path), path);
  const { document } = parseHTML(readFileSync(html, 'utf8'));
  const rows = [...rowsOf(document, /^Seconds to the target over/)];
  assert.equal(rows.length, 3);
  assert.match(rows[0]!.join(), /^One.*Muon.*STEVE.*0\.56/);
  assert.match(rows[2]!.join(), /SOAP.*–,–$/, 'no STEVE there');
  const text: string = document.querySelector('main').textContent;
  assert.match(
    text,
    /STEVE is quicker than the best first-order contender in 1 of 2 experiments \(sign test .*p = 1\)/,
  );
  assert.match(
    text,
    /It loses in 1: two; the interval lies above 1 in two\. Not measured, or the best first-order contender itself, in 1\./,
  );
  const links = [...document.querySelectorAll('main a')].map(link => link.getAttribute('href'));
  assert.deepEqual(links, ['a-one.html', 'two.html', 'three.html']);
  const all = rowsOf(document, /^All contenders/);
  assert.deepEqual([...all.keys()], ['AdamW', 'Muon', 'STEVE', 'SOAP']);
  assert.deepEqual(all.get('Muon'), ['1', '1', '–'], 'the first-order one itself, twice, and absent');
  assert.deepEqual(all.get('STEVE'), ['0.56', '2.26', '–']);
  // Both series have a dot and an interval where they are measured; the margin and 1 are lines.
  const chart = [...document.querySelectorAll('figure svg')].find(svg =>
    /^Seconds to the target over/.test(svg.querySelector('title')!.textContent!),
  )!;
  assert.equal(
    chart.querySelectorAll('circle').length,
    2 + 3 + 2,
    'in the legend, of the best of the family, of STEVE',
  );
});

law(t, 'Markdown alone links to Markdown, and its chart is a file with colours for light and dark pages', () => {
  const folders = ['one', 'two'].map(name =>
    made({ contenders: pick('adamw', 'steve'), experiment: { name, title: name } }),
  );
  const out = join(home, 'texts');
  const { html, markdown, experiments } = writeReport(folders, {
    out,
    format: 'markdown',
    focus: 'steve',
    margin: 0.5,
  });
  assert.equal(html, null);
  assert.deepEqual(readdirSync(out).sort(), ['league.md', 'league.svg', 'one.md', 'two.md']);
  assert.deepEqual(
    experiments,
    ['one', 'two'].map(name => join(out, `${name}.md`)),
  );
  const text = readFileSync(markdown, 'utf8');
  for (const address of ['league.svg', 'one.md', 'two.md']) assert.ok(text.includes(`](${address})`), address);
  assert.doesNotMatch(text, /html/);
  assert.match(text, /at most 0\.5 times the seconds in 0 of 2/);
  const chart = readFileSync(join(out, 'league.svg'), 'utf8');
  for (const name of [...chart.matchAll(/var\(--([\w-]+)\)/g)].map(([, name]) => name))
    assert.equal(chart.split(`--${name}:`).length, 3, `--${name} has a colour for each`);
  const pages = writeReport(folders, { out: join(home, 'pages'), format: 'html' });
  assert.equal(pages.markdown, null);
  assert.deepEqual(readdirSync(join(home, 'pages')).sort(), ['league.html', 'one.html', 'two.html']);
  assert.throws(
    () => writeReport(folders, { out, format: 'pdf' as never }),
    /format to be 'both' or 'html' or 'markdown', got 'pdf'/,
  );
});

law(
  t,
  'a tie is no loss: where both missed nobody is known to be quicker, and the best first-order one has no ratio to itself',
  () => {
    const missed = pick('adamw', 'steve').map(c => ({ ...c, steps: c.steps.map(() => null) }));
    const folders = ['lost', 'tied', 'tied-too'].map((name, i) =>
      made({
        contenders:
          i > 0
            ? missed
            : pick('adamw').concat(pick('steve').map(c => ({ ...c, steps: c.steps.map(x => 4 * (x as number)) }))),
        experiment: { name, title: name },
      }),
    );
    const texts = (focus?: string) =>
      readFileSync(writeReport(folders, { out: join(home, 'ties'), ...(focus && { focus }) }).markdown, 'utf8');
    const text = texts();
    assert.match(
      text,
      /STEVE is quicker .* in 0 of 3 experiments \(sign test over experiments, p = 1\)/,
      'of one loss',
    );
    assert.match(text, /It loses in 1: lost[^.]*\. Neither is known to be quicker in 2: tied and tied-too\./);
    assert.match(text, /\| STEVE \| \d+\.\d+ \| missed \| missed \|/);
    assert.match(texts('adamw'), /AdamW was measured beside a first-order contender in none/);
  },
);

law(t, 'the focus is a contender of the league, and files are all told', () => {
  const folders = ['one', 'two'].map(name => made({ contenders: pick('adamw', 'steve'), experiment: { name } }));
  const out = join(home, 'told');
  assert.throws(
    () => writeReport(folders, { out, focus: 'stive' }),
    /focus: expected one of adamw, steve, got 'stive'/,
  );
  for (const own of [{ focus: 'steve' }, { margin: 0.5 }])
    assert.throws(
      () => writeReport(folders[0]!, own),
      /focus and margin are of a league: expected several folders, got one/,
    );
  assert.deepEqual(
    writeReport(folders, { out })
      .files.map(path => path.slice(out.length + 1))
      .sort(),
    readdirSync(out).sort(),
  );
});
