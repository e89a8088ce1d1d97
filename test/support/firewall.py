"""Makes the firewall drop all IPv4 that goes out of this network namespace, or no more: without nft(8).

    firewall.py on|off
"""

import socket
import struct
import sys

NETLINK_NETFILTER = 12
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN = 0, 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
NLA_F_NESTED = 0x8000
NFPROTO_IPV4 = 2
NF_INET_LOCAL_OUT = 3
NF_DROP = 0


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind, flags, family, payload=b"", resource=0):
    body = struct.pack("=BBH", family, 0, socket.htons(resource)) + payload
    header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 1, 0)
    return header + body


def nftables(kind, flags, payload):
    kind |= NFNL_SUBSYS_NFTABLES << 8
    return message(kind, NLM_F_ACK | flags, NFPROTO_IPV4, payload)


def number(kind, value):
    return attribute(kind, struct.pack(">I", value))


TABLE = attribute(1, b"closed\0")
HOOK = attribute(4 | NLA_F_NESTED, number(1, NF_INET_LOCAL_OUT) + number(2, 0))
CHAIN = TABLE + attribute(3, b"out\0") + HOOK + number(5, NF_DROP) + attribute(7, b"filter\0")
WORK = {
    "on": [
        nftables(NFT_MSG_NEWTABLE, NLM_F_CREATE, TABLE),
        nftables(NFT_MSG_NEWCHAIN, NLM_F_CREATE, CHAIN),
    ],
    "off": [nftables(NFT_MSG_DELTABLE, 0, TABLE)],
}[sys.argv[1]]

with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as nfnetlink:
    nfnetlink.bind((0, 0))
    begin = message(NFNL_MSG_BATCH_BEGIN, 0, 0, resource=NFNL_SUBSYS_NFTABLES)
    end = message(NFNL_MSG_BATCH_END, 0, 0, resource=NFNL_SUBSYS_NFTABLES)
    nfnetlink.send(begin + b"".join(WORK) + end)
    for _ in WORK:
        (code,) = struct.unpack_from("=i", nfnetlink.recv(65536), 16)
        if code != 0:
            sys.exit(f"nfnetlink: {code}")
