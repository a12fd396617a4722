"""Health checks that speak TLS: certificates, versions and handshakes, good and bad. All kinds judge alike, though
HTTP/2 has a library of its own."""

import os
import select
import socket
import ssl

from health_servers import (CLIENT_OF_TLS12, CLIENT_OF_TLS13, EXPIRED, HTTP, HTTPS, HTTPS1, NAME, OTHER_NAME,
                            SELF_SIGNED, STRANGER, TLS11, TLS12, WANTS_CLIENT, CertifiedHealthChecks, Servers)
from health_testbed import (LOOPBACKS, REFUSING_PORT, SHORT_TIMEOUT, SILENT, UNREACHABLE, drips, half_closes_after,
                            resets, silent)

_KINDS: tuple[dict[str, object], ...] = ({"type": "tls"}, {"type": "https"}, {"type": "https", "version": "2"})

# The first bytes of a ServerHello: a record of 122 bytes, a message of 118.
_BEGIN_OF_SERVER_HELLO = bytes.fromhex("160303007a 02000076 0303") + bytes(32)


def _greets(connection: socket.socket) -> None:
    """As a mail server does."""
    connection.sendall(b"220 mail.example ESMTP\r\n")
    silent(connection)


def _holds(connection: socket.socket) -> None:
    """Says nothing, and reads nothing of what OpenSSL would answer, until the client has closed."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll(10_000)


class TlsServers(CertifiedHealthChecks):
    @classmethod
    def start_certified(cls, servers: Servers) -> None:
        servers.start_nginx()
        servers.start_s_server(CLIENT_OF_TLS12, "tls1_2")
        servers.start_s_server(CLIENT_OF_TLS13, "tls1_3")

    def asking_context(self) -> ssl.SSLContext:
        """Of a server that takes clients without a certificate, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate("good"), self.certificates.key("good"))
        context.load_verify_locations(self.certificates.authority)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client(self, name: str) -> dict[str, object]:
        return self.options(**self.certificates.client(name))


class Handshake(TlsServers):
    """What the kinds have in common."""

    def assert_each(self, text: str, port: int, tls: dict[str, object], **health: object) -> None:
        for kind in _KINDS:
            with self.subTest(**kind):
                self.assert_unhealthy(text, **kind, port=port, tls=tls, **health)

    def test_nginx_is_healthy(self) -> None:
        self.assert_healthy("TLSv1.3 handshake", type="tls", port=HTTPS, tls=self.options())
        self.assert_healthy("HTTP status 200", type="https", port=HTTPS, tls=self.options(), body="ok")

    def test_address_in_the_certificate(self) -> None:
        tls = {"ca_file": self.certificates.authority}
        self.assert_healthy("TLSv1.3 handshake", type="tls", port=HTTPS, tls=tls)
        self.assert_healthy("HTTP status 200", type="https", port=HTTPS, tls=tls)
        self.assert_healthy("HTTP status 200", type="https", version="2", port=HTTPS, tls=tls)

    def test_version_1_2(self) -> None:
        self.assert_healthy("TLSv1.2 handshake", type="tls", port=TLS12, tls=self.options())
        self.assert_healthy("HTTP status 200", type="https", port=TLS12, tls=self.options())

    def test_anything_goes_without_verification(self) -> None:
        for port in (EXPIRED, OTHER_NAME, STRANGER):
            self.assert_healthy("TLSv1.3 handshake", type="tls", port=port, tls={"verify": "false"})
            self.assert_healthy("HTTP status 200", type="https", port=port, tls={"verify": "false"})

    def test_certificate_that_is_valid_for_long_enough(self) -> None:
        self.assert_healthy("TLSv1.3 handshake", type="tls", port=HTTPS, tls=self.options(min_validity="700h"))
        self.assert_healthy("HTTP status 200", type="https", port=HTTPS, tls=self.options(min_validity="700h"))

    def test_certificate_that_ends_too_soon(self) -> None:
        for kind in _KINDS:
            self.assert_says("failure", "certificate ends in (719|720)h, 1000h wanted", **kind, port=HTTPS,
                             tls=self.options(min_validity="1000h"))

    def test_expired_certificate(self) -> None:
        self.assert_each("certificate has expired", EXPIRED, self.options())

    def test_expired_certificate_that_should_last(self) -> None:
        self.assert_each("certificate has expired", EXPIRED, self.options(min_validity="24h"))

    def test_other_name(self) -> None:
        self.assert_each(f"certificate is not for {NAME}", OTHER_NAME, self.options())

    def test_other_address(self) -> None:
        for address in LOOPBACKS:
            for kind in _KINDS:
                self.assert_unhealthy(f"certificate is not for {address}", [address], **kind, port=OTHER_NAME,
                                      tls={"ca_file": self.certificates.authority})

    def test_unknown_authority(self) -> None:
        self.assert_each("certificate is of an unknown authority", STRANGER, self.options())
        self.assert_each("certificate is of an unknown authority", HTTPS, {"server_name": NAME})

    def test_self_signed_certificate(self) -> None:
        self.assert_each("self-signed certificate", SELF_SIGNED, self.options())

    def test_version_too_old(self) -> None:
        self.assert_each("TLS handshake failed: tlsv1 alert protocol version", TLS11, self.options())
        self.assert_each("TLS handshake failed: tlsv1 alert protocol version", TLS12, self.options(min_version="1.3"))

    def test_server_without_tls(self) -> None:
        self.assert_each("TLS handshake failed: wrong version number", HTTP, self.options())

    def test_client_certificate(self) -> None:
        for port, version in ((CLIENT_OF_TLS12, "1.2"), (CLIENT_OF_TLS13, "1.3")):
            self.assert_healthy(f"TLSv{version} handshake", type="tls", port=port, tls=self.client("client"))
            self.assert_healthy("HTTP status 200", type="https", port=port, tls=self.client("client"))
        self.assert_healthy("HTTP status 200", type="https", port=WANTS_CLIENT, tls=self.client("client"))

    def test_missing_client_certificate(self) -> None:
        self.assert_each("TLS handshake failed: sslv3 alert handshake failure", CLIENT_OF_TLS12, self.options())
        self.assert_each("TLS handshake failed: tlsv13 alert certificate required", CLIENT_OF_TLS13, self.options())
        self.assert_unhealthy("HTTP status 400, expected 200-399", type="https", port=WANTS_CLIENT, tls=self.options())

    def test_server_that_asks_for_a_certificate_and_speaks_first(self) -> None:
        with self.stream_server(_greets, self.asking_context()) as port:
            self.assert_healthy("TLSv1.3 handshake", type="tls", port=port, tls=self.options())
            self.assert_healthy("TLSv1.3 handshake", type="tls", port=port, tls=self.client("client"))

    def test_server_that_asks_for_a_certificate_and_leaves_the_goodbye_unanswered(self) -> None:
        with self.stream_server(_holds, self.asking_context()) as port:
            self.assert_healthy("TLSv1.3 handshake", type="tls", port=port, tls=self.options(), timeout="2s")

    def test_client_certificate_of_an_unknown_authority(self) -> None:
        for port in (CLIENT_OF_TLS12, CLIENT_OF_TLS13):
            self.assert_each("TLS handshake failed: tlsv1 alert unknown ca", port, self.client("client_of_stranger"))

    def test_refused(self) -> None:
        self.assert_each("connection refused", REFUSING_PORT, self.options())

    def test_silent_or_unreachable_host(self) -> None:
        for kind in _KINDS:
            self.assert_unhealthy("no connection within 400ms", SILENT, **kind, port=HTTPS, tls=self.options(),
                                  timeout=SHORT_TIMEOUT)
            self.assert_unhealthy("host unreachable", UNREACHABLE, **kind, port=HTTPS, tls=self.options())

    def test_silent_server(self) -> None:
        with self.stream_server(silent) as port:
            self.assert_each("TLS handshake not complete within 400ms", port, self.options(), timeout=SHORT_TIMEOUT)

    def test_slow_drip(self) -> None:
        with self.stream_server(drips(_BEGIN_OF_SERVER_HELLO)) as port:
            self.assert_each("TLS handshake not complete within 400ms", port, self.options(), timeout=SHORT_TIMEOUT)

    def test_half_closed_handshake(self) -> None:
        for begin in (b"", _BEGIN_OF_SERVER_HELLO):
            with self.stream_server(half_closes_after(begin)) as port:
                self.assert_each("TLS handshake failed: connection closed", port, self.options())

    def test_reset_handshake(self) -> None:
        with self.stream_server(resets) as port:
            self.assert_each("connection reset", port, self.options())


class Files(TlsServers):
    """What a check needs of this host."""

    def test_missing_authorities(self) -> None:
        for kind in _KINDS:
            self.assert_not_carried_out("not checked: ca_file /none.pem: No such file or directory", **kind,
                                        port=HTTPS, tls=self.options(ca_file="/none.pem"))

    def test_authorities_that_are_no_certificates(self) -> None:
        file = self.certificates.key("client")
        self.assert_not_carried_out(f"not checked: ca_file {file}: no certificate or crl found", type="tls",
                                    port=HTTPS, tls=self.options(ca_file=file))

    def test_what_is_no_file(self) -> None:
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        self.addCleanup(pipe.unlink)
        for kind in _KINDS:
            for file in (str(pipe), "/dev/zero"):
                self.assert_not_carried_out(f"not checked: ca_file {file}: it is no regular file", **kind,
                                            port=HTTPS, tls=self.options(ca_file=file))
                tls = {**self.client("client"), "key_file": file}
                self.assert_not_carried_out(f"not checked: key_file {file}: it is no regular file", **kind,
                                            port=HTTPS, tls=tls)

    def test_key_of_another_certificate(self) -> None:
        tls = self.options(certificate_file=self.certificates.certificate("client"),
                           key_file=self.certificates.key("good"))
        for kind in _KINDS:
            self.assert_not_carried_out(f"not checked: key_file {tls['key_file']}: key values mismatch", **kind,
                                        port=HTTPS, tls=tls)


class HttpsAnswers(TlsServers):
    """After the handshake."""

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate("good"), self.certificates.key("good"))
        return context

    def test_status(self) -> None:
        self.assert_unhealthy("HTTP status 503, expected 200-399", type="https", port=HTTPS, path="/busy",
                              tls=self.options())

    def test_server_name_is_the_host(self) -> None:
        self.assert_healthy("HTTP status 200", type="https", port=HTTPS, path="/echo", body=f"GET {NAME}  HTTP/1.1",
                            tls=self.options())

    def test_version_2(self) -> None:
        self.assert_healthy("HTTP status 200", type="https", port=HTTPS, path="/echo", body="HTTP/2.0",
                            version="2", tls=self.options())

    def test_server_without_version_2(self) -> None:
        self.assert_unhealthy("the server does not speak HTTP/2", type="https", port=HTTPS1, version="2",
                              tls=self.options())

    def test_silent_after_the_handshake(self) -> None:
        with self.stream_server(silent, self.server_context()) as port:
            self.assert_unhealthy("no answer within 400ms", type="https", port=port, tls=self.options(),
                                  timeout=SHORT_TIMEOUT)

    def test_closed_after_the_handshake(self) -> None:
        with self.stream_server(half_closes_after(), self.server_context()) as port:
            self.assert_unhealthy("connection closed without an answer", type="https", port=port, tls=self.options())

    def test_closed_in_the_middle_of_the_answer(self) -> None:
        with self.stream_server(half_closes_after(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
                                self.server_context()) as port:
            self.assert_unhealthy("connection closed in the middle of the answer", type="https", port=port,
                                  tls=self.options())

    def test_length_beyond_all_memory(self) -> None:
        for length in (4 * 10**18, 2**64 - 1):
            with self.stream_server(half_closes_after(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhalf" % length),
                                    self.server_context()) as port:
                self.assert_unhealthy("connection closed in the middle of the answer", type="https", port=port,
                                      tls=self.options())

    def test_reset_after_the_handshake(self) -> None:
        with self.stream_server(resets, self.server_context()) as port:
            self.assert_unhealthy("connection reset", type="https", port=port, tls=self.options())
