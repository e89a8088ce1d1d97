// An echo server of Unix streams on node:net, on the path that it is given.
import { createServer } from "node:net";
import { isMark, report } from "./echo_report.mjs";

const path = process.argv[2];
const server = createServer((socket) => {
  socket.on("data", (data) => socket.write(isMark(data) ? report() : data));
});
server.listen(path, () => console.log(JSON.stringify({ path })));
