// Constants of <stdio.h>, for renameat2(2).

// What happens to a file that the new name already has. See rename(2).
export const RENAME_NOREPLACE = 0x1;
export const RENAME_EXCHANGE = 0x2;
export const RENAME_WHITEOUT = 0x4;
