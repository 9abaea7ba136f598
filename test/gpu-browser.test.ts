/**
 * The device 'gpu' in a real browser, Debian's Chromium with WebGPU on SwiftShader: it learns on a page and in a Worker what the CPU
 * learns in Node, under a policy that forbids to compile text; and where there is no GPU it says why.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { build } from 'esbuild';
import { type Browser, chromium, type Page } from 'playwright-core';
import t from 'tap';
import { type GpuReport, train } from './browser/gpu-train.ts';
import { startNode } from './helpers/program.ts';
import { CHROMIUM, testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'chromium');

const HTML = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="script.js"></script>';
/** Folder → the policy of its page. */
const POLICIES: Record<string, string> = {
  plain: '',
  strict: "default-src 'none'; img-src data:; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'",
};

let browser: Browser;
let port = 0;

law('a browser starts, and the script is bundled for it without a warning', async () => {
  const { outputFiles, warnings } = await build({
    entryPoints: [join(import.meta.dirname, 'browser/gpu-page.ts')],
    ...{ bundle: true, minify: true, format: 'esm', platform: 'browser', target: 'es2022', write: false },
    conditions: ['@otimes/source'],
  });
  assert.deepEqual(warnings, []);
  const server = createServer(({ url = '' }, response) => {
    const [, folder = '', file] = url.replace(/\?.*/, '').split('/');
    const content = file === 'script.js' ? outputFiles[0]!.text : file === '' ? HTML : undefined;
    const policy = POLICIES[folder];
    if (content === undefined || policy === undefined) return void response.writeHead(404).end();
    const type = file === '' ? 'text/html' : 'text/javascript';
    response.writeHead(200, { 'Content-Type': type, 'Content-Security-Policy': policy }).end(content);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  port = (server.address() as AddressInfo).port;
  const args = ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
  // An address of its own that is this machine and, unlike localhost, no secure one.
  args.push('--host-resolver-rules=MAP insecure.test 127.0.0.1');
  browser = await chromium.launch({ executablePath: CHROMIUM!, args });
  t.teardown(() => browser.close());
});

/** Opens a page; `use` gets it. Nothing may be written to its console as a warning or an error. */
async function look<T>(address: string, use: (page: Page) => Promise<T>, before = ''): Promise<T> {
  const page = await browser.newPage();
  const errors: string[] = [];
  page.on('pageerror', error => errors.push(String(error.stack)));
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) errors.push(message.text());
  });
  if (before !== '') await page.addInitScript(before);
  await page.goto(address);
  const result = await use(page);
  await page.close();
  assert.deepEqual(errors, []);
  return result;
}

/** A page of ours. */
const visit = <T>(path: string, use: (page: Page) => Promise<T>, host = '127.0.0.1', before = '') =>
  look(`http://${host}:${port}/${path}`, use, before);

type Reports = Record<'page' | 'worker', GpuReport>;
const reports = (page: Page) => page.evaluate<Reports>('reports');

/** What one page says, so that its kernels are compiled once. */
let found: Reports & { few: number; many: number; most: number };

law('a page and its worker learn on the GPU what Node learns on the CPU, by Adam and by STEVE', async () => {
  const all = 'reports.then(async reports => ({ ...reports, ...(await steps()), most: await churn() }))';
  found = await visit('plain/', page => page.evaluate<typeof found>(all));
  const expected = await train('cpu');
  for (const report of [found.page, found.worker]) {
    assert.ok(typeof report !== 'string', String(report));
    assert.match(report.info.name, /swiftshader/i);
    assert.equal(report.info.isFallbackAdapter, true);
    assert.deepEqual(Object.keys(report.losses), Object.keys(expected));
    for (const [name, all] of Object.entries(expected))
      for (const [i, loss] of all.entries()) {
        const there = report.losses[name]![i]!;
        assert.ok(Math.abs(there - loss) < 1e-3, `${name}, loss ${i}: ${there}, expected ${loss}`);
      }
  }
});

law('of a step that is read only what the program holds waits for the collector: logits and loss', () => {
  const [logits, loss] = [4 * 32 * 10, 256];
  assert.ok(
    found.many - found.few <= 200 * (logits + loss),
    `${found.few} bytes after 20 steps, ${found.many} after 220`,
  );
});

law('a loop that makes 1 GB of tensors and reads goes on with less than half of that', () => {
  assert.ok(found.most < 4.5e8, `${found.most} bytes`);
});

law('a policy that forbids to compile text leaves gpu.js its compiler', async () => {
  const zeros = await visit('strict/?alone&only=none', page => page.evaluate<string>('reports.then(tanh)'));
  assert.equal(zeros, '0,0');
});

law('a lost device is told by the next read, and a new one is opened in its place', async () => {
  const [before, after, still, anew] = await visit('plain/?alone&only=none', page =>
    page.evaluate<string[]>('reports.then(lost)'),
  );
  assert.equal(before, '1,1');
  for (const told of [after, still]) assert.match(told!, /the device was lost .*; call initGpu\(\) again/);
  assert.equal(anew, '1,1');
});

law('a page that is not secure, and a browser that finds no GPU, say so', async () => {
  const insecure = await visit('plain/', reports, 'insecure.test');
  for (const said of [insecure.page, insecure.worker])
    assert.match(
      String(said),
      /^initGpu: expected WebGPU, got none: this page is not secure, .*https and of localhost/,
    );
  const blind = 'navigator.gpu.requestAdapter = async () => null;';
  const { page } = await visit('plain/?alone', reports, '127.0.0.1', blind);
  assert.match(String(page), /^initGpu: expected an adapter, got none: .*finds no GPU.*--enable-unsafe-webgpu/);
});

law('the demo page goes on, on the GPU, when that is chosen, and names it', async () => {
  const script = join(import.meta.dirname, '../examples/browser/serve.ts');
  const server = startNode(['--conditions=@otimes/source', '--import', 'tsx', script, '0'], join(script, '..'));
  t.teardown(() => server.kill());
  server.stderr.pipe(process.stderr);
  const [address] = (await once(server.stdout, 'data')) as [Buffer];
  await look(String(address).trim(), async page => {
    await page.waitForFunction('document.body.dataset.state === "running"');
    assert.match((await page.textContent('footer'))!, /SIMD · \d threads?/);
    await page.click('button:text-is("GPU")');
    const steps =
      '/^GPU google swiftshader.*CPU.*Adam [\\d.]+ ms.*STEVE [\\d.]+ ms/.test(document.querySelector("footer").textContent)';
    await page.waitForFunction(steps, null, { timeout: 120_000 });
  });
});
