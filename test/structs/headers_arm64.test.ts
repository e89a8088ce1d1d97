import { expect } from "bun:test";
import { epoll_eventOn } from "../../structs/epoll_event.ts";
import { bytes, struct, u16, u32 } from "../../structs/layout.ts";
import { requires, testIf } from "../support/require.ts";
import { compileErrors, preamble, proof, structSubject, subjectsOn } from "./facts.ts";

const GCC = "aarch64-linux-gnu-gcc";
const withGcc = testIf(requires(GCC));

for (const subject of await subjectsOn("arm64")) {
  withGcc(`${subject.name} is as <${subject.header}> says on arm64`, () => {
    expect(compileErrors(GCC, proof(subject))).toBe("");
  });
}

withGcc("the compiler is one for arm64", () => {
  expect(compileErrors(GCC, "#ifndef __aarch64__\n#error no\n#endif\n")).toBe("");
  expect(compileErrors(GCC, "#ifdef __aarch64__\n#error planted\n#endif\n")).toContain("planted");
});

withGcc("the proof for arm64 refuses a wrong size", () => {
  const planted = `${preamble("sys/socket.h")}_Static_assert(sizeof(struct mmsghdr) == 60, "no");`;
  expect(compileErrors(GCC, planted)).toContain("static assertion failed");

  const declared = struct("mmsghdr", "sys/socket.h", { msg_hdr: bytes(52), msg_len: u32 });
  const errors = compileErrors(GCC, proof(structSubject("", declared)));
  expect(errors).toContain("sizeof(struct mmsghdr) is not 56");
  expect(errors).toContain("offsetof(struct mmsghdr, msg_len) is not 52");
});

withGcc("the proof for arm64 refuses what is laid out as on x64", () => {
  const errors = compileErrors(GCC, proof(structSubject("", epoll_eventOn("x64"))));
  expect(errors).toContain("sizeof(struct epoll_event) is not 12");
  expect(errors).toContain("offsetof(struct epoll_event, data) is not 4");
});

withGcc("the proof for arm64 refuses a wrong constant and a forgotten member", () => {
  const constant = {
    name: "",
    file: "",
    header: "errno.h",
    facts: [{ expression: "EAGAIN", value: 35 }],
    struct: undefined,
  };
  expect(compileErrors(GCC, proof(constant))).toContain("EAGAIN is not 35");

  const declared = struct("pollfd", "poll.h", { fd: u32, events: u16 });
  const errors = compileErrors(GCC, proof(structSubject("", declared)));
  expect(errors).toContain("missing initializer for field 'revents' of 'struct pollfd'");
});
