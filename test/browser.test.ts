/**
 * Training in a real browser, Debian's Chromium, from one bundled script: the losses are those of Node, bit for bit, on
 * the main thread and in a worker, on one thread and on two; and what a page's headers forbid is refused in clear words.
 */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { variants } from '@otimes/kernels';
import { build } from 'esbuild';
import { type Browser, chromium } from 'playwright-core';
import t, { type Test } from 'tap';
import { type Report, train } from './browser/train.ts';
import { allclose } from './helpers/allclose.ts';
import { startNode } from './helpers/program.ts';
import { CHROMIUM, testNeeding } from './helpers/requires.ts';

/** All of it needs the browser. */
const test = await testNeeding(t, 'chromium');

const ISOLATED = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};
const policy = (scripts: string) => ({
  'Content-Security-Policy': `default-src 'none'; img-src data:; script-src 'self' ${scripts}; worker-src 'self'`,
});
/** Folder → the headers of all in it. */
const PAGES: Record<string, Record<string, string>> = {
  plain: {},
  isolated: ISOLATED,
  'without-blobs': { ...ISOLATED, ...policy("'wasm-unsafe-eval'") },
  'without-eval': policy("'wasm-unsafe-eval'"),
  'without-wasm': policy(''),
};

const HTML = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="script.js"></script>';

async function serve(): Promise<string> {
  const entry = join(import.meta.dirname, 'browser/page.ts');
  const { outputFiles } = await build({
    entryPoints: [entry],
    ...{ bundle: true, minify: true, format: 'esm', platform: 'browser', target: 'es2022', write: false },
    conditions: ['@otimes/source'],
  });
  const script = outputFiles[0]!.text;
  const server = createServer(({ url = '' }, response) => {
    const [, folder = '', file] = url.replace(/\?.*/, '').split('/');
    const content = file === 'script.js' ? script : file === '' ? HTML : undefined;
    if (content === undefined || PAGES[folder] === undefined) response.writeHead(404).end();
    else
      response
        .writeHead(200, { 'Content-Type': file === '' ? 'text/html' : 'text/javascript', ...PAGES[folder] })
        .end(content);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function launch(executablePath: string): Promise<Browser> {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  t.teardown(() => browser.close());
  return browser;
}

/** Started with the first test. */
let browser: Browser;
let origin: string;
const expected = await train();

test('a browser starts, and the script is bundled and served', async t => {
  [origin, browser] = await Promise.all([serve(), launch(CHROMIUM!)]);
  t.match(browser.version(), /^\d+/);
});

type Visit = { readonly page: Report; readonly worker: Report; readonly warnings: string[]; readonly errors: string[] };

/** A new page, and what it and its workers write to the console. */
async function open() {
  const page = await browser.newPage();
  const warnings: string[] = [];
  const errors: string[] = [];
  page.on('pageerror', error => errors.push(String(error.stack)));
  page.on('console', message => {
    if (message.type() === 'warning') warnings.push(message.text());
    else if (message.type() === 'error') errors.push(message.text());
  });
  return { page, warnings, errors };
}

/** Opens a page of ours and waits for its reports. */
async function visit(address: string): Promise<Visit> {
  const { page, warnings, errors } = await open();
  await page.goto(`${origin}/${address}`);
  const reports = await page.evaluate<{ page: Report; worker: Report }>('reports');
  await page.close();
  return { ...reports, warnings, errors };
}

/** Both are V8 on the same processor: relaxed SIMD fuses multiply and add in both, or in neither. */
function sameAsHere(t: Test, report: Report, runs: readonly string[] = Object.keys(expected)): void {
  t.equal(report.variant, variants()[0]);
  t.strictSame(Object.keys(report.losses), runs);
  for (const run of runs) t.strictSame(report.losses[run], expected[run], run);
}
const ADAM = Object.keys(expected).filter(run => run.includes('Adam'));

t.test('every run learns', async t => {
  for (const [run, losses] of Object.entries(expected))
    t.ok(losses.every(Number.isFinite) && losses.at(-1)! < losses[0]!, run);
});

test('a page trains as Node does, bit for bit, and so does its worker; both on one thread, and say why', async t => {
  const { page, worker, warnings, errors } = await visit('plain/');
  for (const report of [page, worker]) {
    t.match(report, { isolated: false, threads: 1 });
    sameAsHere(t, report);
  }
  t.equal(warnings.length, 4);
  for (const what of [/setThreads\(2\): one thread is used, /, /decompositions do not run in the background /]) {
    const about = warnings.filter(warning => what.test(warning));
    t.equal(about.length, 2);
    for (const warning of about) t.match(warning, /Cross-Origin-Opener-Policy/);
  }
  t.strictSame(errors, []);
});

test('where the page is cross-origin isolated, its worker has threads, from the same single file', async t => {
  const { page, worker, warnings, errors } = await visit('isolated/');
  t.match(page, { isolated: true, threads: 1 });
  t.match(worker, { isolated: true, threads: 2 });
  for (const report of [page, worker]) sameAsHere(t, report);
  t.equal(warnings.length, 1);
  t.match(warnings[0], /setThreads\(2\): one thread is used, .*main thread of a page/);
  t.strictSame(errors, []);
});

test('a policy without workers from blobs is an error that says so, and one thread goes on', async t => {
  const { worker, errors } = await visit('without-blobs/');
  t.match(worker.threads, /^setThreads: .*worker-src blob:/);
  sameAsHere(t, worker);
  for (const error of errors) t.match(error, /Content Security Policy/);
});

test('a policy without evaluation of text leaves every optimizer', async t => {
  const { page, worker, errors } = await visit('without-eval/');
  for (const report of [page, worker]) sameAsHere(t, report);
  t.strictSame(errors, []);
});

test('a policy without WebAssembly leaves plain TypeScript', async t => {
  const { page, worker, errors } = await visit('without-wasm/?only=Adam');
  for (const { variant, threads, losses } of [page, worker]) {
    t.strictSame([variant, threads], [undefined, 1]);
    for (const run of ADAM) allclose(t, losses[run]!, expected[run]!, { rtol: 1e-3, atol: 1e-4 });
  }
  for (const error of errors) t.match(error, /Content Security Policy/);
});

test('a loop that makes 3 GB and pauses by nextTask runs on, and waits for no timer', async t => {
  const { page, errors } = await open();
  await page.goto(`${origin}/plain/?only=none`);
  const pause = await page.evaluate<number>('churn()');
  await page.close();
  t.ok(pause < 2, `the shortest pause takes ${pause} ms, a timer's 4`);
  t.strictSame(errors, []);
});

test('the demo page: both optimizers draw the smile, STEVE in fewer steps', async t => {
  const script = join(import.meta.dirname, '../examples/browser/serve.ts');
  const server = startNode(['--conditions=@otimes/source', '--import', 'tsx', script, '0'], join(script, '..'));
  t.teardown(() => server.kill());
  server.stderr.pipe(process.stderr);
  const [address] = (await once(server.stdout, 'data')) as [Buffer];
  const { page, warnings, errors } = await open();
  await page.goto(String(address).trim());
  await page.waitForFunction('document.body.dataset.runs === "1"');
  await page.click('button:text-is("smile")');
  const solved = 'document.body.dataset.runs === "2" && document.querySelectorAll("figure.solved").length === 2';
  await page.waitForFunction(solved, null, { timeout: 120_000 });
  const steps = (await page.locator('figcaption span').allTextContents()).map(text =>
    Number(text.match(/after (\d+)/)?.[1]),
  );
  t.equal(steps.length, 2);
  t.ok(steps[1]! < 0.75 * steps[0]!, `Adam ${steps[0]}, STEVE ${steps[1]}`);
  t.match(await page.textContent('footer'), /SIMD · \d+ threads? · Adam [\d.]+ ms/);
  const why = await page.textContent('#no-gpu');
  t.match(why, (await page.isEnabled('button:text-is("GPU")')) ? /^$/ : /^No GPU here\. initGpu: expected /);
  await page.close();
  t.strictSame(errors, []);
  const others = warnings.filter(warning => !warning.includes('No available adapters'));
  t.ok(others.length <= 1, others.join('\n'));
});
