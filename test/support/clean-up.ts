/** What a test leaves to be undone. */

export type Defer = (action: () => void) => void;

/**
 * Gives a function that takes what is to be done after the running test, last things first, whatever came of it.
 * To be called in a `describe`.
 */
export function useCleanUp(): Defer {
  const actions: (() => void)[] = [];
  afterEach(() => {
    const errors: unknown[] = [];
    for (let action = actions.pop(); action !== undefined; action = actions.pop()) {
      try {
        action();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  });
  return (action) => actions.push(action);
}
