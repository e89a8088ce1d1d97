/**
 * Tells the service manager how this program is doing, as systemd's sd_notify(3) does.
 *
 *     bun examples/sd_notify.ts [lines of the state, default READY=1]
 *     bun examples/sd_notify.ts READY=1 "STATUS=serving 3 clients"
 *
 * The service manager sets NOTIFY_SOCKET to where it listens: a path, or an abstract name that
 * begins with "@". It does so for services of Type=notify, and takes what their main process says:
 * a service calls `notify` itself, as soon as it serves.
 */
import { UnixDatagramSocket } from "bun-sockets";

const lines = process.argv.slice(2);
if (!notify(lines.length > 0 ? lines : ["READY=1"])) {
  console.error("NOTIFY_SOCKET is not set: nobody wants to be told");
  process.exitCode = 1;
}

/** Sends the lines as one datagram, which is one state. Returns whether somebody wants it. */
function notify(state: readonly string[]): boolean {
  const { NOTIFY_SOCKET: name } = process.env;
  if (!name) return false;
  using socket = UnixDatagramSocket.open();
  // The service manager's queue may be full for a moment.
  socket.sendToSync(state.join("\n"), `unix:${name}`, { timeoutMs: 5000 });
  return true;
}
