"""Health checks of MQTT servers: mosquitto, and broken ones."""

import os
import ssl

from health_servers import (HTTP, MQTT, MQTT_PASSWORD, MQTT_PASSWORD_TEXT, MQTT_TLS, MQTT_USER, MQTT_WANTS_CLIENT,
                            CertifiedHealthChecks, Servers)
from health_testbed import (REFUSING_PORT, REJECTING, SHORT_TIMEOUT, SILENT, answers_with, drips, half_closes_after,
                            resets, silent)

_CONNACK = bytes.fromhex("20020000")


class Mqtt(CertifiedHealthChecks):
    @classmethod
    def start_certified(cls, servers: Servers) -> None:
        servers.start_mosquitto()
        servers.start_nginx()

    def password_file(self, password: str, end: str = "\n") -> str:
        path = self.directory / "password"
        path.write_bytes((password + end).encode())
        self.addCleanup(path.unlink, missing_ok=True)
        return str(path)

    def test_mosquitto_is_healthy(self) -> None:
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT)
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT, client_id="sluice")

    def test_user_name_and_password(self) -> None:
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT_PASSWORD, username=MQTT_USER,
                            password_file=self.password_file(MQTT_PASSWORD_TEXT))

    def test_mosquitto_with_tls_is_healthy(self) -> None:
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT_TLS, tls=self.options())
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT_WANTS_CLIENT,
                            tls=self.options(**self.certificates.client("client")))

    def test_wrong_password(self) -> None:
        self.assert_unhealthy("MQTT connection refused: not authorized", type="mqtt", port=MQTT_PASSWORD,
                              username=MQTT_USER, password_file=self.password_file("wrong"))

    def test_missing_user_name(self) -> None:
        self.assert_unhealthy("MQTT connection refused: not authorized", type="mqtt", port=MQTT_PASSWORD)

    def test_missing_password_file(self) -> None:
        self.assert_not_carried_out("not checked: cannot read password_file /none: No such file or directory",
                                    type="mqtt", port=MQTT_PASSWORD, username=MQTT_USER, password_file="/none")

    def test_empty_password_file(self) -> None:
        file = self.password_file("", end="")
        self.assert_not_carried_out(f"not checked: password_file {file} is empty", type="mqtt", port=MQTT_PASSWORD,
                                    username=MQTT_USER, password_file=file)

    def test_password_file_that_ends_its_lines_as_windows_does(self) -> None:
        file = self.password_file(MQTT_PASSWORD_TEXT, end="\r\n")
        self.assert_healthy("MQTT connection accepted", type="mqtt", port=MQTT_PASSWORD, username=MQTT_USER,
                            password_file=file)

    def test_password_file_that_is_no_file(self) -> None:
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        self.addCleanup(pipe.unlink)
        for file in (str(pipe), "/dev/zero", str(self.directory)):
            self.assert_not_carried_out(f"not checked: cannot read password_file {file}: it is no regular file",
                                        type="mqtt", port=MQTT_PASSWORD, username=MQTT_USER, password_file=file)

    def test_password_that_is_too_long(self) -> None:
        file = self.password_file("x" * 70_000)
        self.assert_not_carried_out(f"not checked: cannot read password_file {file}: it is over 64 KiB", type="mqtt",
                                    port=MQTT_PASSWORD, username=MQTT_USER, password_file=file)
        file = self.password_file("x" * 65_536, end="")
        self.assert_not_carried_out(f"not checked: the password in password_file {file} is over 65535 bytes",
                                    type="mqtt", port=MQTT_PASSWORD, username=MQTT_USER, password_file=file)

    def test_other_certificate_than_wanted(self) -> None:
        self.assert_unhealthy("certificate is not for other.example", type="mqtt", port=MQTT_TLS,
                              tls=self.options(server_name="other.example"))

    def test_missing_client_certificate(self) -> None:
        self.assert_unhealthy("TLS handshake failed: tlsv13 alert certificate required", type="mqtt",
                              port=MQTT_WANTS_CLIENT, tls=self.options())

    def test_plain_and_tls_mistaken(self) -> None:
        # mosquitto closes at once; whether that is a reset depends on what it has read.
        self.assert_says("failure", "connection closed without an answer|connection reset", type="mqtt", port=MQTT_TLS)
        self.assert_says("failure", "TLS handshake failed: connection closed|connection reset", type="mqtt", port=MQTT,
                         tls=self.options())

    def test_refused(self) -> None:
        self.assert_unhealthy("connection refused", type="mqtt", port=REFUSING_PORT)

    def test_unreachable_or_silent_host(self) -> None:
        self.assert_unhealthy("host unreachable", REJECTING, type="mqtt", port=MQTT)
        self.assert_unhealthy("no connection within 400ms", SILENT, type="mqtt", port=MQTT, timeout=SHORT_TIMEOUT)

    def test_silent_server(self) -> None:
        with self.stream_server(silent) as port:
            self.assert_unhealthy("no answer within 400ms", type="mqtt", port=port, timeout=SHORT_TIMEOUT)
            self.assert_unhealthy("TLS handshake not complete within 400ms", type="mqtt", port=port,
                                  tls=self.options(), timeout=SHORT_TIMEOUT)

    def test_silent_after_the_handshake(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate("good"), self.certificates.key("good"))
        with self.stream_server(silent, context) as port:
            self.assert_unhealthy("no answer within 700ms", type="mqtt", port=port, tls=self.options(),
                                  timeout="700ms")

    def test_server_of_another_protocol(self) -> None:
        self.assert_unhealthy('answered "HTTP", which is no CONNACK', type="mqtt", port=HTTP)

    def test_other_packet(self) -> None:
        with self.stream_server(answers_with(bytes.fromhex("d000d000"))) as port:
            self.assert_unhealthy(r'answered "\xd0\x00\xd0\x00", which is no CONNACK', type="mqtt", port=port)

    def test_server_unavailable(self) -> None:
        with self.stream_server(answers_with(bytes.fromhex("20020003"))) as port:
            self.assert_unhealthy("MQTT connection refused: server unavailable", type="mqtt", port=port)

    def test_connack_byte_by_byte(self) -> None:
        with self.stream_server(drips(_CONNACK)) as port:
            self.assert_healthy("MQTT connection accepted", type="mqtt", port=port)

    def test_half_closed(self) -> None:
        with self.stream_server(half_closes_after()) as port:
            self.assert_unhealthy("connection closed without an answer", type="mqtt", port=port)
        with self.stream_server(half_closes_after(_CONNACK[:2])) as port:
            self.assert_unhealthy("connection closed in the middle of the answer", type="mqtt", port=port)

    def test_answer_that_stops(self) -> None:
        with self.stream_server(answers_with(_CONNACK[:2])) as port:
            self.assert_unhealthy("answer not complete within 400ms", type="mqtt", port=port, timeout=SHORT_TIMEOUT)

    def test_reset(self) -> None:
        with self.stream_server(resets) as port:
            self.assert_unhealthy("connection reset", type="mqtt", port=port)
