/** The instruction sets whose struct layouts are declared and proved. */
const ARCHITECTURES: readonly string[] = ["x64", "arm64"];

/**
 * Throws one clear error on anything but Linux on x64 or arm64. The arguments exist for the test.
 */
export function requireSupported(
  platform: string = process.platform,
  architecture: string = process.arch,
): void {
  if (platform === "linux" && ARCHITECTURES.includes(architecture)) return;
  throw new Error(
    `bun-sockets runs on Linux, on x64 and arm64: this is ${platform} on ${architecture}. Its struct layouts and system calls are Linux's own`,
  );
}

/** The names of libc to try in order: glibc, then musl by architecture, then musl's common link. */
export function libcNames(architecture: string = process.arch): readonly string[] {
  const musl = architecture === "arm64" ? "aarch64" : "x86_64";
  return ["libc.so.6", `libc.musl-${musl}.so.1`, `/lib/ld-musl-${musl}.so.1`];
}
