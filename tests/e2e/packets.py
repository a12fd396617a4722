"""Frames made by hand, for what no well-behaved host sends."""

import ipaddress
import random
import socket
import struct

from testbed import topology

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_VLAN = 0x8100
ETHERTYPE_QINQ = 0x88A8
ETHERTYPE_IPV6 = 0x86DD
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_ACK = 0x10

_TO_BALANCER = bytes.fromhex(topology.mac_of(2).replace(":", ""))
_FROM_CLIENT = bytes.fromhex(topology.mac_of(1).replace(":", ""))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ethernet(ethertype: int, payload: bytes, vlans: tuple[int, ...] = ()) -> bytes:
    """From the client to the balancer; `vlans`: the ethertypes of tags, outermost first."""
    tags = b"".join(struct.pack("!HH", kind, 7) for kind in vlans)
    return _TO_BALANCER + _FROM_CLIENT + tags + struct.pack("!H", ethertype) + payload


def ipv4(protocol: int, payload: bytes, *, destination: str = topology.VIP_IPV4, ttl: int = 64,
         version_and_size: int = 0x45, total_length: int | None = None, fragment: int = 0x4000) -> bytes:
    """An IPv4 packet from the client; what is given by name may be wrong."""
    length = 20 + len(payload) if total_length is None else total_length
    header = struct.pack("!BBHHHBBH4s4s", version_and_size, 0, length, 1, fragment, ttl, protocol, 0,
                         packed(topology.CLIENT_IPV4), packed(destination))
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(next_header: int, payload: bytes, *, destination: str = topology.VIP_IPV6, hop_limit: int = 64,
         version: int = 6, payload_length: int | None = None) -> bytes:
    """An IPv6 packet from the client; what is given by name may be wrong."""
    length = len(payload) if payload_length is None else payload_length
    return struct.pack("!IHBB16s16s", version << 28, length, next_header, hop_limit,
                       packed(topology.CLIENT_IPV6), packed(destination)) + payload


def tcp(source_port: int, *, flags: int = TCP_SYN, port: int = topology.HTTP_PORT, words: int = 5) -> bytes:
    """A TCP header without a right checksum: the balancer leaves checksums to the backend."""
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 0, words << 4, flags, 1024, 0, 0)


def udp(source_port: int, payload: bytes, port: int = topology.UDP_ECHO_PORT) -> bytes:
    """A UDP header; checksum 0, which IPv4 lets stand."""
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def icmp_error(quoted: bytes, kind: int = 3, code: int = 4) -> bytes:
    """An ICMP error that quotes a packet of the VIP's (RFC 792)."""
    body = struct.pack("!BBHHH", kind, code, 0, 0, 1400) + quoted
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def random_frame(source: random.Random) -> bytes:
    """Something between a good packet and noise: cut, bent in a few bytes, or noise altogether."""
    payload = source.randbytes(source.randrange(0, 600))
    port = source.randrange(1024, 65536)
    frame = source.choice((
        lambda: ethernet(ETHERTYPE_IPV4, ipv4(6, tcp(port, flags=source.randrange(256)) + payload)),
        lambda: ethernet(ETHERTYPE_IPV4, ipv4(17, udp(port, payload))),
        lambda: ethernet(ETHERTYPE_IPV6, ipv6(6, tcp(port, flags=source.randrange(256)) + payload)),
        lambda: ethernet(ETHERTYPE_IPV6, ipv6(17, udp(port, payload))),
        lambda: ethernet(ETHERTYPE_IPV6, ipv6(source.choice((0, 43, 44, 51, 60)), payload)),
        lambda: ethernet(ETHERTYPE_IPV4, ipv4(1, payload)),
        lambda: ethernet(ETHERTYPE_IPV6, ipv6(58, payload)),
        lambda: ethernet(ETHERTYPE_IPV4, ipv4(6, tcp(port)), (ETHERTYPE_QINQ, ETHERTYPE_VLAN)),
        lambda: ethernet(source.randrange(65536), payload),
    ))()
    kind = source.randrange(4)
    if kind == 0:
        frame = frame[:source.randrange(14, len(frame) + 1)]
    elif kind == 1:
        bent = bytearray(frame)
        for _ in range(source.randrange(1, 5)):
            bent[source.randrange(12, len(bent))] = source.randrange(256)
        frame = bytes(bent)
    return frame


class Injector:
    """Puts frames on the balancer's wire, past the bridge, which would not carry the worst of them."""

    def __init__(self, raw: socket.socket, interface: str):
        self._raw = raw
        self._raw.bind((interface, 0))

    def send(self, frame: bytes) -> None:
        self._raw.send(frame)
