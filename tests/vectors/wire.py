"""Bytes on the wire, for generate.py: addresses, checksums, headers, and the flow hash.

Written from the RFCs and from the comments in dataplane/core, and shares no code with it: what the core
says is compared with what this says.
"""
import ipaddress
import struct

MAC_BALANCER = bytes.fromhex('020000000001')
MAC_CLIENT_SIDE = bytes.fromhex('020000000002')
MAC_NEXT_HOP = bytes.fromhex('0200000000b1')
MAC_OUT = bytes.fromhex('0200000000a1')
OUTER_SOURCE = {4: '10.0.0.1', 6: 'fd00::1'}
FLOW_HASH_KEY = [(0x9E3779B1 * (i + 1)) & 0xFFFFFFFF for i in range(12)]

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
SYN, ACK, FIN, RST = 0x02, 0x10, 0x01, 0x04


def address(text):
    return ipaddress.ip_address(text).packed


def version(text):
    return ipaddress.ip_address(text).version


def ones_complement(data):
    """The Internet checksum (RFC 1071) of `data`."""
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_transport_checksum(source, destination, protocol, segment):
    offset = {TCP: 16, UDP: 6, ICMPV6: 2}.get(protocol)
    if offset is None or len(segment) < offset + 2:
        return segment
    segment = segment[:offset] + b'\0\0' + segment[offset + 2:]
    pseudo = address(source) + address(destination) + struct.pack('>II', len(segment), protocol)
    checksum = ones_complement(pseudo + segment)
    if protocol == UDP and checksum == 0:
        checksum = 0xFFFF
    return segment[:offset] + struct.pack('>H', checksum) + segment[offset + 2:]


def tcp(source_port, destination_port, flags, payload=b'', data_offset=5, options=b''):
    acknowledgement = 0x05060708 if flags & ACK else 0
    return struct.pack('>HHIIBBHHH', source_port, destination_port, 0x01020304, acknowledgement,
                       data_offset << 4, flags, 0x7210, 0, 0) + options + payload


def udp(source_port, destination_port, payload=b'query'):
    return struct.pack('>HHHH', source_port, destination_port, 8 + len(payload), 0) + payload


def icmp(kind, code, rest, quoted):
    message = struct.pack('>BBH', kind, code, 0) + rest + quoted
    return message[:2] + struct.pack('>H', ones_complement(message)) + message[4:]


def icmpv6(kind, code, rest, quoted):
    return struct.pack('>BBH', kind, code, 0) + rest + quoted


class Ipv4:
    """An IPv4 packet as named fields; `bytes()` makes it."""

    def __init__(self, source, destination, protocol, segment, ttl=64, traffic_class=0, identification=0x1234,
                 fragment=0x4000, options=b'', version_ihl=None, total_length=None):
        self.__dict__.update({k: v for k, v in locals().items() if k != 'self'})

    def header(self):
        size = 20 + len(self.options)
        head = struct.pack(
            '>BBHHHBBH', self.version_ihl if self.version_ihl is not None else 0x40 + size // 4,
            self.traffic_class, self.total_length if self.total_length is not None else size + len(self.segment),
            self.identification, self.fragment, self.ttl, self.protocol, 0)
        head += address(self.source) + address(self.destination) + self.options
        return head[:10] + struct.pack('>H', ones_complement(head)) + head[12:]

    def layers(self):
        return [self.header(), with_transport_checksum(self.source, self.destination, self.protocol, self.segment)]

    def hop(self):
        """The packet one router further."""
        fields = dict(self.__dict__)
        fields['ttl'] -= 1
        return Ipv4(**fields)


class Ipv6:
    """An IPv6 packet; `extensions` are (number, bytes from the second on)."""

    def __init__(self, source, destination, protocol, segment, hop_limit=64, traffic_class=0, flow_label=0x54321,
                 extensions=(), ip_version=6, payload_length=None):
        self.__dict__.update({k: v for k, v in locals().items() if k != 'self'})

    def layers(self):
        kinds = [kind for kind, _ in self.extensions] + [self.protocol]
        chain = b''.join(bytes([kinds[i + 1]]) + rest for i, (_, rest) in enumerate(self.extensions))
        segment = with_transport_checksum(self.source, self.destination, self.protocol, self.segment)
        length = len(chain) + len(segment)
        head = struct.pack('>IHBB', self.ip_version << 28 | self.traffic_class << 20 | self.flow_label,
                           self.payload_length if self.payload_length is not None else length, kinds[0],
                           self.hop_limit) + address(self.source) + address(self.destination)
        return [layer for layer in (head, chain, segment) if layer]

    def hop(self):
        fields = dict(self.__dict__)
        fields['hop_limit'] -= 1
        return Ipv6(**fields)


def packet_bytes(packet):
    return b''.join(packet.layers())


def ether_type(packet):
    return 0x0800 if isinstance(packet, Ipv4) else 0x86DD


def ethernet(kind, tags=(), destination=MAC_BALANCER, source=MAC_CLIENT_SIDE):
    """An Ethernet header; `tags` are (ether type, control) from the outermost in."""
    return destination + source + b''.join(struct.pack('>HH', *tag) for tag in tags) + struct.pack('>H', kind)


def frame(packet, tags=(), padding=b''):
    return [ethernet(ether_type(packet), tags)] + packet.layers() + ([padding] if padding else [])


def words(text):
    """An address as four 32-bit words, each as a little-endian host loads it; IPv4 is mapped."""
    packed = address(text)
    if len(packed) == 4:
        packed = bytes(10) + b'\xff\xff' + packed
    return struct.unpack('<4I', packed)


def swapped(port):
    return struct.unpack('<H', struct.pack('>H', port))[0]


def flow_hash(client, vip, client_port, vip_port, protocol):
    """dataplane/core/hash.h: NH over pairs of words, then a mix."""
    key, mask32, mask64 = FLOW_HASH_KEY, (1 << 32) - 1, (1 << 64) - 1

    def term(a, i, b, j):
        return ((a + key[i]) & mask32) * ((b + key[j]) & mask32)

    c, v = words(client), words(vip)
    total = term(c[3], 0, v[3], 1) + term(swapped(client_port) | swapped(vip_port) << 16, 2, protocol, 3)
    if version(vip) == 6:
        total += term(c[0], 4, c[1], 5) + term(c[2], 6, v[0], 7) + term(v[1], 8, v[2], 9)
    value = total & mask64
    value = ((value ^ value >> 32) * 0x9E3779B97F4A7C15) & mask64
    value ^= value >> 28
    return (value ^ value << 35) & mask64


def encapsulated(packet, backend, hash_value):
    """The frame that leaves for `backend` (an address): RFC 2003, RFC 2473, RFC 4213."""
    inner = packet.hop()
    size = len(packet_bytes(inner))
    protocol = 4 if isinstance(inner, Ipv4) else 41
    if version(backend) == 4:
        dont_fragment = isinstance(inner, Ipv6) or inner.fragment & 0x4000
        identification = 0
        if not dont_fragment:
            identification = swapped((swapped(inner.identification) + (hash_value & 0xFFFF)) & 0xFFFF)
        outer = Ipv4(OUTER_SOURCE[4], backend, protocol, bytes(size), 64, inner.traffic_class, identification,
                     0x4000 if dont_fragment else 0).header()
    else:
        outer = struct.pack('>IHBB', 6 << 28 | inner.traffic_class << 20 | hash_value >> 44, size, protocol, 64)
        outer += address(OUTER_SOURCE[6]) + address(backend)
    kind = 0x0800 if version(backend) == 4 else 0x86DD
    return [ethernet(kind, (), MAC_NEXT_HOP, MAC_OUT), outer] + inner.layers()


def too_big_answer(packet, mtu, tags=()):
    """RFC 1191 and RFC 4443 section 3.2, from the VIP, quoting 256 bytes."""
    quoted = packet_bytes(packet)[:256]
    if isinstance(packet, Ipv4):
        answer = Ipv4(packet.destination, packet.source, ICMP,
                      icmp(3, 4, struct.pack('>HH', 0, mtu), quoted), 64, 0xC0, 0)
    else:
        answer = Ipv6(packet.destination, packet.source, ICMPV6,
                      icmpv6(2, 0, struct.pack('>I', mtu), quoted), 64, 0xC0, 0)
    return [ethernet(ether_type(packet), tags, MAC_CLIENT_SIDE, MAC_BALANCER)] + answer.layers()
