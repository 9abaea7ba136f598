/** What the demo reads: Jabberwocky, by Lewis Carroll (1871). */

const VERSE = `'Twas brillig, and the slithy toves
Did gyre and gimble in the wabe;
All mimsy were the borogoves,
And the mome raths outgrabe.
`;

export const TEXT = `${VERSE}
"Beware the Jabberwock, my son!
The jaws that bite, the claws that catch!
Beware the Jubjub bird, and shun
The frumious Bandersnatch!"

He took his vorpal sword in hand:
Long time the manxome foe he sought--
So rested he by the Tumtum tree,
And stood awhile in thought.

And as in uffish thought he stood,
The Jabberwock, with eyes of flame,
Came whiffling through the tulgey wood,
And burbled as it came!

One, two! One, two! And through and through
The vorpal blade went snicker-snack!
He left it dead, and with its head
He went galumphing back.

"And hast thou slain the Jabberwock?
Come to my arms, my beamish boy!
O frabjous day! Callooh! Callay!"
He chortled in his joy.

${VERSE}`;

/** The characters of the text, in order; a character's place is its token. */
export const CHARACTERS: readonly string[] = [...new Set(TEXT)].sort();

/** Throws a RangeError for a character that the text has not. */
export function encode(text: string): number[] {
  return Array.from(text, character => {
    const token = CHARACTERS.indexOf(character);
    if (token < 0) throw new RangeError(`the text has no '${character}', only ${CHARACTERS.join('').trim()}`);
    return token;
  });
}

export const decode = (tokens: readonly number[]): string => tokens.map(token => CHARACTERS[token]).join('');
