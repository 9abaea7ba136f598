/**
 * node build.mjs BUNDLER PROJECT OUT: bundles page.js and worker.js of a project for the browser, as the manual of each bundler
 * has it. In OUT there is an index.html, and a worker script whose name is printed.
 */
import { copyFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const [bundler, project, out] = process.argv.slice(2);
const page = join(project, 'page.js');
const worker = join(project, 'worker.js');

/** A warning is a failure here. */
const refuse = ({ message }) => {
  throw new Error(message);
};

const bundlers = {
  async rollup() {
    const { rollup } = await import('rollup');
    const { default: commonjs } = await import('@rollup/plugin-commonjs');
    const { default: resolve } = await import('@rollup/plugin-node-resolve');
    const bundle = await rollup({
      input: [page, worker],
      plugins: [resolve({ browser: true, preferBuiltins: false }), commonjs()],
      onwarn: refuse,
    });
    await bundle.write({ dir: out, format: 'es', entryFileNames: '[name].js' });
  },

  async vite() {
    const { build } = await import('vite');
    await build({
      ...{ root: project, configFile: false, logLevel: 'error', base: './' },
      worker: { format: 'es' },
      build: { outDir: out, emptyOutDir: true, chunkSizeWarningLimit: 2000, rollupOptions: { onwarn: refuse } },
    });
  },

  webpack: mode => async () => {
    const { default: webpack } = await import('webpack');
    // `worker` is bundled once more, as a script of its own; the one that the page starts is a chunk of the page's.
    const o = {
      mode,
      context: project,
      entry: { page, worker },
      output: { path: out, filename: '[name].js' },
      performance: false,
    };
    const stats = await new Promise((done, failed) =>
      webpack(o, (error, stats) => (error ? failed(error) : done(stats))),
    );
    if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString('errors-warnings'));
  },
};

await {
  rollup: bundlers.rollup,
  vite: bundlers.vite,
  'webpack-development': bundlers.webpack('development'),
  'webpack-production': bundlers.webpack('production'),
}[bundler]();
if (bundler !== 'vite') copyFileSync(join(project, 'index.html'), join(out, 'index.html'));
console.log(readdirSync(out, { recursive: true }).find(name => /(^|\/)worker[-.][^/]*js$/.test(name)));
