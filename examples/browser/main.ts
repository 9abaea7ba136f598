/** The page: buttons for the data, a picture for each optimizer, the curves of both, and what computes here. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import {
  DATASETS,
  type Dataset,
  type Message,
  OPTIMIZERS,
  type Points,
  type Progress,
  SIDE,
  STEPS,
} from './protocol.ts';

/** Dark enough to be read on white: 4.5 to 1 at least. */
const COLORS = { Adam: '#5c677d', STEVE: '#c2410c' };
/** Of the two classes, in points; and in the picture, red, green, blue. */
const INK = ['#1f7a70', '#c8472a'];
const PAPER = [
  [205, 232, 226],
  [250, 217, 204],
] as const;
const SIZE = 640;

const worker = new Worker('worker.js', { type: 'module' });
const element = (selector: string) => document.querySelector<HTMLElement>(selector)!;
const percent = (x: number) => `${Math.floor(100 * x)} %`;

const cards = OPTIMIZERS.map(name => {
  const figure = document.createElement('figure');
  figure.innerHTML = `<figcaption><b style="color:${COLORS[name]}">${name}</b><span></span></figcaption>
    <canvas class="field" width="${SIZE}" height="${SIZE}"></canvas>`;
  element('main').append(figure);
  return { name, figure, status: figure.querySelector('span')!, canvas: figure.querySelector('canvas')!, solved: 0 };
});

const small = new OffscreenCanvas(SIDE, SIDE);
function draw(canvas: HTMLCanvasElement, field: Float32Array, { xy, labels }: Points): void {
  const pixels = new ImageData(SIDE, SIDE);
  field.forEach((p, i) => {
    pixels.data.set([0, 1, 2].map(c => (1 - p) * PAPER[0][c]! + p * PAPER[1][c]!).concat(255), 4 * i);
  });
  small.getContext('2d')!.putImageData(pixels, 0, 0);
  const context = canvas.getContext('2d')!;
  context.imageSmoothingQuality = 'high';
  context.drawImage(small, 0, 0, SIZE, SIZE);
  labels.forEach((label, i) => {
    context.fillStyle = INK[label]!;
    context.beginPath();
    context.arc(((xy[2 * i]! + 1) / 2) * SIZE, ((1 - xy[2 * i + 1]!) / 2) * SIZE, 5, 0, 2 * Math.PI);
    context.fill();
  });
}

const curves: [number[], ...number[][]] = [[], ...OPTIMIZERS.map(() => [])];
const size = () => {
  const box = element('#chart');
  const { paddingLeft, paddingRight } = getComputedStyle(box);
  return { width: box.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight), height: 190 };
};
const chart = new uPlot(
  {
    ...size(),
    scales: { x: { time: false, range: [0, STEPS] }, y: { distr: 3 } },
    axes: [{ size: 30 }, { label: 'loss', size: 55, labelSize: 22 }],
    legend: { show: false },
    series: [{ label: 'step' }, ...OPTIMIZERS.map(label => ({ label, stroke: COLORS[label], width: 2.5 }))],
    cursor: { drag: { x: false, y: false } },
  },
  curves,
  element('#chart'),
);

new ResizeObserver(() => chart.setSize(size())).observe(element('#chart'));

let data: Points;
let machine = '';
const milliseconds = OPTIMIZERS.map(() => 0);

function show({ step, runs }: { step: number; runs: readonly Progress[] }): void {
  curves[0].push(step);
  for (const [i, { loss, accuracy, ms, field }] of runs.entries()) {
    const card = cards[i]!;
    curves[i + 1]!.push(loss);
    milliseconds[i]! += ms;
    if (accuracy >= 0.99) card.solved ||= step;
    card.figure.classList.toggle('solved', card.solved > 0);
    card.status.textContent = card.solved > 0 ? `99 % after ${card.solved} steps` : percent(accuracy);
    draw(card.canvas, field, data);
  }
  chart.setData(curves);
  const speed = OPTIMIZERS.map((name, i) => `${name} <b>${(milliseconds[i]! / step).toFixed(1)} ms</b> a step`);
  element('footer').innerHTML = `${machine} · ${speed.join(' · ')}`;
  document.body.dataset.state = step === STEPS ? 'done' : 'running';
}

function start(name: Dataset): void {
  worker.postMessage(name);
  for (const button of document.querySelectorAll('button')) button.ariaPressed = String(button.textContent === name);
}

function clear(points: Points): void {
  data = points;
  for (const curve of curves) curve.length = 0;
  milliseconds.fill(0);
  for (const card of cards) {
    card.solved = 0;
    card.figure.classList.remove('solved');
  }
  // Everything that comes from now on is of these points.
  document.body.dataset.runs = String(Number(document.body.dataset.runs ?? 0) + 1);
}

for (const name of DATASETS) {
  const button = document.createElement('button');
  button.textContent = name;
  button.onclick = () => start(name);
  element('nav').append(button);
}
/** A worker that cannot be loaded says nothing but that it failed. */
worker.onerror = ({ message }) => {
  const alert = document.createElement('p');
  alert.role = 'alert';
  alert.textContent = `The training does not run: ${message || 'worker.js did not load. Serve this folder with npm run demo:browser.'}`;
  element('nav').after(alert);
};
worker.onmessage = ({ data: message }: MessageEvent<Message>) => {
  if (message.kind === 'step') return show(message);
  if (message.kind === 'data') return clear(message.points);
  const { kernels, threads } = message;
  machine = `kernels <b>${kernels}</b> · <b>${threads}</b> thread${threads === 1 ? '' : 's'}`;
  start(DATASETS[0]);
};
