/** Pages of reports in a browser: as wide as the window, nothing out of sight, labels apart. Runs are made up. */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeReport } from 'otimes-experiments';
import { chromium } from 'playwright-core';
import t from 'tap';
import { CHROMIUM, testNeeding } from './helpers/requires.ts';
import { DOZEN, type Synthetic, type SyntheticOptions, syntheticRun, writeRun } from './helpers/synthetic-run.ts';

// NOTE: awaited before the first test is told, or tap would take the pause for the end.
const inBrowser = await testNeeding(t, 'chromium');

const home = t.testdir();
let count = 0;
const written = (run: Synthetic): string => writeRun(join(home, `run-${count++}`), run);
const made = (o: SyntheticOptions): string => written(syntheticRun(o));
const pick = (...names: string[]) => DOZEN.filter(({ name }) => names.includes(name));

inBrowser('no two labels of an axis touch, whatever the numbers and their size', async t => {
  const browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
  t.teardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const touching = `[...document.querySelectorAll('[aria-label="x-axis tick label"]')].flatMap(axis => {
    const boxes = [...axis.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).flatMap(([b, q]) =>
      p.left < q.right && q.left < p.right ? [a + ' and ' + b] : []));
  })`;
  // Steps of up to 400 by their number are up to 4 million of another experiment.
  for (const by of [1, 3.8, 40, 1e4])
    for (const step of [0.003, 1.7, 4000]) {
      const run = syntheticRun({
        contenders: [
          { name: 'one', label: 'SGD with Nesterov momentum', steps: [390, 300, null], step, test: 0.96123 },
          { name: 'two', label: 'STEVE', family: 'kronecker', steps: [70, 350, null], step: 2 * step, test: 0.9701 },
        ],
      });
      const trials = run.trials.map(trial => ({
        ...trial,
        checks: trial.checks.map(check => ({ ...check, step: Math.round(by * check.step) })),
      }));
      const info = { ...run.info, stepsPerEpoch: Math.round(by * run.info.stepsPerEpoch) };
      const { html } = writeReport(written({ ...run, info, trials }));
      await page.goto(`file://${html}`);
      t.strictSame(await page.evaluate(touching), [], `${by}, ${step}`);
      const hidden =
        '[...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth).length';
      t.equal(await page.evaluate(hidden), 0, 'no column is out of sight');
      t.ok(
        ((await page.evaluate(
          'document.querySelectorAll("[aria-label=\'x-axis tick label\'] text").length',
        )) as number) > 30,
      );
    }
});

inBrowser('a browser opens the pages from files without a word, and they are as wide as the window', async t => {
  const long = `https://example.org/${'long'.repeat(40)}`;
  const kronecker = { refreshEvery: 50, factorEvery: 10, refresh: 'sync', sharing: 'reduce', maxFactorDim: 1024 };
  const two = { name: 'two', title: long, about: long, targetFrom: long, kronecker };
  const folders = [made({ contenders: DOZEN }), made({ contenders: pick('steve'), experiment: two })];
  const { html, experiments } = writeReport(folders, { out: join(home, 'in-browser') });
  const browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
  t.teardown(() => browser.close());
  for (const width of [1280, 390]) {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    const said: string[] = [];
    page.on('console', message => said.push(message.text()));
    page.on('pageerror', error => said.push(String(error)));
    page.on('request', request => {
      if (!/^(file|data):/.test(request.url())) said.push(request.url());
    });
    for (const path of [html, ...experiments]) {
      await page.goto(`file://${path}`);
      t.equal(await page.evaluate('document.documentElement.scrollWidth'), width, `${path} at ${width}`);
    }
    t.strictSame(said, []);
    await page.close();
  }
});

t.teardown(() => rmSync(home, { recursive: true, force: true }));
