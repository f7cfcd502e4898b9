/** The global functions with which a task is queued: `setImmediate` in Node, `MessageChannel` in browsers. */
interface Globals {
  readonly setImmediate?: (act: () => void) => unknown;
  readonly MessageChannel: new () => {
    readonly port1: {
      addEventListener(type: "message", act: () => void): void;
      start(): void;
      close(): void;
    };
    readonly port2: { postMessage(message: null): void };
  };
}

/**
 * Waits for one turn of the event loop, so that pending input, timers and messages are handled before the caller goes
 * on. Browsers clamp nested `setTimeout` calls to 4 ms, and run what follows `scheduler.yield` before other tasks, so
 * neither is used.
 */
export async function eventLoopTurn(): Promise<void> {
  const { setImmediate: soon, MessageChannel: Channel } = globalThis as unknown as Globals;
  if (soon) {
    await new Promise<void>((resolve) => void soon(resolve));
    return;
  }
  const { port1, port2 } = new Channel();
  const message = new Promise<void>((resolve) => port1.addEventListener("message", resolve));
  port1.start();
  port2.postMessage(null);
  await message;
  port1.close();
}
