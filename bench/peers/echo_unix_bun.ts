// An echo server of Unix streams on Bun.listen, on the path that it is given.
import { isMark, report } from "./echo_report.mjs";

const unix = process.argv[2] ?? "";
Bun.listen({
  unix,
  socket: {
    data: (socket, data) => {
      socket.write(isMark(data) ? report() : data);
    },
  },
});
console.log(JSON.stringify({ path: unix }));
