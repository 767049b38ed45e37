/**
 * What people should know although nothing failed, one line each: the daemon logs it. Each thread has a listener of its
 * own; without one nobody is told.
 */

/** Bytes of the disk that read as zeros because they are missing. */
export interface MissingRange {
  readonly offset: number;
  readonly length: number;
}

type NoticeListener = (message: string, missing?: MissingRange) => void;

let listener: NoticeListener = () => {};

export function onNotice(listen: NoticeListener): void {
  listener = listen;
}

export function notice(message: string, missing?: MissingRange): void {
  listener(message, missing);
}
