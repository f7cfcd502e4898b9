/** Milliseconds: short beside what kernels take on a processor. */
const NAP = 0.5;

/** The parts of its globals by which Node is known; libraries give pages a `setImmediate` too. */
interface Globals {
  readonly process?: { readonly versions?: { readonly node?: string } };
  readonly setImmediate?: (act: (value: unknown) => void) => unknown;
}

/**
 * Waits for what a software adapter computes. Dawn in Node looks for results in a loop that never rests, and would take
 * a third of two cores from the kernels that it waits for; naps in that loop leave them the processor. A page waits by
 * itself, and must not sleep.
 */
export async function restUntil<T>(result: Promise<T>): Promise<T> {
  const { process, setImmediate: soon } = globalThis as Globals;
  if (!process?.versions?.node || !soon) return result;
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  const nap = async (): Promise<void> => {
    Atomics.wait(nobody, 0, 0, NAP);
    await new Promise((resolve) => void soon(resolve));
  };
  const answer = result.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([answer, nap()])));
  return result;
}
