// Constants of <time.h>.

// Clocks. See clock_gettime(2).
export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;
