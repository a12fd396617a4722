"""Health checks by datagrams and bare connections, against real servers and broken ones."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

from health_servers import DNS, HTTP, HTTP2, NAME, QUIC, Certificates, Servers
from health_testbed import (ANOTHER_SOURCE, LOOPBACKS, NO_ROUTE, REFUSING_PORT, REJECTING, SHORT_TIMEOUT, SILENT,
                            UNREACHABLE, HealthChecks, answers_with, drips, half_closes_after, resets, silent)
from testbed.commands import socket_in

_DNS_QUERY = bytes.fromhex("0007 0100 0001 0000 0000 0000 07") + b"backend\7example\0" + bytes.fromhex("0001 0001")
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python's socket does not have it
_ONLY_LOCAL_PORT = 40000


def in_hex(data: bytes) -> str:
    return "hex:" + data.hex()


class Icmp(HealthChecks):
    def test_host_that_answers_is_healthy(self) -> None:
        self.assert_healthy("echo reply", type="icmp")

    def test_silent_host(self) -> None:
        self.assert_unhealthy("no answer within 400ms", SILENT, type="icmp", timeout=SHORT_TIMEOUT)

    def test_host_that_a_router_cannot_reach(self) -> None:
        self.assert_unhealthy("host unreachable", REJECTING, type="icmp")

    def test_host_that_this_host_cannot_reach(self) -> None:
        self.assert_unhealthy("host unreachable", UNREACHABLE, type="icmp")
        self.assert_unhealthy("network unreachable", NO_ROUTE, type="icmp")

    def test_reply_with_other_data(self) -> None:
        with self._replies(lambda request: request[:8] + b"other"):
            self.assert_unhealthy("no answer within 400ms, only an echo reply that is not what was sent", type="icmp",
                                  timeout=SHORT_TIMEOUT)

    def test_reply_without_the_data(self) -> None:
        with self._replies(lambda request: request[:8]):
            self.assert_unhealthy("no answer within 400ms, only an echo reply that is not what was sent", type="icmp",
                                  timeout=SHORT_TIMEOUT)

    def test_reply_of_another_host(self) -> None:
        with self._replies(lambda request: request, ANOTHER_SOURCE):
            for address, stranger in zip(LOOPBACKS, ANOTHER_SOURCE, strict=True):
                self.assert_unhealthy(f"no answer within 400ms, only an echo reply of {stranger}", [address],
                                      type="icmp", timeout=SHORT_TIMEOUT)

    def test_reply_of_another_host_before_that_of_the_right_one(self) -> None:
        with (self._replies(lambda request: request[:8] + b"other", ANOTHER_SOURCE),
              self._replies(lambda request: (time.sleep(0.2), request)[1])):
            self.assert_healthy("echo reply", type="icmp")

    def test_data_that_another_host_cannot_know(self) -> None:
        asked: list[bytes] = []

        def reply(request: bytes) -> bytes:
            asked.append(request[8:])
            return request

        with self._replies(reply):
            for _ in range(2):
                self.assert_healthy("echo reply", type="icmp")
        self.assertEqual(len(set(asked)), 4, asked)

    def test_sluiced_that_must_not_ping(self) -> None:
        self.set_sysctl("net/ipv4/ping_group_range", "1 0")
        self.addCleanup(self.set_sysctl, "net/ipv4/ping_group_range", "0 2147483647")
        self.assert_not_carried_out("not checked: this host lets sluiced send no echo requests; its group must be in "
                                    "net.ipv4.ping_group_range", type="icmp")

    @contextlib.contextmanager
    def _replies(self, answer: object, senders: Sequence[str] = LOOPBACKS) -> Iterator[None]:
        """Echo requests to the loopback addresses are answered by `answer(request)`, from the sender of the family,
        not by the kernel."""
        assert callable(answer)
        ended = threading.Event()
        settings = ("net/ipv4/icmp_echo_ignore_all", "net/ipv6/icmp/echo_ignore_all")
        with contextlib.ExitStack() as stack:
            for setting in settings:
                self.set_sysctl(setting, "1")
                stack.callback(self.set_sysctl, setting, "0")
            for family, protocol in ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6)):
                raw = stack.enter_context(socket_in(self.netns, family, socket.SOCK_RAW, protocol))
                raw.settimeout(0.05)
                sender = stack.enter_context(socket_in(self.netns, family, socket.SOCK_RAW, protocol))
                sender.bind((senders[0 if family == socket.AF_INET else 1], 0))
                thread = threading.Thread(target=_answer_echo_requests, args=(raw, sender, answer, ended))
                thread.start()
                stack.callback(thread.join)
            stack.callback(ended.set)
            yield


def _answer_echo_requests(raw: socket.socket, sender: socket.socket, answer: object, ended: threading.Event) -> None:
    assert callable(answer)
    ipv4 = raw.family == socket.AF_INET
    request_type, reply_type = (8, 0) if ipv4 else (128, 129)
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            packet, asker = raw.recvfrom(65536)
            request = packet[20:] if ipv4 else packet
            if request[0] != request_type:
                continue
            reply = struct.pack("!BBH", reply_type, 0, 0) + answer(request)[4:]
            if ipv4:  # the kernel fills in ICMPv6's
                reply = reply[:2] + struct.pack("!H", _internet_checksum(reply)) + reply[4:]
            sender.sendto(reply, asker)


def _internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Tcp(HealthChecks):
    @classmethod
    def start_servers(cls) -> None:
        Servers(cls).start_nginx()

    def test_server_that_accepts_is_healthy(self) -> None:
        self.assert_healthy("connected", type="tcp", port=HTTP)

    def test_answer_of_nginx(self) -> None:
        self.assert_says("success", r'answered "HTTP/1\.1 200 OK\\r\\nServer: nginx.*\.\.\."', type="tcp", port=HTTP,
                         send="HEAD / HTTP/1.0\r\n\r\n", expect="200 OK")
        self.assert_says("failure", r'answered "HTTP/1\.1 503 .*\.\.\.", which does not contain "200 OK"', type="tcp",
                         port=HTTP, send="GET /busy HTTP/1.0\r\n\r\n", expect="200 OK")

    def test_expected_bytes_that_arrive_one_by_one(self) -> None:
        with self.stream_server(drips(b"+PONG\r\n")) as port:
            self.assert_healthy('answered "+PONG"', type="tcp", port=port, send="PING\r\n", expect="+PONG")

    def test_refused(self) -> None:
        self.assert_unhealthy("connection refused", type="tcp", port=REFUSING_PORT)

    def test_silent_host(self) -> None:
        self.assert_unhealthy("no connection within 400ms", SILENT, type="tcp", port=HTTP, timeout=SHORT_TIMEOUT)

    def test_host_that_cannot_be_reached(self) -> None:
        self.assert_unhealthy("host unreachable", REJECTING, type="tcp", port=HTTP)
        self.assert_unhealthy("host unreachable", UNREACHABLE, type="tcp", port=HTTP)
        self.assert_unhealthy("network unreachable", NO_ROUTE, type="tcp", port=HTTP)

    def test_silent_server(self) -> None:
        with self.stream_server(silent) as port:
            self.assert_unhealthy("no answer within 400ms", type="tcp", port=port, send="PING\r\n", expect="+PONG",
                                  timeout=SHORT_TIMEOUT)

    def test_wrong_answer(self) -> None:
        with self.stream_server(half_closes_after(b"-LOADING\r\n")) as port:
            self.assert_unhealthy('answered "-LOADING\\r\\n", which does not contain "+PONG"', type="tcp", port=port,
                                  send="PING\r\n", expect="+PONG")

    def test_wrong_answer_of_a_server_that_keeps_the_connection(self) -> None:
        with self.stream_server(answers_with(b"-LOADING\r\n")) as port:
            self.assert_unhealthy('answered "-LOADING\\r\\n", which does not contain "+PONG"', type="tcp", port=port,
                                  send="PING\r\n", expect="+PONG", timeout=SHORT_TIMEOUT)

    def test_half_closed_without_an_answer(self) -> None:
        with self.stream_server(half_closes_after()) as port:
            self.assert_unhealthy("connection closed without an answer", type="tcp", port=port, send="PING\r\n",
                                  expect="+PONG")

    def test_reset(self) -> None:
        with self.stream_server(resets) as port:
            self.assert_unhealthy("connection reset", type="tcp", port=port, send="PING\r\n", expect="+PONG")

    def test_endless_answer_is_read_up_to_64_kib(self) -> None:
        with self.stream_server(half_closes_after(b"x" * 70_000 + b"+PONG")) as port:
            self.assert_unhealthy(f'answered "{"x" * 64}...", which does not contain "+PONG"', type="tcp", port=port,
                                  send="PING\r\n", expect="+PONG")

    def test_source_address(self) -> None:
        with self.stream_server(lambda peer: peer.sendall(peer.getpeername()[0].encode() + b"\n")) as port:
            for address, source in zip(LOOPBACKS, ANOTHER_SOURCE, strict=True):
                self.assert_healthy(f'answered "{source}\\n"', [address], type="tcp", port=port,
                                    source=list(ANOTHER_SOURCE), expect="\n")

    def test_source_address_that_this_host_does_not_have(self) -> None:
        for address, source in zip(LOOPBACKS, NO_ROUTE, strict=True):
            self.assert_not_carried_out(f"not checked: this host does not have the source address {source}", [address],
                                        type="tcp", port=HTTP, source=list(NO_ROUTE))

    def test_local_port_of_a_connection_to_another_backend_is_used_again(self) -> None:
        self.set_sysctl("net/ipv4/ip_local_port_range", f"{_ONLY_LOCAL_PORT} {_ONLY_LOCAL_PORT}")
        self.addCleanup(self.set_sysctl, "net/ipv4/ip_local_port_range", "32768 60999")
        with self.stream_server(silent) as port, contextlib.ExitStack() as stack:
            for address, source in zip(LOOPBACKS, ANOTHER_SOURCE, strict=True):
                connection = stack.enter_context(socket_in(
                    self.netns, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM))
                connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                connection.bind((source, 0))
                connection.connect((address, port))
            self.assert_healthy("connected", type="tcp", port=HTTP, source=list(ANOTHER_SOURCE))
            self.assert_healthy("HTTP status 200", type="http", port=HTTP2, version="2", source=list(ANOTHER_SOURCE))


class Udp(HealthChecks):
    @classmethod
    def start_servers(cls) -> None:
        Servers(cls).start_unbound()

    def test_expected_answer_of_unbound(self) -> None:
        self.assert_says("success", r'answered "\\x00\\x07\\x85\\x80\\x00\\x01\\x00\\x02.*\.\.\."', type="udp",
                         port=DNS, send=in_hex(_DNS_QUERY), expect=in_hex(socket.inet_aton("192.0.2.7")))

    def test_any_answer(self) -> None:
        with self.datagram_server(lambda _: [b"pong"]) as port:
            self.assert_healthy('answered "pong"', type="udp", port=port, send="ping")

    def test_empty_answer_is_an_answer(self) -> None:
        with self.datagram_server(lambda _: [b""]) as port:
            self.assert_healthy('answered ""', type="udp", port=port, send="ping")

    def test_refused(self) -> None:
        self.assert_unhealthy("port unreachable", type="udp", port=REFUSING_PORT, send="ping")

    def test_silent_host(self) -> None:
        self.assert_unhealthy("no answer within 400ms", SILENT, type="udp", port=DNS, send="ping",
                              timeout=SHORT_TIMEOUT)

    def test_silent_server(self) -> None:
        with self.datagram_server(lambda _: []) as port:
            self.assert_unhealthy("no answer within 400ms", type="udp", port=port, send="ping", timeout=SHORT_TIMEOUT)

    def test_host_that_cannot_be_reached(self) -> None:
        self.assert_unhealthy("host unreachable", REJECTING, type="udp", port=DNS, send="ping")
        self.assert_unhealthy("host unreachable", UNREACHABLE, type="udp", port=DNS, send="ping")
        self.assert_unhealthy("network unreachable", NO_ROUTE, type="udp", port=DNS, send="ping")

    def test_wrong_answer(self) -> None:
        with self.datagram_server(lambda _: [b"busy\n"]) as port:
            self.assert_unhealthy('answered "busy\\n", which does not contain "pong"', type="udp", port=port,
                                  send="ping", expect="pong")


class Quic(HealthChecks):
    @classmethod
    def start_servers(cls) -> None:
        servers = Servers(cls, Certificates(cls.directory / "certificates"))
        servers.start_caddy()
        servers.start_unbound()

    def test_caddy_is_healthy(self) -> None:
        self.assert_says("success", r"QUIC versions .*\b1\b.*", type="quic", port=QUIC)

    def test_refused(self) -> None:
        self.assert_unhealthy("port unreachable", type="quic", port=REFUSING_PORT)

    def test_silent_host(self) -> None:
        self.assert_unhealthy("no answer within 400ms", SILENT, type="quic", port=QUIC, timeout=SHORT_TIMEOUT)

    def test_silent_server(self) -> None:
        with self.datagram_server(lambda _: []) as port:
            self.assert_unhealthy("no answer within 400ms", type="quic", port=port, timeout=SHORT_TIMEOUT)

    def test_server_of_another_protocol(self) -> None:
        with self.datagram_server(lambda _: [b"who are you?"]) as port:
            self.assert_unhealthy('answered "who are you?", which is no QUIC version negotiation', type="quic",
                                  port=port)

    def test_versions_for_another_connection(self) -> None:
        def misdirected(probe: bytes) -> Sequence[bytes]:
            return [b"\x80" + bytes(4) + probe[5:23] + struct.pack("!I", 1)]  # the identifiers not changed round

        with self.datagram_server(misdirected) as port:
            self.assert_unhealthy(r'answered "\x80\x00\x00\x00\x00\x08sluice-d\x08sluice-s\x00\x00\x00\x01", which is '
                                  "no QUIC version negotiation", type="quic", port=port)

    def test_no_versions(self) -> None:
        with self.datagram_server(lambda probe: [b"\x80" + bytes(4) + probe[14:23] + probe[5:14]]) as port:
            self.assert_unhealthy(r'answered "\x80\x00\x00\x00\x00\x08sluice-s\x08sluice-d", which is no QUIC version '
                                  "negotiation", type="quic", port=port)


class Dns(HealthChecks):
    @classmethod
    def start_servers(cls) -> None:
        Servers(cls).start_unbound()

    def test_unbound_is_healthy(self) -> None:
        for transport in ("udp", "tcp"):
            self.assert_healthy("NOERROR, 2 answers", type="dns", port=DNS, name=NAME, transport=transport)

    def test_expected_address(self) -> None:
        for transport in ("udp", "tcp"):
            self.assert_healthy("NOERROR, 2 answers", type="dns", port=DNS, name=NAME, transport=transport,
                                answer="192.0.2.8")
            self.assert_healthy("NOERROR, 1 answer", type="dns", port=DNS, name=NAME, transport=transport,
                                record="aaaa", answer="2001:db8::7")

    def test_other_record(self) -> None:
        self.assert_healthy("NOERROR, 1 answer", type="dns", port=DNS, name=NAME, record="mx")

    def test_expected_code(self) -> None:
        self.assert_healthy("NXDOMAIN, 0 answers", type="dns", port=DNS, name=f"none.{NAME}", code="nxdomain")
        self.assert_healthy("REFUSED, 0 answers", type="dns", port=DNS, name="refused.example", code="refused")

    def test_other_code(self) -> None:
        for transport in ("udp", "tcp"):
            self.assert_unhealthy("NXDOMAIN, 0 answers; expected NOERROR", type="dns", port=DNS, name=f"none.{NAME}",
                                  transport=transport)
            self.assert_unhealthy("REFUSED, 0 answers; expected NOERROR", type="dns", port=DNS,
                                  name="refused.example", transport=transport)
            self.assert_unhealthy("NOERROR, 2 answers; expected NXDOMAIN", type="dns", port=DNS, name=NAME,
                                  code="nxdomain", transport=transport)

    def test_other_address(self) -> None:
        for transport in ("udp", "tcp"):
            self.assert_unhealthy("NOERROR, 1 answer: 2001:db8::7; expected 2001:db8::9", type="dns", port=DNS,
                                  name=NAME, record="aaaa", answer="2001:db8::9", transport=transport)

    def test_no_address(self) -> None:
        self.assert_unhealthy("NXDOMAIN, 0 answers; expected 192.0.2.7", type="dns", port=DNS,
                              name=f"mail.{NAME}", code="nxdomain", answer="192.0.2.7")

    def test_refused(self) -> None:
        self.assert_unhealthy("port unreachable", type="dns", port=REFUSING_PORT, name=NAME)
        self.assert_unhealthy("connection refused", type="dns", port=REFUSING_PORT, name=NAME, transport="tcp")

    def test_query_that_unbound_drops(self) -> None:
        self.assert_unhealthy("no answer within 400ms", type="dns", port=DNS, name="silent.example",
                              timeout=SHORT_TIMEOUT)

    def test_silent_host(self) -> None:
        self.assert_unhealthy("no answer within 400ms", SILENT, type="dns", port=DNS, name=NAME, timeout=SHORT_TIMEOUT)
        self.assert_unhealthy("no connection within 400ms", SILENT, type="dns", port=DNS, name=NAME, transport="tcp",
                              timeout=SHORT_TIMEOUT)

    def test_silent_server(self) -> None:
        with self.stream_server(silent) as port:
            self.assert_unhealthy("no answer within 400ms", type="dns", port=port, name=NAME, transport="tcp",
                                  timeout=SHORT_TIMEOUT)

    def test_host_that_cannot_be_reached(self) -> None:
        for transport in ("udp", "tcp"):
            self.assert_unhealthy("host unreachable", UNREACHABLE, type="dns", port=DNS, name=NAME,
                                  transport=transport)
            self.assert_unhealthy("network unreachable", NO_ROUTE, type="dns", port=DNS, name=NAME,
                                  transport=transport)
            self.assert_unhealthy("host unreachable", REJECTING, type="dns", port=DNS, name=NAME, transport=transport)

    def test_server_of_another_protocol(self) -> None:
        with self.datagram_server(lambda _: [b"who are you?"]) as port:
            self.assert_unhealthy('no answer within 400ms, only "who are you?", which answers no such query',
                                  type="dns", port=port, name=NAME, timeout=SHORT_TIMEOUT)
        with self.stream_server(half_closes_after(b"\0\x0cwho are you?")) as port:
            self.assert_unhealthy('answered "who are you?", which answers no such query', type="dns", port=port,
                                  name=NAME, transport="tcp")

    def test_answer_to_another_query_is_passed_over(self) -> None:
        def forged(query: bytes) -> Sequence[bytes]:
            other = bytes([query[0] ^ 1]) + query[1:2]
            return [other + b"\x81\x82" + query[4:], query, query[:2] + b"\x81\x83" + query[4:]]

        with self.datagram_server(forged) as port:
            self.assert_healthy("NXDOMAIN, 0 answers", type="dns", port=port, name=NAME, code="nxdomain")

    def test_answer_that_is_cut(self) -> None:
        with self.datagram_server(lambda query: [query[:2] + b"\x83\x80" + query[4:]]) as port:
            self.assert_unhealthy("NOERROR, 0 answers; the answer is cut, use transport: tcp", type="dns", port=port,
                                  name=NAME, answer="192.0.2.7")
            self.assert_healthy("NOERROR, 0 answers", type="dns", port=port, name=NAME)

    def test_server_failure(self) -> None:
        with self.datagram_server(lambda query: [query[:2] + b"\x81\x82" + query[4:]]) as port:
            self.assert_unhealthy("SERVFAIL, 0 answers; expected NOERROR", type="dns", port=port, name=NAME)

    def test_half_closed(self) -> None:
        with self.stream_server(half_closes_after()) as port:
            self.assert_unhealthy("connection closed without an answer", type="dns", port=port, name=NAME,
                                  transport="tcp")
        with self.stream_server(half_closes_after(b"\1\0half")) as port:
            self.assert_unhealthy("connection closed in the middle of the answer", type="dns", port=port, name=NAME,
                                  transport="tcp")

    def test_slow_drip(self) -> None:
        with self.stream_server(drips(b"\1\0")) as port:
            self.assert_unhealthy("answer not complete within 400ms", type="dns", port=port, name=NAME, transport="tcp",
                                  timeout=SHORT_TIMEOUT)
