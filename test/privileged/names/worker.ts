// Waits for an answer that never comes.
import { resolve } from "bun-sockets";

for (let i = 0; i < 4; i++) resolve(`w${i}.silent.test`, 80).catch(() => {});
setTimeout(() => postMessage("asking"), 20);
