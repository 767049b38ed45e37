/**
 * What people should know although nothing failed, one line each: the daemon logs it. Each thread has a listener of its
 * own; without one nobody is told.
 */

type NoticeListener = (message: string) => void;

let listener: NoticeListener = () => {};

export function onNotice(listen: NoticeListener): void {
  listener = listen;
}

export function notice(message: string): void {
  listener(message);
}
