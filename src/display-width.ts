/** How many columns of a terminal a text takes: two for most characters of Chinese, Japanese and Korean, and for emoji. */
import { eastAsianWidth } from 'get-east-asian-width';

/** Marks that are drawn on the character before (Unicode categories Mn, Me), and what is not drawn at all (Cf). */
const WITHOUT_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]$/u;

function columnsOf(character: string): number {
  return WITHOUT_WIDTH.test(character) ? 0 : eastAsianWidth(character.codePointAt(0)!);
}

export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) width += columnsOf(character);
  return width;
}

/** As `padEnd`, in columns. */
export function padColumns(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - displayWidth(text)));
}

/** At most `most` columns of the text. Keeps the end, where names differ. */
export function shortened(text: string, most: number, ellipsis: string): string {
  if (displayWidth(text) <= most) return text;
  let room = most - displayWidth(ellipsis);
  const kept: string[] = [];
  for (const character of Array.from(text).reverse()) {
    room -= columnsOf(character);
    if (room < 0) break;
    kept.push(character);
  }
  return ellipsis + kept.reverse().join('');
}
