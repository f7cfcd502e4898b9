/** Milliseconds between two looks. */
const BEAT = 5;

/** Watches the thread it is called on; the answer ends that and gives the longest time in which no timer came, in ms. */
export function watchThread(): () => number {
  let last = performance.now();
  let longest = 0;
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const beat = setInterval(look, BEAT);
  return () => {
    clearInterval(beat);
    look();
    return longest;
  };
}
