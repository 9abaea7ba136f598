/**
 * Serves this folder, bundled anew for each request of the page, with the headers that make a page cross-origin isolated: only
 * such a page may share memory between threads.
 *
 *   npm run demo:browser                  npm run demo:browser -- 3000  (the port; by default 8080, or the next free one)
 */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { build } from 'esbuild';

const wanted = process.argv[2];
let port = Number(wanted ?? 8080);
if (!(Number.isInteger(port) && port >= 0 && port < 65536)) {
  console.error(`demo:browser: expected a port of 0 to 65535, got '${wanted}'`);
  process.exit(2);
}
const here = import.meta.dirname;
const TYPES: Record<string, string> = {
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
};

async function bundle(): Promise<Map<string, Uint8Array>> {
  const { outputFiles } = await build({
    entryPoints: ['main.ts', 'worker.ts'].map(name => join(here, name)),
    ...{ bundle: true, minify: true, format: 'esm', platform: 'browser', target: 'es2022', write: false, outdir: here },
    conditions: ['@otimes/source'],
  });
  return new Map(outputFiles.map(({ path, contents }) => [path, contents]));
}

let files = await bundle();
const server = createServer(async ({ url = '/' }, response) => {
  const path = join(here, url === '/' ? 'index.html' : url.slice(1));
  try {
    if (url === '/') files = await bundle();
  } catch {} // esbuild has said why; the page before stays
  const content = url === '/' ? readFileSync(path) : files.get(path);
  response
    .writeHead(content ? 200 : 404, {
      'Content-Type': TYPES[extname(path)] ?? 'text/plain',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    })
    .end(content);
});
server.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EADDRINUSE' && wanted === undefined && port < 8100) return void server.listen(++port);
  const why =
    error.code === 'EADDRINUSE'
      ? 'another program listens there; choose one: npm run demo:browser -- 3000'
      : error.message;
  console.error(`demo:browser: port ${port} cannot be had: ${why}`);
  process.exitCode = 1;
});
server.on('listening', () => console.log(`http://localhost:${(server.address() as AddressInfo).port}`));
server.listen(port);
