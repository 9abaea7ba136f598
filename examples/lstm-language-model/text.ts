/** What the example reads: This Is the House That Jack Built, a nursery rhyme (printed in 1755). Each verse holds the one before. */

/** Of each verse the lines that are new in it. */
const VERSES = [
  ['the house that Jack built.'],
  ['the malt', 'That lay in'],
  ['the rat', 'That ate'],
  ['the cat', 'That killed'],
  ['the dog', 'That worried'],
  ['the cow with the crumpled horn', 'That tossed'],
  ['the maiden all forlorn', 'That milked'],
  ['the man all tattered and torn', 'That kissed'],
  ['the priest all shaven and shorn', 'That married'],
  ['the cock that crowed in the morn', 'That waked'],
  ['the farmer sowing his corn', 'That kept'],
];

function verse(last: number): string {
  let text = 'This is';
  for (let i = last; i >= 0; i--) text += ` ${VERSES[i]!.join('\n')}`;
  return `${text}\n\n`;
}

export const TEXT = VERSES.map((_, i) => verse(i)).join('');

/** Words, full stops and ends of lines, each with the space before it. */
const pieces = (text: string): string[] => text.match(/ ?[A-Za-z]+|[^A-Za-z ]/g) ?? [];

export const VOCABULARY: readonly string[] = [...new Set(pieces(TEXT))].sort();

export const encode = (text: string): number[] => pieces(text).map(piece => VOCABULARY.indexOf(piece));
export const decode = (words: readonly number[]): string => words.map(word => VOCABULARY[word]).join('');
