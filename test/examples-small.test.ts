/** The small programs: each reaches a target in a short form, is the same for the same seed, and says what is wrong with its options. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from '../examples/shared/command.ts';
import { program } from './helpers/example.ts';
import { law } from './helpers/law.ts';

/** Runs a program that is to reach its target; what it wrote. */
async function reaches(example: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await program(example, ...args);
  assert.equal(stderr, '');
  assert.equal(code, 0, stdout);
  assert.ok(!stdout.includes('\x1b'));
  return stdout;
}

for (const [optimizer, epochs] of [
  ['Adam', '16'],
  ['STEVE', '12'],
] as const)
  law(t, `lstm-language-model: ${optimizer} learns the rhyme, and the model recites lines of it`, async () => {
    const said = await reaches('lstm-language-model', '--optimizer', optimizer, '--epochs', epochs, '--target', '1.6');
    assert.match(said, /^The House That Jack Built: 470 words, 46 different ones\.$/m);
    assert.match(said, /^It recites:\n\nThis is the house that Jack built\.|^It recites:\n\nThis is the \w+/m);
    assert.match(said, /^Reached: a perplexity of 1\.\d{3}, target 1\.6, in /m);
  });

law(t, 'addition-rnn: sums that it has never seen come out right, far more often than by chance', async () => {
  const said = await reaches('addition-rnn', '--epochs', '6', '--target', '0.05');
  assert.match(said, /^6000 sums to learn from, 4000 others to be tested on\.$/m);
  assert.equal(said.match(/^ {2}\d+\+\d+ += \d+ +(✓|✗ \d+)/gm)?.length, 6);
});

law(t, 'time-sequence: waves go on as they should', async () => {
  const said = await reaches('time-sequence', '--steps', '2');
  const [wanted, foretold] = said.match(/^ {2}[▁▂▃▄▅▆▇█]+$/gm)!;
  assert.equal(wanted!.length, foretold!.length);
});

for (const optimizer of ['Adam', 'STEVE'])
  law(t, `vae: ${optimizer} reaches an ELBO`, async () => {
    const said = await reaches('vae', '--optimizer', optimizer, '--epochs', '2', '--target', '56');
    assert.match(said, /^It draws:\n\n/m);
  });

law(t, 'dcgan: of the drawings some are plainly digits, all ten of them', async () => {
  const said = await reaches('dcgan', '--epochs', '1', '--target', '0.1');
  const [, share, rarest] = /^Reached: ([\d.]+) % plain digits, target 10 %; the rarest digit is ([\d.]+) % /m.exec(
    said,
  )!;
  assert.ok(Number(share) >= 10 && Number(rarest) > 0);
});

law(t, 'a small program is the same for the same seed, and another for another', async () => {
  const [one, same, other] = await Promise.all(
    ['7', '7', '8'].map(seed => program('lstm-language-model', '--epochs', '2', '--seed', seed, '--target', '100')),
  );
  const timeless = (text: string) => text.replace(/\d+\.\d s/g, 's');
  assert.equal(timeless(one!.stdout), timeless(same!.stdout));
  assert.notEqual(timeless(one!.stdout), timeless(other!.stdout));
});

law(t, 'a missed target is exit code 1, a wrong option is named with exit code 2, --help is the usage', async () => {
  const missed = await program('time-sequence', '--steps', '1', '--target', '0');
  assert.equal(missed.code, 1);
  assert.equal(missed.stderr, 'time-sequence: the target is missed\n');
  const wrong = await program('vae', '--epoch', '3');
  assert.equal(wrong.code, 2);
  assert.equal(wrong.stdout, '');
  assert.match(wrong.stderr, /^vae: Unknown option '--epoch'[\s\S]*Usage: npm run example vae -- \[options\]/);
  const help = await program('dcgan', '--help');
  assert.deepEqual([help.code, help.stderr], [0, '']);
  assert.match(help.stdout, /^ {2}--lr N +learning rate \(default 0\.\d+ for Adam\)$/m);
});

law(t, 'command: defaults, whole numbers and fractions, the least, the optimizer in any case', async () => {
  const settings = {
    epochs: { value: 3, about: 'passes', least: 1 },
    target: { value: 0.5, about: 'a', fraction: true },
  };
  const command = { name: 'x', about: 'y', optimizers: { Adam: 0.1, STEVE: 0.2 }, settings };
  assert.deepEqual(parse(command, []), { optimizer: 'Adam', lr: 0.1, seed: 0, epochs: 3, target: 0.5 });
  assert.deepEqual(parse(command, ['--optimizer', 'steve', '--target=0.25', '--epochs', '9']), {
    ...{ optimizer: 'STEVE', lr: 0.2, seed: 0, epochs: 9, target: 0.25 },
  });
  assert.equal(parse(command, ['--lr', '1e-3'])?.lr, 0.001);
  assert.equal(parse(command, ['--help']), null);
  for (const [args, message] of [
    [['--optimizer', 'sgd'], /^--optimizer: expected Adam or STEVE, got 'sgd'$/],
    [['--epochs', '0'], /^--epochs: expected a whole number of 1 or more, got '0'$/],
    [['--epochs', '1.5'], /whole number of 1 or more, got '1\.5'$/],
    [['--target', '-1'], /target/],
    [['--target=-1'], /^--target: expected a number of 0 or more, got '-1'$/],
    [['--lr='], /^--lr: expected a number of 0 or more, got ''$/],
    [['x'], /'x'/],
  ] as const)
    assert.throws(() => parse(command, args), { message });
});

law(t, 'docs/examples.md lists every program', async () => {
  const page = readFileSync('docs/examples.md', 'utf8');
  const folders = readdirSync('examples', { withFileTypes: true }).filter(
    one => one.isDirectory() && one.name !== 'shared',
  );
  for (const { name } of folders) if (name !== 'node_modules') assert.ok(page.includes(`| [${name}](`), name);
});
