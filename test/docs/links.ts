/** Links of Markdown pages. */

export interface Link {
  /** Relative to the page's directory. */
  readonly file: string;
  /** What follows `#`, or empty. */
  readonly heading: string;
}

/** The links of a page to other files. Links to the web and within the page are left out. */
export function linksOf(page: string): Link[] {
  return [...page.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!.split('#'))
    .map(([file = '', heading = '']) => ({ file, heading }))
    .filter(({ file }) => file !== '' && !/^[a-z]+:/.test(file));
}

/** The headings of a page in the form that links have: `fstab-and-systemd`. */
export function headingsOf(page: string): string[] {
  return [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  );
}
