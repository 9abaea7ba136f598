/** Progress of several runs, one after the other: a live line for each on a terminal, elsewhere a line when one ends. */

import type { WriteStream } from 'node:tty';
import cliProgress, { type MultiBar, type SingleBar } from 'cli-progress';
import { bestAccuracy, percent, type Run, reached, stepsPerSecond } from './run.ts';
import { isLive, styles } from './terminal.ts';

/** How a run is doing. `loss` is a recent average; `accuracy` is the last test's; `seconds` were spent in steps. */
export type Status = { step: number; loss: number; accuracy: number; seconds: number };

export type Progress = {
  update(name: string, status: Status): void;
  done(run: Run): void;
  /** Gives the terminal back. */
  stop(): void;
};

export type ProgressOptions = { names: readonly string[]; steps: number; target: number; stream?: WriteStream };

/** `steps` of each run; a run whose accuracy has reached `target` gets a tick. */
export function progress(o: ProgressOptions): Progress {
  const stream = o.stream ?? process.stdout;
  return isLive(stream) ? liveProgress(o, stream) : plainProgress(o, stream);
}

function plainProgress({ target }: ProgressOptions, stream: WriteStream): Progress {
  return {
    update() {},
    done(run) {
      const hit = reached(run, target);
      const outcome = hit
        ? `${percent(target)} after ${hit.epoch.toFixed(2)} epochs, ${hit.seconds.toFixed(2)} s`
        : `never ${percent(target)}, at best ${percent(bestAccuracy(run))}`;
      const pace = `${run.losses.length} steps, ${stepsPerSecond(run).toFixed(0)} a second`;
      stream.write(`${run.name}: ${outcome} (${pace})\n`);
    },
    stop() {},
  };
}

function liveProgress({ names, steps, target }: ProgressOptions, stream: WriteStream): Progress {
  const { bold, dim, green } = styles(true);
  const width = Math.max(...names.map(name => name.length));

  type Payload = { name: string; status: Status | null; hit: boolean };
  const bars = new cliProgress.MultiBar({
    stream,
    hideCursor: true,
    // Its handler would stop the bars and let the training go on.
    gracefulExit: false,
    format(_options, { progress }, { name, status, hit }: Payload) {
      if (status === null) return dim(`${name.padEnd(width)}  waiting`);
      const filled = Math.round(progress * 20);
      const bar = `${'━'.repeat(filled)}${dim('─'.repeat(20 - filled))}`;
      const accuracy = percentColumn(status.accuracy);
      return [
        bold(name.padEnd(width)),
        bar,
        `${String(status.step).padStart(String(steps).length)}/${steps}`,
        `loss ${lossColumn(status.loss)}`,
        `test ${hit ? green(`${accuracy} ✓`) : `${accuracy}  `}`,
        `${status.seconds.toFixed(2).padStart(6)} s`,
      ].join('  ');
    },
  });
  const bar = new Map<string, SingleBar>(
    names.map(name => [name, bars.create(steps, 0, { name, status: null, hit: false } satisfies Payload)]),
  );
  const interrupted = () => {
    stop(bars);
    process.exit(130);
  };
  process.once('SIGINT', interrupted);

  const hits = new Set<string>();
  return {
    update(name, status) {
      if (status.accuracy >= target) hits.add(name);
      bar.get(name)?.update(status.step, { name, status, hit: hits.has(name) } satisfies Payload);
    },
    done() {
      bars.update();
    },
    stop() {
      process.removeListener('SIGINT', interrupted);
      stop(bars);
    },
  };
}

function stop(bars: MultiBar): void {
  bars.update();
  bars.stop();
}

const percentColumn = (share: number) => `${(share * 100).toFixed(1).padStart(5)} %`;
/** Six characters, whatever happens: 2.3026, 0.0123, 12.345, or 1.2e-5. */
const lossColumn = (loss: number) => (loss < 1e-3 ? loss.toExponential(1) : loss.toPrecision(5).slice(0, 6)).padEnd(6);
