"""Sends datagrams of `bun-sockets blast` as they are told on standard input, and answers those of ping.

    probes.py send HOST PORT     one JSON list a line: ["probe", run, sequence], ["over", run, count,
                                 unsent], ["raw", hexadecimal]; tells the source port
    probes.py echo HOST          tells its port, then answers pairs: the second one first, and twice
"""

import json
import socket
import struct
import sys
import time

KINDS = {"probe": 0, "over": 1}


def open_socket(host):
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)


def payload(kind, first, second=0, unsent=0):
    if kind == "raw":
        return bytes.fromhex(first)
    now = time.time_ns()
    header = struct.pack(
        ">2sBBIQII", b"bs", 1, KINDS[kind], first, second, now // 10**9, now % 10**9
    )
    return header + struct.pack(">Q", unsent) + b"x" * 18


def send(host, port):
    with open_socket(host) as sender:
        sender.connect((host, int(port)))
        for line in sys.stdin:
            sender.send(payload(*json.loads(line)))
        print(sender.getsockname()[1])


def echo(host):
    with open_socket(host) as server:
        server.bind((host, 0))
        print(server.getsockname()[1], flush=True)
        while True:
            (first, client), (second, _) = server.recvfrom(65536), server.recvfrom(65536)
            for answer in (second, second, first, b"nonsense", first[:-1]):
                server.sendto(answer, client)


{"send": send, "echo": echo}[sys.argv[1]](*sys.argv[2:])
