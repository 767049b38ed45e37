/** Just enough of an XML reader to tell whether a document is well-formed, and what is in it. */

export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** What stands between its tags, its children left out. */
  text: string;
}

const TOKEN = /<\?xml [^?]*\?>|<\/([a-z]+)>|<([a-z]+)((?: [\w:-]+="[^"<]*")*)(\/?)>|([^<]+)/gy;
const ENTITY = /&(amp|lt|gt|quot|apos);/g;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/**
 * The elements in the order in which they begin.
 * @throws Error where the document is not well-formed
 */
export function elementsOf(document: string): XmlElement[] {
  const elements: XmlElement[] = [];
  const open: XmlElement[] = [];
  let end = 0;
  for (const token of document.matchAll(TOKEN)) {
    end = token.index + token[0].length;
    const [, closing, opening, attributes = '', selfClosing, text] = token;
    if (closing !== undefined) {
      if (open.pop()?.name !== closing) throw new Error(`</${closing}> at ${token.index} closes nothing`);
    } else if (opening !== undefined) {
      if (open.length === 0 && elements.length > 0) throw new Error(`a second root, <${opening}>`);
      const element = { name: opening, attributes: attributesOf(attributes), text: '' };
      elements.push(element);
      if (selfClosing === '') open.push(element);
    } else if (text !== undefined) addText(open.at(-1), text);
  }
  if (end !== document.length) throw new Error(`no XML at ${end}: ${document.slice(end, end + 40)}`);
  if (open.length > 0) throw new Error(`<${open.at(-1)!.name}> is not closed`);
  return elements;
}

function addText(element: XmlElement | undefined, text: string): void {
  if (element !== undefined) element.text += decoded(text);
  else if (text.trim() !== '') throw new Error(`text outside the root: ${text}`);
}

function attributesOf(text: string): Record<string, string> {
  const found = [...text.matchAll(/ ([\w:-]+)="([^"]*)"/g)];
  const names = found.map(([, name]) => name!);
  if (new Set(names).size !== names.length) throw new Error(`an attribute twice:${text}`);
  return Object.fromEntries(found.map(([, name, value]) => [name!, decoded(value!)]));
}

function decoded(text: string): string {
  if (text.replace(ENTITY, '').includes('&')) throw new Error(`a bare & in "${text}"`);
  return text.replace(ENTITY, (_, name: string) => ENTITIES[name]!);
}
