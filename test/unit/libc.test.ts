import { expect, test } from "bun:test";
import { libc, negativeErrno, orErrno } from "../../lib/ffi/libc.ts";
import { systemCallNumber } from "../../lib/ffi/system_call.ts";
import { EAFNOSUPPORT, EBADF, EINVAL, ENODEV } from "../../structs/constants/errno.ts";
import { failWith, replaceEntry } from "../support/faults.ts";

const LIBC = JSON.stringify(new URL("../../lib/ffi/libc.ts", import.meta.url));
const SYSTEM_CALL = JSON.stringify(new URL("../../lib/ffi/system_call.ts", import.meta.url));
const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));

// Runs a module in a process where nothing has opened libc yet; what it prints is JSON.
function inFreshProcess(script: string): unknown {
  const child = Bun.spawnSync({ cmd: [process.execPath, "-e", script] });
  expect({ exitCode: child.exitCode, stderr: child.stderr.toString() }).toEqual({
    exitCode: 0,
    stderr: "",
  });
  return JSON.parse(child.stdout.toString());
}

test("importing the package opens nothing: the first call does, for every entry", () => {
  const printed = inFreshProcess(`
    import { libc } from ${LIBC};
    const { UdpSocket } = await import(${INDEX});
    const names = Object.keys(libc);
    // What stands in the place of a library's function before is bound.
    const isNative = (name) => !libc[name].name.startsWith("bound ");
    const imported = names.filter(isNative);
    UdpSocket.bind("127.0.0.1:0").close();
    console.log(JSON.stringify({ names, imported, called: Object.keys(libc).filter(isNative) }));
  `);
  const names = Object.keys(libc);
  expect(names.length).toBeGreaterThan(20);
  // An entry without a stub would be there only once libc is open.
  expect(printed).toEqual({ names, imported: [], called: names });
});

test("the first call does what it says, whichever it is", () => {
  expect(
    inFreshProcess(`
      import { libc, orErrno } from ${LIBC};
      console.log(JSON.stringify(orErrno(libc.close(-1))));
    `),
  ).toBe(-EBADF);
});

test("an entry that was replaced before libc is open stays replaced, and the rest is real", () => {
  const printed = inFreshProcess(`
    import { libc, orErrno } from ${LIBC};
    libc.listen = () => 42;
    const before = libc.listen(-1, 0);
    const other = orErrno(libc.close(-1));
    console.log(JSON.stringify([before, other, libc.listen(-1, 0)]));
  `);
  expect(printed).toEqual([42, -EBADF, 42]);
});

test("a function that was taken from the table before libc is open still works", () => {
  const printed = inFreshProcess(`
    import { libc, orErrno } from ${LIBC};
    const { close } = libc;
    console.log(JSON.stringify([orErrno(close(-1)), orErrno(close(-1))]));
  `);
  expect(printed).toEqual([-EBADF, -EBADF]);
});

test("what goes through syscall(2) is open with the rest, each with arguments of its own", () => {
  const printed = inFreshProcess(`
    import { libc, orErrno } from ${LIBC};
    import { systemCallNumber } from ${SYSTEM_CALL};
    const isNative = (entry) => typeof entry === "function" && !entry.name.startsWith("bound ");
    const number = systemCallNumber("renameat2");
    const path = Buffer.from("nothing\\0");
    const rename = (flags) => orErrno(libc.renameat2(number, -1, path, -1, path, flags));
    libc.io_uring_enter = () => 42;
    console.log(JSON.stringify({
      first: rename(0),
      // The last argument gets there: it is looked at before the descriptors.
      flags: rename(0x80000000),
      replaced: libc.io_uring_enter(0, 0, 0, 0, 0, null, 0),
      native: [libc.renameat2, libc.io_uring_setup, libc.syscall].map(isNative),
    }));
  `);
  expect(printed).toEqual({
    first: -EBADF,
    flags: -EINVAL,
    replaced: 42,
    native: [true, true, false],
  });
});

test("what goes through syscall(2) outlives the collector", () => {
  const path = Buffer.from("nothing\0");
  const number = systemCallNumber("renameat2");
  for (let i = 0; i < 20; i++) {
    Bun.gc(true);
    expect(orErrno(libc.renameat2(number, -1, path, -1, path, 0))).toBe(-EBADF);
  }
});

test("an entry can be replaced while libc is open, and put back", () => {
  const { close } = libc;
  expect(orErrno(libc.close(-1))).toBe(-EBADF);
  {
    using fault = replaceEntry("close", () => failWith(EINVAL));
    expect(orErrno(libc.close(-1))).toBe(-EINVAL);
    expect(fault.calls).toBe(1);
  }
  expect(libc.close).toBe(close);
  expect(orErrno(libc.close(-1))).toBe(-EBADF);
});

test("orErrno() gives a result that is no failure back, whatever errno says", () => {
  expect(libc.close(-1)).toBe(-1);
  expect([0, 1, 0x7fff_f000].map(orErrno)).toEqual([0, 1, 0x7fff_f000]);
});

test("negativeErrno() is for calls that do not fail with a negative number", () => {
  expect(libc.if_nametoindex(Buffer.from("nosuchif0\0")) || negativeErrno()).toBe(-ENODEV);
});

test("errno is never that of another call: 1,000,000 failures of two kinds", () => {
  let wrong = 0;
  const kept: unknown[] = [];
  for (let i = 0; i < 500_000; i++) {
    const ofClose = orErrno(libc.close(-1));
    kept[i % 64] = { i, text: `${i}`, bytes: new Uint8Array(i % 128) };
    const ofSocket = orErrno(libc.socket(-1, 1, 0));
    if (ofClose !== -EBADF || ofSocket !== -EAFNOSUPPORT) wrong++;
    if (i % 50_000 === 0) Bun.gc(true);
  }
  expect(wrong).toBe(0);
  expect(kept).toHaveLength(64);
});

test("a Worker has an errno of its own, at an address of its own", async () => {
  const script = `
    import { libc, orErrno } from ${LIBC};
    onmessage = () => {
      let wrong = 0;
      for (let i = 0; i < 200_000; i++) if (orErrno(libc.socket(-1, 1, 0)) !== -${EAFNOSUPPORT}) wrong++;
      postMessage({ wrong, location: libc.__errno_location() });
    };
    postMessage("ready");
  `;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url);
  try {
    expect(await nextMessage(worker)).toBe("ready");
    const answer = nextMessage(worker);
    worker.postMessage("start");
    let wrong = 0;
    // At the same time as the Worker, for as long as it takes.
    let answered: unknown;
    answer.then((value) => {
      answered = value;
    });
    while (answered === undefined) {
      for (let i = 0; i < 20_000; i++) if (orErrno(libc.close(-1)) !== -EBADF) wrong++;
      await new Promise(setImmediate);
    }
    expect(wrong).toBe(0);
    expect(answered).toMatchObject({ wrong: 0, location: expect.any(Number) });
    expect((answered as { location: number }).location).not.toBe(libc.__errno_location() as number);
  } finally {
    worker.terminate();
    URL.revokeObjectURL(url);
  }
});

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
}
