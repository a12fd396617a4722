"""Health checks over HTTP: http, grpc and websocket, against real servers and broken ones. What is of TLS alone is in
test_health_checks_tls.py."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import websockets
from health_servers import (GRPC, GRPC_NOT_SERVING, GRPC_TLS, GRPC_WANTS_CLIENT, GRPC_WITHOUT_HEALTH, HTTP, HTTP2,
                            HTTPS, CertifiedHealthChecks, Servers)
from health_testbed import (LOOPBACKS, REFUSING_PORT, REJECTING, SHORT_TIMEOUT, SILENT, HealthChecks, answers_with,
                            drips, half_closes_after, resets, silent)

_UNFINISHED = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
_HTTP2_SETTINGS = bytes.fromhex("000000 04 00 00000000")  # RFC 9113 section 6.5: a server's first frame


class Http(HealthChecks):
    @classmethod
    def start_servers(cls) -> None:
        Servers(cls).start_nginx()

    def test_nginx_is_healthy(self) -> None:
        self.assert_healthy("HTTP status 200", type="http", port=HTTP)

    def test_request_of_nginx(self) -> None:
        self.assert_healthy("HTTP status 200", type="http", port=HTTP, path="/echo", method="OPTIONS",
                            host="shop.example", headers=["X-Token: 12 34"],
                            body="OPTIONS shop.example 12 34 HTTP/1.1")
        self.assert_healthy("HTTP status 200", type="http", port=HTTP, method="HEAD")

    def test_expected_statuses(self) -> None:
        self.assert_healthy("HTTP status 503", type="http", port=HTTP, path="/busy", status=["404", "500-599"])
        self.assert_healthy("HTTP status 301", type="http", port=HTTP, path="/moved", status="301")

    def test_version_2(self) -> None:
        self.assert_healthy("HTTP status 200", type="http", port=HTTP2, version="2", path="/echo", body="HTTP/2.0")

    def test_other_status(self) -> None:
        for port, version in ((HTTP, "1.1"), (HTTP2, "2")):
            self.assert_unhealthy("HTTP status 503, expected 200-399", type="http", port=port, version=version,
                                  path="/busy")
            self.assert_unhealthy("HTTP status 404, expected 200, 204-206", type="http", port=port, version=version,
                                  path="/none", status=["200", "204-206"])

    def test_other_body(self) -> None:
        for port, version in ((HTTP, "1.1"), (HTTP2, "2")):
            self.assert_unhealthy('HTTP status 200, answered "ok\\n", which does not contain "ready"', type="http",
                                  port=port, version=version, body="ready")

    def test_refused(self) -> None:
        for version in ("1.1", "2"):
            self.assert_unhealthy("connection refused", type="http", port=REFUSING_PORT, version=version)

    def test_silent_host(self) -> None:
        for version in ("1.1", "2"):
            self.assert_unhealthy("no connection within 400ms", SILENT, type="http", port=HTTP, version=version,
                                  timeout=SHORT_TIMEOUT)

    def test_host_that_cannot_be_reached(self) -> None:
        self.assert_unhealthy("host unreachable", REJECTING, type="http", port=HTTP)

    def test_silent_server(self) -> None:
        with self.stream_server(silent) as port:
            for version in ("1.1", "2"):
                self.assert_unhealthy("no answer within 400ms", type="http", port=port, version=version,
                                      timeout=SHORT_TIMEOUT)
        with self.stream_server(answers_with(_HTTP2_SETTINGS)) as port:
            self.assert_unhealthy("no answer within 400ms", type="http", port=port, version="2", timeout=SHORT_TIMEOUT)

    def test_server_of_another_protocol(self) -> None:
        with self.stream_server(half_closes_after(b"220 mail.example ESMTP\r\n")) as port:
            self.assert_unhealthy("the answer is not HTTP/1", type="http", port=port)
            self.assert_unhealthy("the answer is not HTTP/2", type="http", port=port, version="2")

    def test_server_of_another_version(self) -> None:
        self.assert_unhealthy("the answer is not HTTP/1", type="http", port=HTTP2)
        self.assert_unhealthy("the answer is not HTTP/2", type="http", port=HTTP, version="2")

    def test_half_closed_without_an_answer(self) -> None:
        with self.stream_server(half_closes_after()) as port:
            for version in ("1.1", "2"):
                self.assert_unhealthy("connection closed without an answer", type="http", port=port, version=version)
        with self.stream_server(half_closes_after(_HTTP2_SETTINGS)) as port:
            self.assert_unhealthy("connection closed without an answer", type="http", port=port, version="2")

    def test_half_closed_in_the_middle_of_the_answer(self) -> None:
        with self.stream_server(half_closes_after(_UNFINISHED)) as port:
            self.assert_unhealthy("connection closed in the middle of the answer", type="http", port=port)

    def test_reset(self) -> None:
        with self.stream_server(resets) as port:
            for version in ("1.1", "2"):
                self.assert_unhealthy("connection reset", type="http", port=port, version=version)

    def test_slow_drip(self) -> None:
        with self.stream_server(drips(b"HTTP/1.1 200 OK\r\n")) as port:
            self.assert_unhealthy("no answer within 300ms", type="http", port=port, timeout="300ms")
        with self.stream_server(drips(b"x", _UNFINISHED)) as port:
            self.assert_unhealthy("HTTP status 200, but the answer was not complete within 700ms", type="http",
                                  port=port, timeout="700ms")

    def test_body_is_read_up_to_64_kib(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 70005\r\n\r\n"
        with self.stream_server(answers_with(head + b"ready" + b"x" * 70_000)) as port:
            self.assert_healthy("HTTP status 200", type="http", port=port, body="ready")
        with self.stream_server(answers_with(head + b"x" * 70_000 + b"ready")) as port:
            self.assert_unhealthy(f'HTTP status 200, answered "{"x" * 64}...", which does not contain "ready"',
                                  type="http", port=port, body="ready")


class Grpc(CertifiedHealthChecks):
    @classmethod
    def start_certified(cls, servers: Servers) -> None:
        servers.start_nginx()
        servers.start_grpc()

    def test_server_is_healthy(self) -> None:
        self.assert_healthy("SERVING", type="grpc", port=GRPC)
        self.assert_healthy("SERVING", type="grpc", port=GRPC_TLS, tls=self.options())

    def test_service_is_healthy(self) -> None:
        self.assert_healthy("orders: SERVING", type="grpc", port=GRPC, service="orders")
        self.assert_healthy("orders: SERVING", type="grpc", port=GRPC_TLS, service="orders", tls=self.options())

    def test_client_certificate(self) -> None:
        self.assert_healthy("SERVING", type="grpc", port=GRPC_WANTS_CLIENT,
                            tls=self.options(**self.certificates.client("client")))

    def test_missing_client_certificate(self) -> None:
        # Whether the server's word or its reset comes first is chance.
        self.assert_says("failure", "TLS handshake failed: tlsv13 alert certificate required|"
                         "connection (reset|closed without an answer); the server had asked for the client's "
                         "certificate", type="grpc",
                         port=GRPC_WANTS_CLIENT, tls=self.options())

    def test_not_serving(self) -> None:
        self.assert_unhealthy("NOT_SERVING", type="grpc", port=GRPC_NOT_SERVING)
        self.assert_unhealthy("parked: NOT_SERVING", type="grpc", port=GRPC, service="parked")

    def test_unknown_service(self) -> None:
        self.assert_says("failure", "gRPC NOT_FOUND.*", type="grpc", port=GRPC, service="none")

    def test_server_without_the_health_service(self) -> None:
        self.assert_unhealthy("gRPC UNIMPLEMENTED", type="grpc", port=GRPC_WITHOUT_HEALTH)

    def test_refused(self) -> None:
        self.assert_unhealthy("connection refused", type="grpc", port=REFUSING_PORT)

    def test_silent(self) -> None:
        self.assert_unhealthy("no connection within 400ms", SILENT, type="grpc", port=GRPC, timeout=SHORT_TIMEOUT)
        with self.stream_server(silent) as port:
            self.assert_unhealthy("no answer within 400ms", type="grpc", port=port, timeout=SHORT_TIMEOUT)
            self.assert_unhealthy("TLS handshake not complete within 400ms", type="grpc", port=port,
                                  tls=self.options(), timeout=SHORT_TIMEOUT)

    def test_other_certificate_than_wanted(self) -> None:
        self.assert_unhealthy("certificate is not for other.example", type="grpc", port=GRPC_TLS,
                              tls=self.options(server_name="other.example"))

    def test_http_server_without_grpc(self) -> None:
        self.assert_unhealthy("HTTP status 404, expected 200", type="grpc", port=HTTP2)
        self.assert_unhealthy("HTTP status 404, expected 200", type="grpc", port=HTTPS, tls=self.options())
        self.assert_unhealthy("the answer is not HTTP/2", type="grpc", port=HTTP)

    def test_plain_and_tls_mistaken(self) -> None:
        self.assert_unhealthy("TLS handshake failed: wrong version number", type="grpc", port=GRPC, tls=self.options())
        self.assert_says("failure", "connection closed without an answer|connection reset|the answer is not HTTP/2",
                         type="grpc", port=GRPC_TLS)

    def test_status_in_the_trailer_is_the_one_that_counts(self) -> None:
        status_ok = b"\x88" + _hpack(b"content-type", b"application/grpc") + _hpack(b"grpc-status", b"0")
        answer = (_HTTP2_SETTINGS + _http2_frame(1, 4, status_ok) + _http2_frame(0, 0, b"\0\0\0\0\x02\x08\x01") +
                  _http2_frame(1, 5, _hpack(b"grpc-status", b"14")))
        with self.stream_server(answers_with(answer)) as port:
            self.assert_unhealthy("gRPC UNAVAILABLE", type="grpc", port=port)

    def test_half_closed(self) -> None:
        with self.stream_server(half_closes_after(_HTTP2_SETTINGS)) as port:
            self.assert_unhealthy("connection closed without an answer", type="grpc", port=port)


def _http2_frame(kind: int, flags: int, payload: bytes) -> bytes:
    """Of stream 1 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + (1).to_bytes(4) + payload


def _hpack(name: bytes, value: bytes) -> bytes:
    """A field of which nobody keeps a table (RFC 7541 section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _accept_key(request: bytes) -> bytes:
    """RFC 6455 section 4.2.2."""
    key = request.lower().split(b"sec-websocket-key: ")[1]
    start = len(request) - len(key)
    sent = request[start:].split(b"\r\n")[0]
    return base64.b64encode(hashlib.sha1(sent + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def _upgrades(then: Callable[[socket.socket], None], wrong_key: bytes = b"") -> Callable[[socket.socket], None]:
    """A WebSocket server up to its answer to the upgrade, and then `then`."""

    def serve(connection: socket.socket) -> None:
        accept = wrong_key or _accept_key(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        then(connection)

    return serve


class Websocket(CertifiedHealthChecks):
    @classmethod
    def start_certified(cls, servers: Servers) -> None:
        servers.start_nginx()

    @contextlib.contextmanager
    def websockets_server(self, context: ssl.SSLContext | None = None) -> Iterator[int]:
        """The port of a server of python3-websockets that greets at once and echoes."""
        port = next(self._ports)
        loop = asyncio.new_event_loop()

        async def greet(peer: websockets.WebSocketServerProtocol) -> None:
            with contextlib.suppress(websockets.ConnectionClosed):
                await peer.send("welcome to " + peer.path)
                async for message in peer:
                    await peer.send(message)

        async def listen() -> list[websockets.WebSocketServer]:
            return [await websockets.serve(greet, sock=bound, ssl=context) for bound in listeners]

        async def end(servers: list[websockets.WebSocketServer]) -> None:
            for server in servers:
                server.close()
                await server.wait_closed()

        listeners = [self._bound(socket.SOCK_STREAM, address, port) for address in LOOPBACKS]
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            servers = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
            yield port
            asyncio.run_coroutine_threadsafe(end(servers), loop).result(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            for listener in listeners:
                listener.close()

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate("good"), self.certificates.key("good"))
        return context

    def test_server_is_healthy(self) -> None:
        with self.websockets_server() as port:
            self.assert_healthy("upgraded, pong", type="websocket", port=port, path="/chat")

    def test_server_with_tls_is_healthy(self) -> None:
        with self.websockets_server(self.server_context()) as port:
            self.assert_healthy("upgraded, pong", type="websocket", port=port, tls=self.options())

    def test_long_header_and_a_message_right_behind_it(self) -> None:
        def greets(connection: socket.socket) -> None:
            accept = _accept_key(connection.recv(65536))
            header = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Accept: " + accept + b"\r\nX: " + b"x" * 3600 + b"\r\n\r\n")
            message = b"\x82\x7e" + (4000).to_bytes(2) + bytes(4000)
            connection.sendall(header + message + b"\x8a\x0dsluice-health")
            silent(connection)

        with self.stream_server(greets) as port:
            self.assert_healthy("upgraded, pong", type="websocket", port=port)

    def test_refused(self) -> None:
        self.assert_unhealthy("connection refused", type="websocket", port=REFUSING_PORT)

    def test_silent(self) -> None:
        self.assert_unhealthy("no connection within 400ms", SILENT, type="websocket", port=HTTP, timeout=SHORT_TIMEOUT)
        with self.stream_server(silent) as port:
            self.assert_unhealthy("no answer within 400ms", type="websocket", port=port, timeout=SHORT_TIMEOUT)
            self.assert_unhealthy("TLS handshake not complete within 400ms", type="websocket", port=port,
                                  tls=self.options(), timeout=SHORT_TIMEOUT)

    def test_http_server_without_websockets(self) -> None:
        self.assert_unhealthy("HTTP status 200, expected 101", type="websocket", port=HTTP)
        self.assert_unhealthy("HTTP status 503, expected 101", type="websocket", port=HTTPS, path="/busy",
                              tls=self.options())

    def test_server_of_another_protocol(self) -> None:
        with self.stream_server(half_closes_after(b"220 mail.example ESMTP\r\n")) as port:
            self.assert_unhealthy("the answer is not HTTP/1", type="websocket", port=port)

    def test_wrong_accept(self) -> None:
        with self.stream_server(_upgrades(silent, b"dGhlIHNhbXBsZSBub25jZQ==")) as port:
            self.assert_unhealthy("Sec-WebSocket-Accept is missing or wrong", type="websocket", port=port)

    def test_wrong_certificate(self) -> None:
        self.assert_unhealthy("certificate is not for other.example", type="websocket", port=HTTPS,
                              tls={**self.options(), "server_name": "other.example"})

    def test_no_pong(self) -> None:
        with self.stream_server(_upgrades(silent)) as port:
            self.assert_unhealthy("no pong within 400ms", type="websocket", port=port, timeout=SHORT_TIMEOUT)

    def test_pong_of_another_ping(self) -> None:
        with self.stream_server(_upgrades(answers_with(b"\x8a\x05other"))) as port:
            self.assert_unhealthy("no pong within 400ms", type="websocket", port=port, timeout=SHORT_TIMEOUT)

    def test_closed_instead_of_a_pong(self) -> None:
        for answer in (b"", b"\x88\x02\x03\xe8"):  # without a word, and with a frame
            with self.stream_server(_upgrades(half_closes_after(answer))) as port:
                self.assert_unhealthy("connection closed without a pong", type="websocket", port=port)

    def test_bytes_that_are_no_frame(self) -> None:
        with self.stream_server(_upgrades(half_closes_after(b"\xff\x00"))) as port:
            self.assert_says("failure", "answered what is no WebSocket frame: .+", type="websocket", port=port)

    def test_half_closed_upgrade(self) -> None:
        with self.stream_server(half_closes_after()) as port:
            self.assert_unhealthy("connection closed without an answer", type="websocket", port=port)
        with self.stream_server(half_closes_after(b"HTTP/1.1 101 Switching Protocols\r\nUpgr")) as port:
            self.assert_unhealthy("connection closed in the middle of the answer", type="websocket", port=port)

    def test_slow_drip(self) -> None:
        with self.stream_server(drips(b"HTTP/1.1 101 Switching Protocols\r\n")) as port:
            self.assert_unhealthy("no answer within 400ms", type="websocket", port=port, timeout=SHORT_TIMEOUT)

    def test_reset(self) -> None:
        with self.stream_server(resets) as port:
            self.assert_unhealthy("connection reset", type="websocket", port=port)
