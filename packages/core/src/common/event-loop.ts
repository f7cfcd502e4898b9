/** The parts of their globals that Node and browsers have for it. */
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
 * Lets the event loop go round once, so that input, timers and messages that wait get their turn. A timeout would do so
 * too, but browsers make nested ones wait for 4 ms; and what `scheduler.yield` continues goes before all other tasks.
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
