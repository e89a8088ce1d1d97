"""Asks a DNS server many questions at a time, and checks every answer.

    python3 dns_load.py PORT QUESTIONS NAMES

Asks for name0.test to nameN.test, whose addresses are 10.N/256.N%256.1, with 100 questions on their
way, each under a number of its own. A question that has no answer after a second is asked again.
Prints what came of it as JSON.
"""
import json
import random
import select
import socket
import struct
import sys
import time

port, questions, names = (int(value) for value in sys.argv[1:])
OUTSTANDING = 100
AGAIN_S = 1.0

client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", port))
client.setblocking(False)
# (number, name) and when it was asked.
waiting = {}
asked = answered = wrong = again = 0


def query(number, name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in (f"name{name}", "test"))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def is_right(answer, number, name):
    question = query(number, name)[12:]
    if answer[12 : 12 + len(question)] != question or struct.unpack(">H", answer[6:8]) != (1,):
        return False
    return answer[-4:] == bytes([10, name // 256, name % 256, 1])


end = time.monotonic() + 60
while answered < questions and time.monotonic() < end:
    while asked < questions and len(waiting) < OUTSTANDING:
        number = random.randrange(65536)
        if number in waiting:
            continue
        waiting[number] = (random.randrange(names), time.monotonic())
        client.send(query(number, waiting[number][0]))
        asked += 1
    if not select.select([client], [], [], 0.2)[0]:
        for number, (name, since) in list(waiting.items()):
            if time.monotonic() - since > AGAIN_S:
                waiting[number] = (name, time.monotonic())
                client.send(query(number, name))
                again += 1
    try:
        while True:
            answer = client.recv(4096)
            number = struct.unpack(">H", answer[:2])[0]
            # Whoever was asked twice may answer twice.
            if number not in waiting:
                wrong += again == 0
                continue
            name, _ = waiting.pop(number)
            wrong += not is_right(answer, number, name)
            answered += 1
    except BlockingIOError:
        pass
print(json.dumps({"answered": answered, "wrong": wrong, "again": again}))
