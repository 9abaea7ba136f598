/** Text of a shader in which another goes on with each of its results, in the thread that has it. */

/** The end of the brackets that open at `open`. */
function closed(text: string, open: number): number {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text[i] === '[') depth++;
    else if (text[i] === ']' && --depth === 0) return i;
  }
  throw new Error('gpu: expected brackets that close');
}

/** Each `NAME[…]` of the text, replaced by what `as` makes of what is inside, and of the text behind it. */
function replaced(
  text: string,
  name: string,
  as: (inside: string, rest: string) => { code: string; skip: number },
): string {
  const found = new RegExp(`(?<![.\\w])${name}\\[`, 'g');
  let [result, at] = ['', 0];
  for (let hit = found.exec(text); hit !== null; hit = found.exec(text)) {
    const open = hit.index + name.length;
    const end = closed(text, open);
    const { code, skip } = as(text.slice(open + 1, end), text.slice(end + 1));
    result += text.slice(at, hit.index) + code;
    at = end + 1 + skip;
    found.lastIndex = at;
  }
  return result + text.slice(at);
}

/** Reads of a tensor become the value that was stored a moment ago. */
export const withValue = (text: string, name: string, value: string): string =>
  replaced(text, name, () => ({ code: value, skip: 0 }));

/** What goes on with a stored value: `value` takes it, `call` runs for the element of that number. */
export type Follower = { readonly value: string; readonly call: (element: string) => string };

/** Stores `NAME[place] = value;` of a tensor of numbers or of vectors of four, with what goes on with each of them. */
export function withFollowers(text: string, name: string, isVector: boolean, followers: readonly Follower[]): string {
  return replaced(text, name, (place, rest) => {
    const store = /^\s*=(?!=)([^;]*);/.exec(rest);
    if (store === null) return { code: `${name}[${place}]`, skip: 0 };
    const lanes = isVector ? [0, 1, 2, 3] : [null];
    const calls = lanes.flatMap(lane =>
      followers.map(({ value, call }) =>
        lane === null
          ? `${value} = value_; ${call('u32(place_)')};`
          : `${value} = value_[${lane}]; ${call(`4u * u32(place_) + ${lane}u`)};`,
      ),
    );
    const code = `{ let place_ = ${place}; let value_ = ${store[1]!.trim()}; ${name}[place_] = value_; ${calls.join(' ')} }`;
    return { code, skip: store[0].length };
  });
}
