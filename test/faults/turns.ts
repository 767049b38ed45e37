/** Which test files may run at the same time, in copies of one checkout on one machine. */

/** These share what the machine has once, with each other. */
const IN_TURN = /^(mount|cli|docs|system)\//;
/** These tolerate nothing beside them. */
const ALONE = /^alone\//;

const running = new Set<{ readonly file: string }>();
let onChange = (): void => {};
/** Whoever came first goes first: nothing waits for ever. */
let latest: Promise<void> = Promise.resolve();

/** Runs the action when nothing runs that `file` does not go with. */
export async function inTurn<T>(file: string, action: () => Promise<T>): Promise<T> {
  const turn = latest.then(() => untilFree(file));
  latest = turn;
  await turn;
  const entry = { file };
  running.add(entry);
  try {
    return await action();
  } finally {
    running.delete(entry);
    onChange();
  }
}

async function untilFree(file: string): Promise<void> {
  while ([...running].some((other) => clash(file, other.file))) {
    await new Promise<void>((resolve) => {
      onChange = resolve;
    });
  }
}

function clash(one: string, other: string): boolean {
  return ALONE.test(one) || ALONE.test(other) || (IN_TURN.test(one) && IN_TURN.test(other));
}
