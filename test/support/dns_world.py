"""Two DNS servers: one that answers SERVFAIL to everything, and one that never answers.

python3 dns_world.py PORT_OF_SERVFAIL PORT_OF_SILENCE
"""

import socket
import sys

failing, silent = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
failing.bind(("127.0.0.1", int(sys.argv[1])))
silent.bind(("127.0.0.1", int(sys.argv[2])))
print("ready", flush=True)
while True:
    question, asker = failing.recvfrom(4096)
    # The ID, "this is an answer" with recursion and rcode 2, and the question as it came.
    failing.sendto(question[:2] + b"\x81\x82" + question[4:], asker)
