/** A pause for programs that compute without awaiting anything. */

/** Who waits, in order; and the port that wakes the first of them. */
const waiting: (() => void)[] = [];
let port: Port | undefined;

/** What of a browser's ports we use, typed here because only TypeScript's DOM library has `onmessage`. */
type Port = { onmessage?: unknown; postMessage(message: null): void };

/**
 * Resolves in a new task, at once: messages, input and timers that are due come in between, and where no synchronous garbage
 * collection exists (browsers) tensors that nobody can reach give their memory back. `setTimeout(0)` does the same, but
 * browsers stretch it to 4 ms; a resolved promise lets nothing in.
 */
export function nextTask(): Promise<void> {
  return new Promise(resolve => {
    // NOTE: in Node an open port would keep the program alive.
    if (typeof setImmediate === 'function') return void setImmediate(resolve);
    if (port === undefined) {
      const { port1, port2 }: { port1: Port; port2: Port } = new MessageChannel();
      port1.onmessage = () => waiting.shift()!();
      port = port2;
    }
    waiting.push(resolve);
    port.postMessage(null);
  });
}
