/** What the example programs promise: each reaches its target in a short form, and a run that was killed goes on with the same numbers. */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { hasFallen, push, type State } from '../examples/actor-critic/cart-pole.ts';
import { type Outcome, program, programUntil } from './helpers/example.ts';
import { law } from './helpers/law.ts';

const run = (example: string, args: string): Promise<Outcome> => program(example, ...args.split(' '));

/** The number that a program says it has reached, once it has ended well. */
function reached({ code, stdout, stderr }: Outcome, what: RegExp): number {
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.ok(!stdout.includes('\x1b'), 'plain text where nobody looks');
  const number = what.exec(stdout)?.[1];
  assert.ok(number !== undefined, stdout);
  return Number(number);
}

law(t, 'siamese: triplets teach a network to verify digits that it has not seen', async () => {
  const outcome = await run('siamese', '--steps 60 --target 0.85');
  assert.ok(reached(outcome, /^Reached: ([\d.]+) % of 2000 pairs/m) >= 85);
});

law(t, 'actor-critic: the pole stays up for 150 steps, the mean of 50 episodes', async () => {
  const outcome = await run('actor-critic', '--target 150 --episodes 400');
  assert.ok(reached(outcome, /^Reached: ([\d.]+) steps/m) >= 150);
});

law(t, 'cart-pole: mirrored states and pushes are mirrored, and a pole that is left alone falls', async () => {
  const mirrored = (state: State) => state.map(value => -value) as unknown as State;
  let state: State = [0.3, -0.2, 0.05, 0.4];
  for (const action of [0, 1, 1, 0, 1]) {
    const next = push(state, action);
    assert.deepEqual(push(mirrored(state), 1 - action), mirrored(next));
    state = next;
  }
  // By turns to the left and to the right: no force on average.
  let steps = 0;
  for (state = [0, 0, 0.05, 0]; !hasFallen(state); steps++) state = push(state, steps % 2);
  assert.ok(state[2] > 0 && steps > 10 && steps < 200, `${steps} steps`);
});

law(t, 'mnist-cnn: a run that was killed goes on with the numbers that it would have had', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'otimes-mnist-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const args = '--samples 640 --epochs 2 --every 3 --target 0.7';
  const path = join(folder, 'run.checkpoint');
  const killed = await programUntil('mnist-cnn', `${args} --checkpoint ${path}`.split(' '), text =>
    /^step {2}9\/20/m.test(text),
  );
  assert.ok(killed.code === null && existsSync(path), 'killed in the first epoch');
  const [resumed, whole] = [await run('mnist-cnn', `${args} --checkpoint ${path}`), await run('mnist-cnn', args)];
  const again = /^goes on after step (\d+) of /.exec(resumed.stdout);
  assert.ok(again !== null && Number(again[1]) >= 6 && Number(again[1]) < 20, resumed.stdout);
  // All but the seconds: the losses since, the confusion matrix, the accuracy.
  const numbers = (text: string) => text.slice(text.indexOf('step 15/20')).replace(/, in [\d.]+ s/, '');
  assert.equal(numbers(resumed.stdout), numbers(whole.stdout));
  assert.ok(reached(whole, /^Reached: ([\d.]+) % of 2000 digits after 20 steps/m) >= 70);
  assert.match(whole.stdout, /^ {2}9 │( {2,4}(\d+|·)){10}$/m);
});

law(
  t,
  'fine-tuning: weights of PyTorch read their digits, and learn others, with a frozen body and better as a whole',
  async () => {
    const outcome = await run('fine-tuning', '--images 100 --head 3 --epochs 4 --target 0.7');
    assert.ok(reached(outcome, /^PyTorch's weights read ([\d.]+) % of the digits 0 … 4 right\.$/m) >= 97);
    const whole = reached(outcome, /^Reached: ([\d.]+) % of \d+ digits/m);
    const frozen = reached(outcome, /, ([\d.]+) % with the frozen body/);
    assert.ok(whole >= 70 && frozen >= 40 && whole > frozen + 10, outcome.stdout);
    assert.ok(statSync('examples/fine-tuning/pretrained.safetensors').size <= 200_000);
  },
);

law(t, "pinn: Adam and then L-BFGS solve Burgers' equation to 1 %, and so does STEVE to 5 %", async () => {
  const error = /^Reached: relative L2 error ([\d.e-]+),/m;
  const two = await run('pinn', '--steps 200 --iterations 200 --target 0.01');
  assert.ok(reached(two, error) <= 0.01);
  const steve = await run('pinn', '--optimizer STEVE --steps 300 --target 0.05');
  assert.ok(reached(steve, error) <= 0.05);
});

law(t, 'examples: a missed target is exit code 1, and a wrong option is named with exit code 2', async () => {
  const missed = await run('pinn', '--steps 2 --iterations 0');
  assert.equal(missed.code, 1);
  assert.match(missed.stderr, /^pinn: /);
  const wrong = await run('pinn', '--step 3');
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /--step[\s\S]*Usage: npm run example pinn/);
  assert.equal(wrong.stdout, '');
});
