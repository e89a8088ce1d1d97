export const ROOM: number;
export function byteAt(offset: number): number;
export function piece(bytes: number): Buffer;
export function cpuNs(): number;
export class Receiver {
  take(data: Uint8Array, length?: number): void;
  end(): void;
}
export function say(value: unknown): void;
export function sendWhenAsked<Socket>(
  connect: () => Socket | Promise<Socket>,
  sendAll: (socket: Socket, count: number) => void | Promise<void>,
): Promise<void>;
