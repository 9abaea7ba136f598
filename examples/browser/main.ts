/** The page: buttons for the data, a picture for each optimizer, the curves of both, and what computes here. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import {
  DATASETS,
  DEVICES,
  type DeviceName,
  type Machines,
  type Message,
  OPTIMIZERS,
  type Points,
  type Progress,
  SIDE,
  STEPS,
  type Wish,
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
let machines: Machines;
let wish: Wish = { dataset: DATASETS[0], device: 'CPU' };
/** Where the steps were computed that are shown. */
let device: DeviceName = 'CPU';
const milliseconds = OPTIMIZERS.map(() => 0);

function show({ step, runs }: { step: number; runs: readonly Progress[] }): void {
  curves[0].push(step);
  for (const [i, { loss, accuracy, ms, field }] of runs.entries()) {
    const card = cards[i]!;
    curves[i + 1]!.push(loss);
    // Of the first step a GPU spends the most on compiling kernels.
    if (step > 1) milliseconds[i]! += ms;
    if (accuracy >= 0.99) card.solved ||= step;
    card.figure.classList.toggle('solved', card.solved > 0);
    card.status.textContent = card.solved > 0 ? `99 % after ${card.solved} steps` : percent(accuracy);
    draw(card.canvas, field, data);
  }
  chart.setData(curves);
  const speed = OPTIMIZERS.map((name, i) => `${name} <b>${(milliseconds[i]! / (step - 1)).toFixed(1)} ms</b> a step`);
  if (step > 1) element('footer').innerHTML = `${machine()} · ${speed.join(' · ')}`;
  document.body.dataset.state = step === STEPS ? 'done' : 'running';
}

/** What computes, in the words of the footer. */
function machine(): string {
  const { CPU, GPU } = machines;
  if (device === 'CPU' || 'why' in GPU) return CPU;
  return `GPU <b>${GPU.name}</b>${GPU.isFallbackAdapter ? ', which is the CPU in disguise' : ''}`;
}

function start(changed: Partial<Wish>): void {
  wish = { ...wish, ...changed };
  document.querySelector("[role='alert']")?.remove();
  worker.postMessage(wish);
  for (const button of document.querySelectorAll('button'))
    button.ariaPressed = String([wish.dataset, wish.device].some(name => name === button.textContent));
}

function clear(points: Points, on: DeviceName): void {
  data = points;
  device = on;
  for (const curve of curves) curve.length = 0;
  milliseconds.fill(0);
  for (const card of cards) {
    card.solved = 0;
    card.figure.classList.remove('solved');
    card.status.textContent = '';
  }
  chart.setData(curves);
  element('footer').innerHTML = `${machine()} · first step`;
  // Everything that comes from now on is of these points.
  document.body.dataset.runs = String(Number(document.body.dataset.runs ?? 0) + 1);
}

function addButton(group: string, name: string, press: () => void): HTMLButtonElement {
  const button = document.createElement('button');
  button.textContent = name;
  button.onclick = press;
  element(`[aria-label='${group}']`).append(button);
  return button;
}
for (const dataset of DATASETS) addButton('data', dataset, () => start({ dataset }));
const [, gpuButton] = DEVICES.map(device => addButton('device', device, () => start({ device })));

function fail(why: string): void {
  const alert = document.createElement('p');
  alert.role = 'alert';
  alert.textContent = `The training does not run: ${why}`;
  element('nav').after(alert);
}
/** A worker that cannot be loaded says nothing but that it failed. */
worker.onerror = ({ message }) =>
  fail(message || 'worker.js did not load. Serve this folder with npm run demo:browser.');
worker.onmessage = ({ data: message }: MessageEvent<Message>) => {
  if (message.kind === 'step') return show(message);
  if (message.kind === 'data') return clear(message.points, message.device);
  if (message.kind === 'failed') return fail(message.why);
  machines = message.machines;
  const { GPU } = machines;
  if ('why' in GPU) {
    gpuButton!.disabled = true;
    gpuButton!.title = GPU.why;
    element('#no-gpu').textContent = `No GPU here. ${GPU.why}`;
  }
  // A GPU that is the CPU in disguise can be chosen, but is no good start.
  start({ device: 'why' in GPU || GPU.isFallbackAdapter ? 'CPU' : 'GPU' });
};
