#!/usr/bin/env python3
"""Writes the vectors in files/: run it after adding one, read the difference, commit both.

Each vector is a few steps: a frame, when and to which worker it comes, and what becomes of it. What is
expected is said here from the RFCs and the rules; nothing of the program under test is used.
"""
import json
import pathlib
import struct

from wire import (ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, FLOW_HASH_KEY, Ipv4, Ipv6, encapsulated, ethernet,
                  flow_hash, frame, icmp, icmpv6, packet_bytes, tcp, too_big_answer, udp)

FILES = pathlib.Path(__file__).parent / 'files'
VIP = {4: '198.51.100.10', 6: '2001:db8::10'}
CLIENT = {4: '192.0.2.1', 6: '2001:db8:c::1'}
NOW = 1000
CHECKER = {4: '203.0.113.200', 6: '2001:db8:c::200'}  # where health checks come from
CHECK_PORT = 16384  # the first, four for each pin

# Identifiers are places in the list, from 1 on.
BACKENDS = ['10.1.0.11', 'fd00:1::12', '10.1.0.13', '10.1.0.14', 'fd00:1::15']
B4, B6, NO_NEXT_HOP, FIRST, SECOND = 1, 2, 3, 4, 5
POOLS = {'b4': [B4], 'b6': [B6], 'lost': [NO_NEXT_HOP], 'pair': [FIRST, SECOND], 'none': []}
SLOTS = 7
PINS = [SECOND, B4, 0]
PORTS = {  # of both VIPs: [first, last, service]
    'tcp': [[80, 80, 'web4'], [81, 81, 'empty'], [82, 82, 'lost'], [443, 443, 'web6'], [8000, 8999, 'pair'],
            [9500, 9500, 'least']],
    'udp': [[0, 442, 'dns4'], [443, 443, 'quic6'], [444, 65535, 'dns4']],
}
SERVICES = {'web4': 'b4', 'web6': 'b6', 'dns4': 'b4', 'quic6': 'b6', 'empty': 'none', 'lost': 'lost', 'pair': 'pair',
            'least': 'pair'}


def tables():
    return {
        'flow_hash_key': FLOW_HASH_KEY,
        'outer_mtu': 1500,
        'backends': [{'address': a, 'next_hop': i + 1 != NO_NEXT_HOP} for i, a in enumerate(BACKENDS)],
        'slots_per_pool': SLOTS,
        'pools': POOLS,
        'check_sources': [{'address': address, 'pins': PINS} for address in CHECKER.values()],
        'services': {name: {'pool': pool, 'scheduler': 'least-connection' if name == 'least' else 'maglev'}
                     for name, pool in SERVICES.items()},
        'vips': [{'address': VIP[4], **PORTS}, {'address': VIP[6], **PORTS}],
    }


def hexes(layers):
    return [layer.hex() for layer in layers]


def step(layers, verdict, out=None, backend=None, now=NOW, worker=0):
    result = {'now': now, 'frame': hexes(layers), 'verdict': verdict}
    if worker:
        result['worker'] = worker
    if backend:
        result['backend'] = backend
    if out:
        result['out'] = hexes(out)
    return result


def change(backend, state):
    """Not a packet: a new snapshot, in which a backend is up, draining, down or gone."""
    return {'change': {'backend': backend, 'state': state}}


def limit(adoption_lookups):
    """Not a packet: how many looks into the other worker's table are left."""
    return {'change': {'adoption_lookups': adoption_lookups}}


def packet(family, protocol, segment, **fields):
    kind = Ipv4 if family == 4 else Ipv6
    fields.setdefault('source', CLIENT[family])
    fields.setdefault('destination', VIP[family])
    return kind(protocol=protocol, segment=segment, **fields)


def hash_of(family, protocol, port, client_port=40000, client=None):
    return flow_hash(client or CLIENT[family], VIP[family], client_port, port, protocol)


def forward(one, backend, verdict, hash_value, tags=(), padding=b'', **where):
    out = encapsulated(one, BACKENDS[backend - 1], hash_value)
    return step(frame(one, tags, padding), verdict, out, backend, **where)


def slots(members):
    return [members[i % len(members)] for i in range(SLOTS)]


def scheduled(hash_value, members):
    return slots(members)[(hash_value >> 32) * SLOTS >> 32]


def less_loaded(hash_value, active):
    """Of the two slots that the hash names, the one whose backend has fewer of the `active` connections."""
    one, other = (slots([FIRST, SECOND])[part * SLOTS >> 32] for part in (hash_value >> 32, hash_value & 0xffffffff))
    return one if active[one] <= active[other] else other


def tcp_packet(family, port, flags, client_port=40000, **fields):
    return packet(family, TCP, tcp(client_port, port, flags), **fields)


def pairings():
    """IP in IP, all four ways, TCP and UDP."""
    result = []
    for family in (4, 6):
        for outer, port in ((4, 80), (6, 443)):
            one = tcp_packet(family, port, SYN)
            result.append(('tcp_ipv%d_in_ipv%d' % (family, outer), 'the SYN of a new connection',
                           [forward(one, B4 if outer == 4 else B6, 'forward_new', hash_of(family, TCP, port))]))
        for outer, port in ((4, 53), (6, 443)):
            one = packet(family, UDP, udp(40000, port))
            result.append(('udp_ipv%d_in_ipv%d' % (family, outer), 'the first datagram of a flow',
                           [forward(one, B4 if outer == 4 else B6, 'forward_new', hash_of(family, UDP, port))]))
    return result


def fields():
    """What each field of the outer header is made of."""
    result = []

    def add(name, comment, one, port=80, family=4, protocol=TCP, **link):
        backend = B6 if port == 443 else B4
        hash_value = hash_of(family, protocol, port)
        result.append((name, comment, [forward(one, backend, 'forward_new', hash_value, **link)]))

    for outer, port in ((4, 80), (6, 443)):
        over = '_over_ipv%d' % outer
        add('congestion_experienced' + over, 'ECN CE and DSCP EF are copied (RFC 6040, RFC 2983)',
            tcp_packet(4, port, SYN, traffic_class=0xBB), port)
        add('ipv6_traffic_class' + over, 'the same from IPv6', tcp_packet(6, port, SYN, traffic_class=0x2D), port, 6)
        add('fragmentable_ipv4' + over, 'no DF: none outside either, and an identification of its own',
            tcp_packet(4, port, SYN, fragment=0), port)
        add('hop_limit_two' + over, 'leaves with one', tcp_packet(4, port, SYN, ttl=2), port)
        add('ipv6_hop_limit_two' + over, 'leaves with one', tcp_packet(6, port, SYN, hop_limit=2), port, 6)
        size = 1500 - (20 if outer == 4 else 40)
        add('exactly_the_mtu' + over, 'fits to the byte',
            packet(4, TCP, tcp(40000, port, SYN, bytes(size - 40))), port)
    add('ipv4_options', 'are part of the inner packet', tcp_packet(4, 80, SYN, options=bytes([1] * 7 + [0])))
    add('ipv4_first_fragment', 'has ports; the outer packet is no fragment',
        packet(4, UDP, udp(40000, 53), fragment=0x2000), 53, 4, UDP)
    add('vlan_tag', 'stays behind', tcp_packet(4, 80, SYN), tags=[(0x8100, 0x2064)])
    add('qinq_tags', 'stay behind', tcp_packet(6, 80, SYN), 80, 6, tags=[(0x88A8, 100), (0x8100, 200)])
    add('link_padding', 'is cut off', packet(4, UDP, udp(40000, 53, b'')), 53, 4, UDP, padding=bytes([0xEE] * 18))
    add('ttl_255', 'leaves with 254',
        tcp_packet(4, 80, SYN, ttl=255, identification=0xFFFF))
    options = lambda units: bytes([units - 1] + [0] * (units * 8 - 2))  # noqa: E731
    add('ipv6_extension_headers', 'are followed',
        tcp_packet(6, 80, SYN, extensions=[(0, options(1)), (60, options(2)), (43, options(1))]), 80, 6)
    add('ipv6_authentication_header', 'counts in units of four bytes',
        tcp_packet(6, 80, SYN, extensions=[(51, bytes([4]) + bytes(22))]), 80, 6)
    add('ipv6_atomic_fragment', 'is whole', tcp_packet(6, 80, SYN, extensions=[(44, bytes(7))]), 80, 6)
    add('ipv6_first_fragment', 'has ports', packet(6, UDP, udp(40000, 53), extensions=[(44, b'\0\0\1' + bytes(4))]),
        53, 6, UDP)
    return result


def connections():
    """A connection stays where it began, and ends; others begin elsewhere."""
    result = []
    for family in (4, 6):
        v = 'ipv%d_' % family
        h = hash_of(family, TCP, 80)
        syn, ack, fin, rst = (tcp_packet(family, 80, flags) for flags in (SYN, ACK, FIN | ACK, RST))
        established = 'forward_established'
        result.append((v + 'tcp_from_syn_to_fin', 'one entry serves them all', [
            forward(syn, B4, 'forward_new', h), forward(syn, B4, established, h, now=NOW + 1),
            forward(ack, B4, established, h, now=NOW + 2), forward(fin, B4, established, h, now=NOW + 800),
            forward(ack, B4, established, h, now=NOW + 800), forward(syn, B4, 'forward_new', h, now=NOW + 801)]))
        result.append((v + 'rst_of_no_connection', 'is forwarded and leaves no entry', [
            forward(rst, B4, 'forward_untracked', h), forward(rst, B4, 'forward_untracked', h)]))
        result.append((v + 'syn_after_its_timeout', 'is a new connection', [
            forward(syn, B4, 'forward_new', h), forward(syn, B4, established, h, now=NOW + 10),
            forward(syn, B4, 'forward_new', h, now=NOW + 21)]))
        hu = hash_of(family, UDP, 53)
        query = packet(family, UDP, udp(40000, 53))
        result.append((v + 'udp_pauses', 'are bounded: 10 s after one datagram, 30 s after more', [
            forward(query, B4, 'forward_new', hu), forward(query, B4, established, hu, now=NOW + 10),
            forward(query, B4, established, hu, now=NOW + 40), forward(query, B4, 'forward_new', hu, now=NOW + 71)]))
        result.append((v + 'stamps_wrap', 'at 8,192 seconds, and nobody notices', [
            forward(query, B4, 'forward_new', hu, now=8190), forward(query, B4, established, hu, now=8195),
            forward(query, B4, established, hu, now=8225), forward(query, B4, 'forward_new', hu, now=8256)]))
        result += moved(family)
        result += least_connection(family)
    return result


def moved(family):
    """Over a pool of two: drain and failure of the connection's backend."""
    v = 'ipv%d_' % family
    h = hash_of(family, TCP, 8080)
    mine = scheduled(h, [FIRST, SECOND])
    other = SECOND if mine == FIRST else FIRST
    syn, ack = tcp_packet(family, 8080, SYN), tcp_packet(family, 8080, ACK)
    result = []
    for state in ('draining', 'down'):
        result.append((v + 'established_connection_of_a_%s_backend' % state, 'goes on there', [
            forward(syn, mine, 'forward_new', h), forward(ack, mine, 'forward_established', h), change(mine, state),
            forward(ack, mine, 'forward_established', h)]))
        result.append((v + 'syn_again_while_its_backend_is_%s' % state, 'goes elsewhere', [
            forward(syn, mine, 'forward_new', h), change(mine, state), forward(syn, other, 'forward_new', h),
            change(mine, 'up'), forward(ack, other, 'forward_established', h)]))
    result.append((v + 'connection_of_a_backend_that_is_gone', 'is given to another', [
        forward(syn, mine, 'forward_new', h), forward(ack, mine, 'forward_established', h), change(mine, 'gone'),
        forward(ack, other, 'forward_new', h), forward(ack, other, 'forward_established', h)]))
    result.append((v + 'connection_of_a_backend_past_its_drain_deadline', 'is given to another, whose reset ends it', [
        forward(syn, mine, 'forward_new', h), forward(ack, mine, 'forward_established', h), change(mine, 'closed'),
        forward(ack, other, 'forward_new', h), forward(ack, other, 'forward_established', h)]))
    result.append((v + 'other_worker_adopts', 'a packet of a connection that began on another worker', [
        forward(syn, mine, 'forward_new', h), forward(ack, mine, 'forward_established', h), change(mine, 'draining'),
        forward(ack, mine, 'forward_adopted', h, worker=1), forward(ack, mine, 'forward_established', h, worker=1)]))
    result.append((v + 'scheduling', 'goes by the hash alone', [
        forward(tcp_packet(family, 8080, SYN, port), scheduled(hash_of(family, TCP, 8080, port), [FIRST, SECOND]),
                'forward_new', hash_of(family, TCP, 8080, port)) for port in range(50000, 50008)]))
    return result


def least_connection(family):
    """By the connections that each backend has, which end with their FIN."""
    v = 'ipv%d_least_connection_' % family
    active = {FIRST: 0, SECOND: 0}
    steps = []
    for port in range(50000, 50012):
        h = hash_of(family, TCP, 9500, port)
        backend = less_loaded(h, active)
        active[backend] += 1
        steps.append(forward(tcp_packet(family, 9500, SYN, port), backend, 'forward_new', h))
        if port % 3 == 0:
            active[backend] -= 1
            steps.append(forward(tcp_packet(family, 9500, FIN | ACK, port), backend, 'forward_established', h))
    middle = []
    for port in range(51000, 51006):
        h = hash_of(family, TCP, 9500, port)
        middle.append(forward(tcp_packet(family, 9500, ACK, port), scheduled(h, [FIRST, SECOND]), 'forward_new', h))
    ack = tcp_packet(family, 9500, ACK, 52000)
    h = hash_of(family, TCP, 9500, 52000)
    backend = less_loaded(h, {FIRST: 0, SECOND: 0})
    unasked = [forward(tcp_packet(family, 9500, SYN, 52000), backend, 'forward_new', h), limit(0),
               step(frame(ack), 'drop_adoption_limit', worker=1), limit(1),
               forward(ack, backend, 'forward_adopted', h, worker=1)]
    return [(v + 'over_the_limit', 'waits for the client to send again', unasked),
            (v + 'balances', 'goes to the backend with fewer connections, of two that the hash names', steps),
            (v + 'found_in_its_middle', 'goes by the hash alone, whatever the load', middle)]


def quoted(family, protocol, port, size=None, **fields):
    """The beginning of a packet from the VIP to the client."""
    client_port = fields.pop('client_port', 40000)
    segment = tcp(port, client_port, ACK) if protocol == TCP else udp(port, client_port)
    kind = Ipv4 if family == 4 else Ipv6
    fields.setdefault('source', VIP[family])
    fields.setdefault('destination', CLIENT[family])
    one = kind(protocol=protocol, segment=segment, **fields)
    return packet_bytes(one)[:size]


def icmp_error(family, kind, body, code=0, rest=bytes(4)):
    if family == 4:
        return Ipv4('203.0.113.1', VIP[4], ICMP, icmp(kind, code, rest, body))
    return Ipv6('2001:db8:f::1', VIP[6], ICMPV6, icmpv6(kind, code, rest, body))


def icmp_errors():
    """An ICMP error follows the connection that it is about."""
    result = []
    names = {4: {3: 'unreachable', 11: 'time_exceeded', 12: 'parameter_problem'},
             6: {1: 'unreachable', 2: 'packet_too_big', 3: 'time_exceeded', 4: 'parameter_problem'}}
    for family in (4, 6):
        for kind, name in names[family].items():
            for protocol, port in ((TCP, 80), (UDP, 443)):
                one = icmp_error(family, kind, quoted(family, protocol, port, 20 + 8 if family == 4 else None))
                backend = B6 if port == 443 else B4
                result.append(('ipv%d_%s_about_%s' % (family, name, 'tcp' if protocol == TCP else 'udp'),
                               'of no known connection: where that would go',
                               [forward(one, backend, 'forward_icmp_error', hash_of(family, protocol, port))]))
        h = hash_of(family, TCP, 8080)
        mine = scheduled(h, [FIRST, SECOND])
        error = icmp_error(family, 3, quoted(family, TCP, 8080))
        result.append(('ipv%d_error_follows_its_connection' % family, 'to a backend that takes no new ones', [
            forward(tcp_packet(family, 8080, SYN), mine, 'forward_new', h), change(mine, 'draining'),
            forward(error, mine, 'forward_icmp_error', h),
            forward(error, mine, 'forward_icmp_error', h, worker=1)]))
        result.append(('ipv%d_error_about_another_sender' % family, 'is for the kernel', [
            step(frame(icmp_error(family, 3, quoted(family, TCP, 80, source=CLIENT[family]))),
                 'pass_other_protocol')]))
        short = 20 + 3 if family == 4 else 40 + 3
        result.append(('ipv%d_error_quoting_too_little' % family, 'has no ports', [
            step(frame(icmp_error(family, 3, quoted(family, TCP, 80, short))), 'drop_icmp_error_truncated')]))
        ports_in_padding = icmp_error(family, 3, quoted(family, TCP, 80, short))
        result.append(('ipv%d_error_whose_ports_are_link_padding' % family, 'has none', [
            step(frame(ports_in_padding, padding=bytes(20)), 'drop_icmp_error_truncated')]))
    result.append(('ipv4_error_about_a_later_fragment', 'has no ports', [
        step(frame(icmp_error(4, 11, quoted(4, UDP, 53, fragment=100))), 'drop_fragment')]))
    return result


def kernel():
    """What is not balanced is the kernel's."""
    tcp80 = tcp(40000, 80, SYN)
    cases = [
        ('arp', 'who has ...', [ethernet(0x0806), bytes(28)], 'pass_not_ip'),
        ('lldp', 'link layer discovery', [ethernet(0x88CC), bytes(46)], 'pass_not_ip'),
        ('other_ipv4_address', 'the host itself', frame(packet(4, TCP, tcp80, destination='198.51.100.11')),
         'pass_not_vip'),
        ('other_ipv6_address', 'the host itself', frame(packet(6, TCP, tcp80, destination='2001:db8::11')),
         'pass_not_vip'),
        ('mapped_destination', 'is not the IPv4 VIP', frame(packet(6, TCP, tcp80, destination='::ffff:198.51.100.10')),
         'pass_not_vip'),
        ('broken_transport_of_another_address', 'is not for us to judge',
         frame(packet(4, TCP, b'', destination='198.51.100.11')), 'pass_not_vip'),
        ('port_without_a_service', 'ssh to the VIP', frame(tcp_packet(4, 22, SYN)), 'pass_no_service'),
        ('ipv6_port_without_a_service', 'ssh to the VIP', frame(tcp_packet(6, 22, SYN)), 'pass_no_service'),
        ('port_behind_a_range', '9000 is past 8000-8999', frame(tcp_packet(4, 9000, SYN)), 'pass_no_service'),
        ('ping', 'of the VIP', frame(packet(4, ICMP, icmp(8, 0, bytes(4), b'ping'))), 'pass_other_protocol'),
        ('ipv6_ping', 'of the VIP', frame(packet(6, ICMPV6, icmpv6(128, 0, bytes(4), b'ping'))),
         'pass_other_protocol'),
        ('ospf', 'to the VIP', frame(packet(4, 89, bytes(24))), 'pass_other_protocol'),
        ('later_fragment_of_a_ping', 'the kernel puts it together',
         frame(packet(4, ICMP, bytes(16), fragment=10)), 'pass_other_protocol'),
    ]
    return [(name, comment, [step(layers, verdict)]) for name, comment, layers, verdict in cases]


def checks():
    """Health checks through the data path: each to the backend that its source and port are pinned to."""
    result = []
    for family in (4, 6):
        v = 'ipv%d_' % family
        source = CHECKER[family]

        def check(flags, port, protocol=TCP):
            segment = tcp(port, 80, flags) if protocol == TCP else udp(port, 53)
            vip_port = 80 if protocol == TCP else 53
            return (packet(family, protocol, segment, source=source),
                    hash_of(family, protocol, vip_port, port, source))

        def pinned(flags, port, backend, protocol=TCP):
            one, h = check(flags, port, protocol)
            return forward(one, backend, 'forward_check', h)

        def not_pinned(port):
            one, h = check(SYN, port)
            return forward(one, B4, 'forward_new', h)

        def late(port):
            return step(frame(check(ACK, port)[0]), 'drop_check')

        result.append((v + 'check_stays_with_its_backend', 'from SYN to RST, and again, whatever the scheduler says', [
            pinned(flags, CHECK_PORT, SECOND) for flags in (SYN, ACK, FIN | ACK, RST, SYN)]))
        result.append((v + 'check_of_a_datagram', 'too', [pinned(0, CHECK_PORT + 1, SECOND, UDP)]))
        result.append((v + 'each_pin_has_four_ports', 'of the same backend', [
            pinned(SYN, CHECK_PORT + 3, SECOND), pinned(SYN, CHECK_PORT + 4, B4), pinned(SYN, CHECK_PORT + 7, B4)]))
        result.append((v + 'check_of_a_backend_that_takes_nothing_new', 'goes to it', [
            change(SECOND, 'down'), pinned(SYN, CHECK_PORT, SECOND), change(SECOND, 'draining'),
            pinned(SYN, CHECK_PORT, SECOND)]))
        result.append((v + 'other_ports_of_a_check_source', 'are scheduled like any client\'s', [
            not_pinned(CHECK_PORT - 1), not_pinned(CHECK_PORT + 16384), not_pinned(40000)]))
        result.append((v + 'check_ports_that_no_backend_has', 'are nobody\'s', [
            late(CHECK_PORT + 8), late(CHECK_PORT + 12), late(CHECK_PORT + 16383)]))
        about = icmp_error(family, 3, quoted(family, TCP, 80, destination=source, client_port=CHECK_PORT + 2))
        result.append((v + 'error_about_a_check', 'goes to the check\'s backend', [
            forward(about, SECOND, 'forward_check', hash_of(family, TCP, 80, CHECK_PORT + 2, source))]))
        one = tcp_packet(family, 80, SYN, CHECK_PORT)
        result.append((v + 'port_of_a_check_from_a_client', 'is any port', [
            forward(one, B4, 'forward_new', hash_of(family, TCP, 80, CHECK_PORT))]))
    return result


def drops():
    """Malformed, expired, too big, nowhere to go."""
    tcp80, dns = tcp(40000, 80, SYN), udp(40000, 53)
    tag = (0x8100, 1)
    options = bytes([0] + [0] * 6)
    cases = [
        ('runt', 'half an Ethernet header', [ethernet(0x0800)[:13]], 'drop_ethernet_truncated'),
        ('vlan_tag_cut_short', 'two of its four bytes', [ethernet(0x0800, [tag])[:16]], 'drop_ethernet_truncated'),
        ('three_vlan_tags', 'two are followed', frame(tcp_packet(4, 80, SYN), [tag, tag, tag]), 'drop_vlan_depth'),
        ('ipv4_header_cut_short', '19 bytes', [ethernet(0x0800), bytes([0x45]) + bytes(18)], 'drop_ipv4_truncated'),
        ('ipv4_packet_cut_short', 'total length is one more than there is',
         frame(packet(4, TCP, tcp80, total_length=41)), 'drop_ipv4_truncated'),
        ('ipv4_version', '5', frame(packet(4, TCP, tcp80, version_ihl=0x55)), 'drop_ipv4_bad_header'),
        ('ipv4_header_length', 'four words', frame(packet(4, TCP, tcp80, version_ihl=0x44)), 'drop_ipv4_bad_header'),
        ('ipv4_total_length', 'less than the header', frame(packet(4, TCP, tcp80, total_length=19)),
         'drop_ipv4_bad_header'),
        ('ipv6_header_cut_short', '39 bytes', [ethernet(0x86DD), bytes([0x60]) + bytes(38)], 'drop_ipv6_truncated'),
        ('ipv6_packet_cut_short', 'payload length is one more than there is',
         frame(packet(6, TCP, tcp80, payload_length=21)), 'drop_ipv6_truncated'),
        ('ipv6_version', '4', frame(packet(6, TCP, tcp80, ip_version=4)), 'drop_ipv6_bad_header'),
        ('ipv6_seven_extension_headers', 'six are followed',
         frame(packet(6, TCP, tcp80, extensions=[(60, options)] * 7)), 'drop_ipv6_extension_headers'),
        ('ipv6_extension_header_cut_short', 'longer than the packet',
         frame(packet(6, UDP, dns, extensions=[(0, bytes([9]) + options[1:])])), 'drop_ipv6_extension_headers'),
        ('tcp_cut_short', '19 bytes', frame(packet(4, TCP, tcp80[:19])), 'drop_l4_truncated'),
        ('udp_cut_short', '7 bytes', frame(packet(6, UDP, dns[:7])), 'drop_l4_truncated'),
        ('icmp_cut_short', '7 bytes', frame(packet(4, ICMP, bytes(7))), 'drop_l4_truncated'),
        ('tcp_header_in_link_padding', 'the IP packet ends before it', frame(packet(4, TCP, b''), (), tcp80),
         'drop_l4_truncated'),
        ('tcp_data_offset_too_small', 'four words', frame(packet(4, TCP, tcp(40000, 80, SYN, b'', 4))),
         'drop_tcp_bad_header'),
        ('tcp_data_offset_past_the_end', 'six words of five', frame(packet(6, TCP, tcp(40000, 80, SYN, b'', 6))),
         'drop_tcp_bad_header'),
        ('ipv4_later_fragment', 'has no ports', frame(packet(4, UDP, bytes(32), fragment=185)), 'drop_fragment'),
        ('ipv6_later_fragment', 'has no ports',
         frame(packet(6, UDP, bytes(32), extensions=[(44, struct.pack('>BHI', 0, 185 << 3, 7))])), 'drop_fragment'),
        ('no_backend', 'the service has none', frame(tcp_packet(4, 81, SYN)), 'drop_no_backend'),
    ]
    result = [(name, comment, [step(layers, verdict)]) for name, comment, layers, verdict in cases]
    for name, comment, one, verdict, backend in (
            ('ttl_runs_out', 'here', tcp_packet(4, 80, SYN, ttl=1), 'drop_hop_limit', B4),
            ('ttl_zero', 'should not have come', tcp_packet(4, 80, SYN, ttl=0), 'drop_hop_limit', B4),
            ('hop_limit_runs_out', 'here', tcp_packet(6, 443, SYN, hop_limit=1), 'drop_hop_limit', B6),
            ('no_next_hop', 'its link address is not known', tcp_packet(4, 82, SYN), 'drop_no_next_hop', NO_NEXT_HOP),
            ('too_big_and_fragmentable', 'no DF: the client is not told',
             packet(4, TCP, tcp(40000, 80, SYN, bytes(1441)), fragment=0), 'drop_too_big', B4)):
        result.append((name, comment, [step(frame(one), verdict, None, backend)]))
    return result


def too_big():
    """Path MTU discovery: the client is told what fits."""
    result = []
    for family in (4, 6):
        for outer, port in ((4, 80), (6, 443)):
            mtu = 1500 - (20 if outer == 4 else 40)
            headers = 40 if family == 4 else 60
            one = packet(family, TCP, tcp(40000, port, ACK, bytes(range(256)) * 6)[:mtu + 1 - headers + 20])
            result.append(('ipv%d_towards_an_ipv%d_backend' % (family, outer), 'one byte more than fits', [
                step(frame(one), 'reply_too_big', too_big_answer(one, mtu), B4 if outer == 4 else B6)]))
    one = packet(4, TCP, tcp(40000, 80, ACK, bytes(1450)), traffic_class=0x28)
    tags = [(0x8100, 100)]
    result.append(('vlan', 'the answer goes back into it', [
        step(frame(one, tags), 'reply_too_big', too_big_answer(one, 1480, tags), B4)]))
    error = icmp_error(4, 3, quoted(4, TCP, 80) + bytes(1430))
    result.append(('icmp_error', 'is never answered with another', [step(frame(error), 'drop_too_big', None, B4)]))
    return result


def main():
    groups = [pairings, fields, connections, checks, icmp_errors, kernel, drops, too_big]
    for group in groups:
        vectors = [{'name': name, 'comment': comment, 'steps': steps} for name, comment, steps in group()]
        document = {'comment': group.__doc__, 'vectors': vectors}
        (FILES / (group.__name__ + '.json')).write_text(json.dumps(document, indent=1) + '\n')
    (FILES / 'tables.json').write_text(json.dumps(tables(), indent=1) + '\n')


if __name__ == '__main__':
    main()
