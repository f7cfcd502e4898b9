/** Milliseconds between two looks. */
const BEAT = 5;

/** How long something went on, and the longest time in it for which no timer of its thread came; in ms. */
export interface Watched {
  readonly duration: number;
  readonly held: number;
}

/** Watches the thread it is called on; the answer ends that. */
export function watchThread(): () => Watched {
  const begin = performance.now();
  let last = begin;
  let held = 0;
  const look = () => {
    const now = performance.now();
    held = Math.max(held, now - last);
    last = now;
  };
  const beat = setInterval(look, BEAT);
  return () => {
    clearInterval(beat);
    look();
    return { duration: last - begin, held };
  };
}
