/**
 * Reports of runs that are made up with known answers: what is read and refused, whom the pages name, what they say of misses,
 * divergences and what is missing.
 */

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { readRun, writeReport } from 'otimes-experiments';
import t from 'tap';
import { compare, summarize } from '../experiments/src/report/summary.ts';
import { law } from './helpers/law.ts';
import { rowsOf } from './helpers/report-tables.ts';
import { DOZEN, type Synthetic, type SyntheticOptions, syntheticRun, writeRun } from './helpers/synthetic-run.ts';

const home = t.testdir();
let count = 0;
const written = (run: Synthetic): string => writeRun(join(home, `run-${count++}`), run);
const made = (o: SyntheticOptions): string => written(syntheticRun(o));

/** A report's page and text. */
function reported(folder: string) {
  const { html, markdown } = writeReport(folder);
  const page = readFileSync(html, 'utf8');
  const { document } = parseHTML(page);
  return { page, document, markdown: readFileSync(markdown, 'utf8'), text: document.querySelector('main').textContent };
}
const pick = (...names: string[]) => DOZEN.filter(({ name }) => names.includes(name));

// --- numbers ---

law(t, 'seconds are steps to the target times the step time, and ratios are paired by seed', () => {
  const s = summarize(
    readRun(
      made({
        contenders: [
          { name: 'slow', steps: [100, 200, 300], step: 2 },
          { name: 'quick', family: 'kronecker', steps: [50, 100, 150], step: 3 },
        ],
      }),
    ),
  );
  const [quick, slow] = s.ranked as [(typeof s.ranked)[0], (typeof s.ranked)[0]];
  assert.deepEqual([quick.contender, slow.contender], ['quick', 'slow']);
  assert.deepEqual(
    [quick.spreads.seconds.median, slow.spreads.steps.median, slow.spreads.epochs.median],
    [0.3, 200, 4],
  );
  const { ratio, wins } = compare(quick, slow, 'seconds');
  // .5 of the steps at 1.5 times the step, the same with each seed.
  for (const x of [ratio.value, ...ratio.interval!]) assert.ok(Math.abs(x! - 0.75) < 1e-12);
  assert.deepEqual(wins, { won: 3, lost: 0, tied: 0, p: 0.25 });
});

law(t, 'the answer names who is first, the ratio, the interval, and what the sign test cannot say', () => {
  const { text } = reported(made({ contenders: pick('adamw', 'muon', 'steve') }));
  assert.match(text, /STEVE reaches 90\s% accuracy first: in 0\.398 seconds \(median of 5 seeds, 0\.345–0\.477\)/);
  assert.match(text, /0\.56 times the seconds of Muon \(95 % interval 0\.5\d–0\.6\d, ahead in 5 of 5 seeds\)/);
  assert.match(
    text,
    /Its interval lies below 1, which with 5 seeds is no test of significance: by the sign test p = 0\.0625, and/,
  );
  assert.match(text, /with 5 seeds it does not go below 0\.0625/);
  assert.match(
    text,
    /STEVE loses elsewhere: 1\.56 times the time per step of AdamW; 1\.30 times the memory of [^;]+; 1\.20\spoints of test/,
  );
});

law(t, 'where first-order contenders are first, the answer says so, and what the family takes', () => {
  const quick = { name: 'adamw', label: 'AdamW', steps: [50, 60, 55], step: 1 };
  const slow = { name: 'steve', label: 'STEVE', family: 'kronecker', steps: [100, 110, 100], step: 3 } as const;
  const { text } = reported(made({ contenders: [quick, slow] }));
  assert.match(text, /AdamW reaches/);
  assert.match(text, /Kronecker-factored contender, STEVE, takes 5\.\d\d times the seconds of AdamW/);
  assert.match(
    text,
    /Its interval lies above 1, which with 3 seeds is no test of significance: by the sign test p = 0\.25/,
  );
});

law(t, 'misses are counted, never averaged: medians beyond the budget, bounds for ratios', () => {
  const { document, text } = reported(made({ contenders: pick('adamw', 'sgd') }));
  const sgd = rowsOf(document, /quickest first/).get('SGD')!;
  assert.ok(sgd.includes('2 of 5'), 'misses');
  assert.match(sgd[0]!, /0\.930–missed/);
  assert.ok(
    sgd.some(cell => /^> \d/.test(cell)),
    'a ratio with a bound',
  );
  assert.equal(rowsOf(document, /^Means/).get('SGD')![0], '–', 'no mean');
  assert.match(text, /SGD: .*the target missed with 2 of 5 seeds/);
  const never = reported(made({ contenders: [{ name: 'sgd', steps: [null, null, null], step: 2 }] }));
  assert.match(never.text, /No contender reached 90\s% accuracy in the median of its seeds within 8 epochs/);
  assert.match(rowsOf(never.document, /quickest first/).get('SGD')![0]!, /^> 0\.800/);
  assert.match(never.text, /Nearest came SGD, with a validation accuracy of 83\.44\s% at best/);
  assert.equal(never.document.querySelector('.best'), null, 'nothing is the best of what nobody has');
});

law(t, 'one seed: no interval and no word of significance but that there is none', () => {
  const contenders = pick('adamw', 'steve').map(c => ({ ...c, steps: c.steps.slice(0, 1) }));
  const { text, page } = reported(made({ contenders }));
  assert.match(text, /With one seed nothing can be said of chance/);
  assert.ok(!/NaN|undefined|Infinity/.test(page), page.match(/.{60}(NaN|undefined|Infinity).{20}/)?.[0]);
});

law(t, 'a best trial near the end of its range is told, one in the middle is not', () => {
  const { text } = reported(made({ contenders: pick('adamw', 'steve') }));
  assert.match(text, /STEVE: its best lr, 0\.09, lies within 10 % of the upper end of 0\.0001 to 0\.1/);
  assert.ok(!/AdamW: its best lr/.test(text));
});

// --- whole pages ---

const dozen = reported(made({ contenders: DOZEN }));

law(t, 'every contender stands in every table of contenders, and in the Markdown of it', () => {
  const tables = [...dozen.document.querySelectorAll('table')].filter(
    table => table.querySelector('thead th')?.textContent === 'contender',
  );
  const some = /Divergences|diverged; what|inside of optimizers/;
  const captions = tables.map(table => table.querySelector('caption')!.textContent!);
  assert.ok(captions.length >= 8, captions.join('\n'));
  for (const [i, table] of tables.entries())
    if (!some.test(captions[i]!)) {
      const names = [...table.querySelectorAll('tbody th')].map(cell => cell.textContent);
      assert.deepEqual(names.sort(), DOZEN.map(({ label }) => label!).sort(), captions[i]);
    }
  for (const { label } of DOZEN) {
    const rows = dozen.markdown.split('\n').filter(line => line.startsWith(`| ${label} `));
    assert.ok(rows.length >= captions.length - 2, `${label}: ${rows.length} rows`);
  }
});

law(t, 'rows of a Markdown table have as many cells as its head', () => {
  const tables = dozen.markdown.split('\n\n').filter(part => part.startsWith('| '));
  assert.ok(tables.length >= 8);
  for (const table of tables) {
    const widths = new Set(table.split('\n').map(line => line.replaceAll('\\|', '').split('|').length));
    assert.equal(widths.size, 1, table);
  }
});

law(t, 'a page needs nothing else: no script, and no address but its own parts', () => {
  const { document, page } = dozen;
  assert.equal(document.querySelector('script'), null);
  for (const element of document.querySelectorAll('[src],[href]')) {
    const address = element.getAttribute('src') ?? element.getAttribute('href')!;
    assert.match(address, /^(#|data:)/);
  }
  assert.ok(!/url\((?!#)|@import/.test(page.replaceAll(/url\(&quot;#/g, '')), 'nothing that a style would load');
  const addresses = [...page.matchAll(/https?:\/\/[^"'\s<]+/g)].map(([address]) => address);
  assert.deepEqual([...new Set(addresses)], ['http://www.w3.org/2000/svg'], 'a name, not an address');
});

law(t, 'a page is semantic: scopes, captions, titles of pictures, and no number that is none', () => {
  const { document, page } = dozen;
  for (const cell of document.querySelectorAll('th')) assert.match(cell.getAttribute('scope')!, /^(col|row)$/);
  for (const table of document.querySelectorAll('table')) assert.ok(table.querySelector('caption')!.textContent);
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    assert.equal(svg.getAttribute('xmlns'), 'http://www.w3.org/2000/svg');
    assert.ok(svg.querySelector('title')!.textContent);
  }
  assert.ok(document.querySelectorAll('svg[role=img]').length > 40, 'charts');
  assert.ok(!/NaN|undefined/.test(page), page.match(/.{60}(NaN|undefined).{20}/)?.[0]);
  assert.equal(document.querySelectorAll('h1').length, 1);
});

law(t, 'the same records give the same report', () => {
  const folder = made({ contenders: pick('adamw', 'steve') });
  const without = (page: string) => page.replaceAll(/plot-clip-\d+/g, '');
  const [first, second] = [reported(folder), reported(folder)];
  assert.equal(without(first.page), without(second.page));
  assert.equal(first.markdown, second.markdown);
});

law(t, 'names are text, whatever is in them', () => {
  const evil = `<script>alert("1")</script>&'|*_[x](y)\``;
  const contenders = pick('adamw', 'steve').map(c => ({ ...c, label: `${c.label}${evil}` }));
  const run = syntheticRun({ contenders, experiment: { title: evil, about: evil, targetFrom: evil } });
  const trials = run.trials.map(trial => ({ ...trial, reason: trial.outcome === 'diverged' ? evil : null }));
  const { document, page, markdown, text } = reported(written({ ...run, trials }));
  assert.equal(document.querySelector('script'), null);
  assert.ok(!page.includes('<script') && !markdown.includes('<script'));
  assert.equal(document.querySelector('h1')!.textContent, evil);
  assert.ok(text.includes(`STEVE${evil}`));
  for (const table of markdown.split('\n\n').filter(part => part.startsWith('| ')))
    assert.equal(new Set(table.split('\n').map(line => line.replaceAll('\\|', '').split('|').length)).size, 1, table);
});

// --- runs that have not ended ---

law(t, 'a run without timing.json says so, and compares CPU seconds as measured', () => {
  const { text, document } = reported(made({ contenders: pick('adamw', 'steve'), timing: false }));
  assert.match(text, /This run has not ended\. .*there is no timing\.json/);
  assert.match(text, /first: in 0\.437 CPU seconds as measured/);
  assert.match(rowsOf(document, /quickest first/).get('STEVE')![0]!, /^0\.437/);
});

law(t, 'a half-finished run has a report that says what is missing, and one that has just begun too', () => {
  const half = reported(made({ contenders: pick('adamw', 'muon', 'steve'), timing: false, unfinished: ['muon'] }));
  assert.match(half.text, /Tuning has not ended: Muon 1 of 3 trials\. Not all finals have begun: Muon\./);
  assert.ok(rowsOf(half.document, /^Chosen settings/).has('Muon'));
  const run = syntheticRun({ contenders: pick('adamw', 'steve'), timing: false });
  const lost = run.trials.filter(({ id }) => id !== 'steve-constant-seed-3');
  assert.match(reported(written({ ...run, trials: lost })).text, /Seeds are missing: STEVE has 4 of 5\./);
  const begun = reported(written({ ...run, trials: [] }));
  assert.match(begun.text, /Tuning has not ended: AdamW 0 of 3 trials and STEVE 0 of 3 trials/);
  assert.match(begun.text, /No final run has ended yet, so there is no answer/);
});

law(t, 'divergences are listed with setting, step and reason; a shortened run is no result', () => {
  const { document } = reported(made({ contenders: pick('kfac') }));
  assert.deepEqual(rowsOf(document, /diverged; what/).get('KFAC'), [
    'final',
    'lr 0.01, weightDecay 0.01, constant',
    '3',
    '100',
    'the loss is not finite at step 100',
  ]);
  assert.match(reported(made({ contenders: pick('adamw'), info: { short: true } })).text, /nothing here is a result/);
});

// --- what is refused ---

/** The message of reading a run of which one file is changed. */
function refused(path: string, change: (text: string) => string): string {
  const folder = made({ contenders: pick('adamw', 'steve') });
  const file = join(folder, path);
  writeFileSync(file, change(readFileSync(file, 'utf8')));
  try {
    readRun(folder);
  } catch (error) {
    const { message } = error as Error;
    assert.ok(message.includes(file), `names the file: ${message}`);
    return message;
  }
  return assert.fail(`${path} was read`);
}
const TRIAL = 'trials/steve-constant-seed-1.json';
const value = (name: string, json: string) => (text: string) =>
  text.replace(new RegExp(`"${name}":[^,}\\]]+`), `"${name}":${json}`);

law(t, 'a damaged record is an error that names the file, the place and what came', () => {
  for (const path of ['experiment.json', TRIAL, 'timing.json']) {
    assert.match(
      refused(path, text => text.slice(0, text.length / 2)),
      /expected JSON: /,
    );
    assert.match(
      refused(path, () => ''),
      /expected JSON: /,
    );
    assert.match(refused(path, value('format', '2')), /format: expected 1, got 2/);
    assert.match(
      refused(path, () => 'null'),
      /format: expected 1, got nothing/,
    );
  }
  assert.match(refused(TRIAL, value('reached', '9999')), /reached: expected the index of one of 81 checks, got 9999/);
  assert.match(
    refused(TRIAL, value('step', '"x"')),
    /checks\[0\]\.step: expected a whole number of 0 or more, got "x"/,
  );
  assert.match(refused(TRIAL, value('loss', 'null')), /validation\.loss: expected a finite number, got null/);
  assert.match(refused(TRIAL, value('outcome', '"lost"')), /expected "target" or .*, got "lost"/);
  assert.match(refused(TRIAL, value('contender', '"adam"')), /expected one of adamw, steve, got "adam"/);
  assert.match(refused(TRIAL, value('id', '"other"')), /\.id: expected 'steve-constant-seed-1', got "other"/);
  assert.match(refused('experiment.json', value('target', 'true')), /\$\.experiment\.target: expected a finite number/);
  assert.match(
    refused('experiment.json', text => text.replace('"labels":{', '"labels":{"x":3,')),
    /\$\.labels\.x: expected text, got 3/,
  );
  assert.match(
    refused('timing.json', value('median', '0')),
    /contenders\[0\]\.median: expected a number above 0, got 0/,
  );
});

law(t, 'a folder without a run, options that do not exist and contenders that nobody knows are refused', () => {
  const folder = made({ contenders: pick('adamw', 'steve') });
  assert.throws(() => readRun(home), /expected a run's folder, but it has no experiment\.json/);
  assert.throws(() => writeReport([]), /expected the path of a run's folder, or several, got none/);
  for (const wrong of [undefined, null, 3, {}, [folder, 3]]) {
    assert.throws(() => writeReport(wrong as never), /^TypeError: writeReport: expected the path of a run's folder/);
    assert.throws(() => readRun(wrong as never), /^TypeError: readRun: expected folder to be a string, got/);
  }
  assert.throws(() => writeReport(folder, { output: 'x' } as object), /output/);
  assert.throws(() => writeReport(folder, { baseline: 'adam' }), /baseline: expected one of adamw, steve, got 'adam'/);
  assert.throws(() => writeReport([folder, folder]), /2 folders: expected a folder for the league, out/);
  assert.throws(() => writeReport([folder, folder], { out: home }), /a name of its own, got 'made-up', as in/);
});

law(t, 'a note of who ran it stands at the top of the page', () => {
  const note = 'images of <b>another</b> archive';
  const run = syntheticRun({ contenders: pick('adamw', 'steve') });
  const folder = written({ ...run, info: { ...run.info, note } });
  const { document, markdown } = reported(folder);
  assert.ok(
    document.querySelector('#answer')!.textContent!.startsWith(`AnswerNote: ${note}`.replace('Answer', 'Answer\n')),
  );
  assert.match(markdown, /\*\*Note: images of &lt;b&gt;another&lt;\/b&gt; archive\*\*/);
});

t.teardown(() => rmSync(home, { recursive: true, force: true }));
