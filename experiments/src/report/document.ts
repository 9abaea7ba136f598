/** A report as data, from which HTML and Markdown are written: sections of paragraphs, lists, tables, charts and folded text. */

/** One value; `note` is what belongs to it, as its range. `best` stands out. */
export type Cell = { readonly text: string; readonly note?: string; readonly best?: boolean };

export type Table = {
  readonly kind: 'table';
  readonly caption: string;
  readonly columns: readonly { readonly title: string; readonly numeric?: boolean }[];
  /** The first cell of each is its header. */
  readonly rows: readonly (readonly (Cell | string)[])[];
};

export type Figure = {
  readonly svg: string;
  readonly caption?: string;
  /** Of the picture as a file beside the Markdown, with what it shows in words; without one that leaves it out. */
  readonly beside?: { readonly file: string; readonly alt: string };
};

/** A sample of a line and its name. */
export type LegendItem = { readonly label: string; readonly svg: string };

export type Block =
  | { readonly kind: 'text'; readonly text: string; readonly strong?: boolean }
  | { readonly kind: 'list'; readonly items: readonly string[] }
  | { readonly kind: 'heading'; readonly text: string }
  | Table
  /** Charts, side by side where there is room: three in a row of a desktop, of small ones five or six, of full ones one. */
  | {
      readonly kind: 'figures';
      readonly size: 'full' | 'wide' | 'small';
      /** How to read them. */
      readonly lead?: string;
      readonly legend?: readonly LegendItem[];
      readonly figures: readonly Figure[];
    }
  | { readonly kind: 'folded'; readonly summary: string; readonly text: string }
  | { readonly kind: 'link'; readonly text: string; readonly href: string };

export type Section = {
  readonly id: string;
  readonly title: string;
  readonly blocks: readonly Block[];
  /** Whether only pages have it. */
  readonly onlyHtml?: boolean;
};

export type Document = {
  readonly title: string;
  readonly lead: string;
  readonly sections: readonly Section[];
};

export const cellOf = (cell: Cell | string): Cell => (typeof cell === 'string' ? { text: cell } : cell);
