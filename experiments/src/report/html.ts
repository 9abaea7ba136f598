/** A report as one HTML page that needs nothing else: styles and charts stand in it, and no script. */

import { escapeXml, FONT, properties } from '../charts/index.ts';
import { type Block, cellOf, type Document, type Section, type Table } from './document.ts';

const STYLE = `
:root{color-scheme:light dark;${properties('light')}}
@media (prefers-color-scheme:dark){:root{${properties('dark')}}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 ${FONT}}
main,header,footer{max-width:1240px;margin:0 auto;padding:0 16px}
header{padding-top:32px}
h1{font-size:28px;line-height:1.2;margin:0 0 8px}
h2{font-size:20px;margin:40px 0 8px}
h3{font-size:16px;margin:24px 0 4px}
p,ul{max-width:76ch;margin:8px 0}
h1,h2,h3,p,li,figcaption,caption,a{overflow-wrap:anywhere}
ul{padding-left:22px}
.lead{color:var(--muted);font-size:17px}
.strong{font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:12px;font-size:14px}
a{color:var(--hue-0)}
.scroll{overflow-x:auto;margin:12px 0;background:linear-gradient(90deg,var(--page) 30%,transparent) left/40px 100% no-repeat local,linear-gradient(270deg,var(--page) 30%,transparent) right/40px 100% no-repeat local,linear-gradient(90deg,var(--muted),transparent) left/10px 100% no-repeat scroll,linear-gradient(270deg,var(--muted),transparent) right/10px 100% no-repeat scroll}
table{border-collapse:collapse;font-size:14px;line-height:1.35;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:14px;color:var(--muted);padding-bottom:6px}
caption span{position:sticky;left:0;display:inline-block;max-width:min(100%,76ch,calc(100vw - 32px))}
td:not(.n){min-width:110px}
th,td{padding:5px 8px;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{font-weight:600;vertical-align:bottom;border-bottom:1px solid var(--muted)}
tbody th{font-weight:600;position:sticky;left:0;background:var(--page);min-width:96px}
.many{font-size:13px}.many th,.many td{padding:5px}.many .note{font-size:12px}
thead th:first-child{position:sticky;left:0;background:var(--page)}
.n{text-align:right}
.note{display:block;color:var(--muted);white-space:nowrap;font-weight:400}
td.n>span:first-child{white-space:nowrap}
.best{font-weight:700}
.figures{display:grid;gap:16px 20px;margin:12px 0}
.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,360px),1fr))}
.full{max-width:820px}
.small{grid-template-columns:repeat(auto-fill,minmax(172px,1fr))}
figure{margin:0;break-inside:avoid}
figure svg{display:block;max-width:100%;height:auto;overflow:visible}
figcaption{font-size:13px;color:var(--muted);max-width:60ch}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0;max-width:none;font-size:14px}
.legend li{display:flex;align-items:center;gap:6px}
details{margin:12px 0}
summary{cursor:pointer}
pre{background:var(--shade);padding:12px;overflow-x:auto;font-size:13px;line-height:1.4}
footer{color:var(--muted);font-size:14px;padding-top:32px;padding-bottom:48px}
@media (max-width:600px){body{font-size:15px}.small{gap:12px 8px}th,td{padding:5px 7px}}
@media print{:root{color-scheme:light;${properties('light')}}nav{display:none}main,header,footer{max-width:none}h2,h3,caption{break-after:avoid}tr{break-inside:avoid}.scroll{overflow:visible}table{font-size:9pt}th,td{padding:3px 5px}body{font-size:10pt}thead th,tbody th{position:static}}
`;

const e = escapeXml;

/** Columns that need narrower ones. */
const MANY = 9;

function table({ caption, columns, rows }: Table): string {
  const kind = (i: number) => (columns[i]?.numeric ? ' class="n"' : '');
  const head = columns.map(({ title }, i) => `<th scope="col"${kind(i)}>${e(title)}</th>`).join('');
  const body = rows.map(cells => {
    const written = cells.map(cellOf).map(({ text, note, best }, i) => {
      const value = `<span${best ? ' class="best"' : ''}>${e(text)}</span>${note ? ` <span class="note">${e(note)}</span>` : ''}`;
      return i === 0 ? `<th scope="row">${value}</th>` : `<td${kind(i)}>${value}</td>`;
    });
    return `<tr>${written.join('')}</tr>`;
  });
  return `<div class="scroll" role="region" aria-label="${e(caption)}" tabindex="0"><table${columns.length > MANY ? ' class="many"' : ''}><caption><span>${e(caption)}</span></caption>
<thead><tr>${head}</tr></thead>
<tbody>
${body.join('\n')}
</tbody></table></div>`;
}

function block(one: Block): string {
  switch (one.kind) {
    case 'text':
      return `<p${one.strong ? ' class="strong"' : ''}>${e(one.text)}</p>`;
    case 'list':
      return `<ul>${one.items.map(item => `<li>${e(item)}</li>`).join('')}</ul>`;
    case 'heading':
      return `<h3>${e(one.text)}</h3>`;
    case 'table':
      return table(one);
    case 'figures': {
      const { lead, legend = [], figures, size } = one;
      const items = legend.map(({ label, svg }) => `<li>${svg}<span>${e(label)}</span></li>`).join('');
      const pictures = figures.map(
        ({ svg, caption }) => `<figure>${svg}${caption ? `<figcaption>${e(caption)}</figcaption>` : ''}</figure>`,
      );
      return `${lead === undefined ? '' : `<p>${e(lead)}</p>\n`}${items && `<ul class="legend">${items}</ul>\n`}<div class="figures ${size}">\n${pictures.join('\n')}\n</div>`;
    }
    case 'folded':
      return `<details><summary>${e(one.summary)}</summary><pre>${e(one.text)}</pre></details>`;
    case 'link':
      return `<p><a href="${e(encodeURI(one.href))}">${e(one.text)}</a></p>`;
  }
}

const section = ({ id, title, blocks }: Section): string =>
  `<section id="${e(id)}"><h2>${e(title)}</h2>\n${blocks.map(block).join('\n')}\n</section>`;

export function toHtml({ title, lead, sections }: Document): string {
  const links = sections.map(({ id, title }) => `<a href="#${e(id)}">${e(title)}</a>`).join('\n');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${e(title)}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<header><h1>${e(title)}</h1>
<p class="lead">${e(lead)}</p>
<nav aria-label="Sections">${links}</nav></header>
<main>
${sections.map(section).join('\n')}
</main>
</body>
</html>
`;
}
