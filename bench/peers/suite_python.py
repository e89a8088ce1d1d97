# One side of a cell of the suite in Python, with its socket module: one call for a datagram, as there is
# no other. The command line is that of suite_c.c, and so are the loops.
import json
import select
import socket
import struct
import sys
import time

BUFFER = 212992
ACK_MS = 1000
FIRST_MS = 5000
STALLS_MAX = 5
STAMP_AT = 2
SAMPLES = 4096
SLOT = 65536
TO_CONNECT = "peer"
TO_TIME = "times"
TIMESTAMPNS = 35
CONTROL = 64

role, _, _, family = sys.argv[1:5]
length, _, _, group, window = map(int, sys.argv[5:10])
_, _, local, remote, port = sys.argv[10:15]
FAMILIES = {"udp4": socket.AF_INET, "udp6": socket.AF_INET6}


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


one = socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
one.setblocking(False)
for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
    one.setsockopt(socket.SOL_SOCKET, option, BUFFER)
one.bind((local, 0))
readable = select.poll()
readable.register(one, select.POLLIN)
writable = select.poll()
writable.register(one, select.POLLOUT)


def buffer_of(option):
    return one.getsockopt(socket.SOL_SOCKET, option) // 2


def drain():
    try:
        while True:
            one.recv(SLOT)
    except BlockingIOError:
        pass


payloads = [bytearray(length) for _ in range(group)]
for index, payload in enumerate(payloads):
    payload[0] = index
    payload[length - 1] = 255 - index


def send_round(total):
    drain()
    sent = acked = lost = calls = data_calls = at = stalls = 0
    send, recv, wait = one.send, one.recv, readable.poll
    begun = time.monotonic_ns()
    while (sent < total and stalls < STALLS_MAX) or acked + lost < sent:
        if sent < total and stalls < STALLS_MAX and sent - acked - lost + 1 <= window:
            if at == 0:
                struct.pack_into("<d", payloads[0], STAMP_AT, time.monotonic_ns())
            calls += 1
            try:
                send(payloads[at])
            except BlockingIOError:
                calls += 1
                writable.poll(ACK_MS)
                continue
            data_calls += 1
            sent += 1
            at = (at + 1) % group
            continue
        calls += 1
        try:
            acked = struct.unpack("<I", recv(8))[0]
        except BlockingIOError:
            calls += 1
            if not wait(ACK_MS):
                lost = sent - acked
                stalls += 1
    ns = time.monotonic_ns() - begun
    say({"sent": sent, "ns": ns, "calls": calls, "dataCalls": data_calls, "stalls": stalls})


# How long ago the kernel had the datagram.
def age_of(control):
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@ll", data)
            return time.time_ns() - (seconds * 1_000_000_000 + nanoseconds)
    return 0


def receive_round(total, is_timed):
    drain()
    say({"ready": True})
    target = bytearray(SLOT)
    recv_into, recvmsg_into, wait = one.recv_into, one.recvmsg_into, readable.poll
    received = acked = calls = data_calls = total_sum = first = last = stamped = stalls = 0
    stride = total // group // SAMPLES + 1
    age_stride = total // SAMPLES | 1
    samples = []
    while received < total:
        calls += 1
        try:
            if is_timed:
                size, control, _, _ = recvmsg_into([target], CONTROL)
            else:
                size = recv_into(target)
        except BlockingIOError:
            calls += 1
            last = time.monotonic_ns()
            if not wait(FIRST_MS):
                stalls += 1
                break
            continue
        data_calls += 1
        if received == 0:
            first = time.monotonic_ns()
        received += 1
        total_sum += target[0] + target[size - 1]
        if is_timed:
            if received % age_stride == 0 and len(samples) < SAMPLES:
                samples.append(age_of(control))
        elif target[0] == 0:
            if stamped % stride == 0 and len(samples) < SAMPLES:
                sent_at = struct.unpack_from("<d", target, STAMP_AT)[0]
                samples.append(round(time.monotonic_ns() - sent_at))
            stamped += 1
        if received - acked >= group:
            acked += group
            calls += 1
            one.send(struct.pack("<I", acked))
    if received >= total:
        last = time.monotonic_ns()
    counts = {"received": received, "messages": received, "sum": total_sum, "ns": last - first}
    counts = {**counts, "calls": calls, "dataCalls": data_calls, "stalls": stalls}
    say({**counts, "samples": samples})


if role == "send":
    one.connect((remote, int(port)))
buffers = {
    "sendBufferBytes": buffer_of(socket.SO_SNDBUF),
    "receiveBufferBytes": buffer_of(socket.SO_RCVBUF),
}
say({"port": one.getsockname()[1], **buffers})
is_timed = False
for line in sys.stdin:
    word, number = line.split()
    if word == TO_CONNECT:
        one.connect((remote, int(number)))
        say({"ready": True})
    elif word == TO_TIME:
        is_timed = number == "1"
        one.setsockopt(socket.SOL_SOCKET, TIMESTAMPNS, int(is_timed))
        say({"ready": True})
    elif role == "send":
        send_round(int(number))
    else:
        receive_round(int(number), is_timed)
