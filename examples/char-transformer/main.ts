/**
 * A small transformer learns a poem character by character, with STEVE or Adam, and then goes on by itself. Ends on what it says, and on
 * exit code 1 if its loss misses the target.
 *
 *   npm run demo:text                          npm run demo:text -- --help
 */

import { Generator, scope, tensor } from '@otimes/core';
import { crossEntropy, type GPT, gpt } from '@otimes/nn';
import { Adam, cosineLr, Schedule, STEVE } from '@otimes/optim';
import { isLive, styles } from '../shared/terminal.ts';
import { type Options, parseOptions, USAGE } from './options.ts';
import { CHARACTERS, decode, encode, TEXT } from './text.ts';

/** Characters that the model sees at once, and sequences of a batch. */
const [LENGTH, BATCH] = [64, 16];
const SHAPE = { vocabSize: CHARACTERS.length, blockSize: LENGTH, nLayer: 2, nHead: 4, nEmbd: 64 };
/** Learning rates that suit this text. */
const LR = { adam: 0.005, steve: 0.01 };
/** Characters that it says in the end. */
const SAID = 330;

const { stdout, stderr } = process;
const style = styles(isLive(stdout));
const say = (text = '') => stdout.write(`${text}\n`);

process.exitCode = await main();

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    stderr.write(`char-transformer: ${error.message}\n\n${USAGE}\n`);
    return 2;
  }
  if (options.help) {
    say(USAGE);
    return 0;
  }
  const { optimizer, seed, target } = options;
  const rng = new Generator(seed);
  // With a weight of its own the head learns in fewer steps than tied to the embedding: 0.17 for 0.80 after 200 of STEVE's.
  const model = gpt({ ...SHAPE, tieWeights: false, rng });
  const count = model.parameters().reduce((sum, p) => sum + p.size, 0);
  const { nLayer, nHead, nEmbd } = SHAPE;
  say(`${style.bold('Jabberwocky')}: ${TEXT.length} characters, ${CHARACTERS.length} different ones.`);
  say(
    `A transformer of ${nLayer} blocks, ${nHead} heads and ${nEmbd} features, ${count.toLocaleString('en-US')} parameters.`,
  );
  say(
    `${optimizer === 'adam' ? 'Adam' : 'STEVE'} with lr ${LR[optimizer]}, ${options.steps} steps of ${BATCH} × ${LENGTH} characters.\n`,
  );

  const loss = await train(model, options, rng);
  const seen = tensor([encode(options.prompt)], { dtype: 'int32' });
  const said = await model.generate(seen, SAID, { temperature: options.temperature, rng });
  const text = decode((said.toArray() as number[][])[0]!);
  say(`\nIt goes on by itself, at temperature ${options.temperature}:\n`);
  say(`${style.dim(options.prompt)}${text.slice(options.prompt.length)}\n`);
  if (loss <= target) return 0;
  stderr.write(`char-transformer: the loss did not reach ${target}, but ${loss.toFixed(3)}\n`);
  return 1;
}

/** Trains the model; the mean loss of the last tenth of the steps, in nats a character. */
async function train(model: GPT, { optimizer: name, steps }: Options, rng: Generator): Promise<number> {
  const lr = LR[name];
  const optimizer = name === 'adam' ? new Adam(model.parameters(), { lr }) : new STEVE(model, { lr });
  const schedule = new Schedule(optimizer, cosineLr({ tMax: steps, etaMin: lr / 10 }));
  const tokens = encode(TEXT);
  const losses: number[] = [];
  const recent = (n: number) => losses.slice(-n).reduce((a, b) => a + b, 0) / Math.min(n, losses.length);
  const start = performance.now();
  for (let step = 1; step <= steps; step++) {
    const starts = Array.from({ length: BATCH }, () => rng.integer(0, tokens.length - LENGTH));
    const rows = (shift: number) => starts.map(at => tokens.slice(at + shift, at + shift + LENGTH));
    optimizer.zeroGrad();
    losses.push(
      scope(() => {
        const logits = model.call(tensor(rows(0), { dtype: 'int32' }));
        const loss = crossEntropy(logits.flatten(0, 1), tensor(rows(1).flat(), { dtype: 'int32' }));
        loss.backward();
        return loss.item();
      }),
    );
    await optimizer.step();
    schedule.step();
    if (step === 1 || step % Math.ceil(steps / 8) === 0 || step === steps) {
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      say(
        `step ${String(step).padStart(String(steps).length)}   loss ${recent(10).toFixed(3)}   ${style.dim(`${seconds} s`)}`,
      );
    }
  }
  return recent(Math.ceil(steps / 10));
}
