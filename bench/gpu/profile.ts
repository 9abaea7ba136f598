/**
 * Where the GPU's time goes in rows of the benchmark: each kernel by its name, or an elementwise one by its function, with the
 * workgroups of a dispatch. Every dispatch is a pass of its own here, so the sum is larger than a step.
 *
 *   npm run bench:gpu-profile -- resnet18 [PART …]     rows whose title has one of these (spaces, hyphens and case do not count)
 *   … --quick --top 30 --groups --mixed              small sizes; so many lines; apart by workgroups; products in f16
 */

import { parseArgs } from 'node:util';
import { openBenchGpu } from './parts/gpu.ts';
import { rowsOf } from './parts/rows.ts';
import { prepare } from './parts/tasks.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    top: { type: 'string', default: '25' },
    mixed: { type: 'boolean', default: false },
    groups: { type: 'boolean', default: false },
  },
});
const plain = (text: string) => text.toLowerCase().replaceAll(/[\s-]/g, '');
const rows = rowsOf(values.quick).filter(({ title }) => positionals.some(part => plain(title).includes(plain(part))));
if (rows.length === 0) throw new Error(`profile: expected parts of titles of the benchmark, got '${positionals}'`);

const gpu = await openBenchGpu({ mixed: values.mixed });
console.log(`GPU: ${gpu.driver}`);
const { clock } = gpu;
if (clock === null) throw new Error('profile: this adapter has no timestamps');
if (gpu.info.isFallbackAdapter)
  console.log('NOTE: this adapter computes on the CPU: no figure here says anything of a GPU');

for (const { title, request } of rows) {
  const task = await prepare(request, 'gpu', values.mixed);
  const once = async () => {
    await task.run();
    await task.finish();
  };
  for (let i = 0; i < 3; i++) await once();
  const begun = performance.now();
  await once();
  const plainMs = performance.now() - begun;
  clock.start(true);
  await once();
  const { passes, missed } = await clock.stop();
  const kernels = new Map<string, { ms: number; count: number }>();
  for (const { name, ms } of passes) {
    const key = values.groups ? name : name.replace(/ \[[\d, ]*\]$/, '');
    const one = kernels.get(key) ?? { ms: 0, count: 0 };
    kernels.set(key, { ms: one.ms + ms, count: one.count + 1 });
  }
  const all = passes.reduce((sum, { ms }) => sum + ms, 0);
  console.log(
    `\n${title}: ${plainMs.toFixed(3)} ms with a read; ${passes.length} dispatches of ${kernels.size} kernels, ` +
      `${all.toFixed(3)} ms${missed > 0 ? `, and ${missed} that there was no room to measure` : ''}`,
  );
  console.log('      ms    %  count  µs each  kernel');
  const sorted = [...kernels].sort((a, b) => b[1].ms - a[1].ms);
  for (const [name, { ms, count }] of sorted.slice(0, Number(values.top))) {
    const numbers = [
      ms.toFixed(3).padStart(8),
      ((100 * ms) / all).toFixed(1).padStart(4),
      String(count).padStart(6),
      ((1000 * ms) / count).toFixed(1).padStart(8),
    ];
    console.log(`${numbers.join(' ')}  ${name.replaceAll(/\s+/g, ' ').slice(0, 110)}`);
  }
  if (sorted.length > Number(values.top)) console.log(`         … and ${sorted.length - Number(values.top)} more`);
}
