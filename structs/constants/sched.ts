// Constants of <sched.h>.

// Kinds of namespaces. See setns(2).
export const CLONE_NEWNET = 0x40000000;
