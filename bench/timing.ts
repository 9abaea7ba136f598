/** Timing of several contenders in turn, so that what disturbs the machine disturbs all of them. */

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** CPU seconds a call of each: medians of `rounds` samples of `sample` seconds, taken in turn after a warm-up. */
export function interleave(contenders: readonly (() => void)[], { rounds = 7, sample = 0.02 } = {}): number[] {
  const calls = contenders.map(run => {
    const start = cpuSeconds();
    let count = 0;
    do {
      run();
      count++;
    } while (cpuSeconds() - start < 2 * sample);
    return Math.max(1, Math.ceil((count * sample) / (cpuSeconds() - start)));
  });
  // Once more without looking at the clock, which costs more than small calls do.
  for (const [i, run] of contenders.entries()) {
    const start = cpuSeconds();
    for (let c = 0; c < calls[i]!; c++) run();
    calls[i] = Math.max(1, Math.ceil((calls[i]! * sample) / Math.max(cpuSeconds() - start, sample / 100)));
  }
  const samples: number[][] = contenders.map(() => []);
  for (let round = 0; round < rounds; round++)
    for (const [i, run] of contenders.entries()) {
      const start = cpuSeconds();
      for (let c = 0; c < calls[i]!; c++) run();
      samples[i]!.push((cpuSeconds() - start) / calls[i]!);
    }
  return samples.map(xs => xs.sort((a, b) => a - b)[rounds >> 1]!);
}
