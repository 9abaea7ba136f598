/**
 * A peer in a process of its own, which lives as long as a question. Reads one request a line and answers with one JSON
 * line each:
 *
 *   {prepare: task, args, warm: seconds}   makes the task and runs it for so long → {check}
 *   {sample: seconds}                      runs it for so long → {cpu, wall}: ms a unit of the task
 *
 * A peer's module exports `tasks`: name → (args) → { run, units } where run() does `units` units of work (default 1) and
 * returns a number that depends on the result: it is done, and a part of it is read, not all of it. The first one is the
 * `check` that peers agree on, unless the task has a function of that name.
 *
 *   node worker.mjs MODULE                     answers requests
 *   node worker.mjs MODULE --once TASK ARGS    from nothing to the first result; prints the CPU time and the wall time
 */

import process from 'node:process';
import { createInterface } from 'node:readline';

const [module, once, name, json] = process.argv.slice(2);
const { tasks } = await import(module);
const answer = value => process.stdout.write(`${JSON.stringify(value)}\n`);
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

let task;

async function repeat(seconds) {
  const [cpu, wall] = [cpuMs(), performance.now()];
  let calls = 0;
  let value;
  do {
    value = task.run();
    if (value instanceof Promise) value = await value;
    calls++;
  } while (performance.now() - wall < seconds * 1000);
  const units = calls * (task.units ?? 1);
  return { value, cpu: (cpuMs() - cpu) / units, wall: (performance.now() - wall) / units };
}

async function reply(request) {
  if (request.prepare) {
    task = await tasks[request.prepare](request.args);
    const check = task.check ? await task.check() : (await repeat(0)).value;
    await repeat(request.warm);
    return { check };
  }
  const { cpu, wall } = await repeat(request.sample);
  return { cpu, wall };
}

if (once) {
  task = await tasks[name](JSON.parse(json));
  await task.run();
  answer({ cpu: cpuMs(), wall: performance.now() });
  process.exit(0);
}
for await (const line of createInterface({ input: process.stdin })) {
  try {
    answer(await reply(JSON.parse(line)));
  } catch (error) {
    answer({ error: String(error?.message ?? error).split('\n')[0] });
  }
}
process.exit(0);
