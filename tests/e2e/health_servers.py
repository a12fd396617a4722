"""The real servers that the kinds of health checks are tested against, and certificates good and bad. All listen on
both loopback addresses of the namespace of a HealthChecks class."""

import pathlib
from typing import ClassVar

import harness
from health_testbed import LOOPBACKS, HealthChecks
from testbed import processes
from testbed.commands import enter, need_command, run

NAME = "backend.example"

HTTP = 8080
HTTP2 = 8081  # in clear text
HTTPS = 8443  # HTTP/1.1 and HTTP/2
HTTPS1 = 8444  # HTTP/1.1 alone
EXPIRED, OTHER_NAME, STRANGER, SELF_SIGNED = 8445, 8446, 8447, 8448  # what is wrong with the certificate
TLS12, TLS11 = 8449, 8450
WANTS_CLIENT = 8451  # nginx tells a client without a certificate by HTTP
CLIENT_OF_TLS12, CLIENT_OF_TLS13 = 8452, 8453  # openssl s_server ends the handshake
QUIC = 8454
MQTT, MQTT_PASSWORD, MQTT_TLS, MQTT_WANTS_CLIENT = 1883, 1884, 8883, 8884
DNS = 53
GRPC, GRPC_TLS, GRPC_WANTS_CLIENT, GRPC_NOT_SERVING, GRPC_WITHOUT_HEALTH = 50051, 50052, 50053, 50054, 50055

MQTT_USER, MQTT_PASSWORD_TEXT = "checker", "open sesame"
_START_TIMEOUT_S = 30


class Certificates:
    """Two authorities, and what they have signed, in PEM files: NAME.pem and NAME.key."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        directory.mkdir()
        self.authority = self._authority("authority")
        self._authority("stranger")
        names = f"DNS:{NAME},IP:127.0.0.1,IP:::1"
        self._leaf("good", "authority", names)
        self._leaf("expired", "authority", names, days=-1)
        self._leaf("other_name", "authority", "DNS:other.example")
        self._leaf("of_stranger", "stranger", names)
        self._leaf("client", "authority", "DNS:checker.example")
        self._leaf("client_of_stranger", "stranger", "DNS:checker.example")

    def certificate(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    def client(self, name: str) -> dict[str, str]:
        """Options of a check that shows this certificate."""
        return {"certificate_file": self.certificate(name), "key_file": self.key(name)}

    def _make_key(self, name: str) -> None:
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key(name)])

    def _authority(self, name: str) -> str:
        self._make_key(name)
        run(["openssl", "req", "-x509", "-new", "-key", self.key(name), "-subj", f"/CN={name}", "-days", "30",
             "-addext", "subjectAltName=DNS:" + NAME, "-out", self.certificate(name)])
        return self.certificate(name)

    def _leaf(self, name: str, authority: str, names: str, days: int = 30) -> None:
        self._make_key(name)
        request = self.directory / f"{name}.csr"
        run(["openssl", "req", "-new", "-key", self.key(name), "-subj", f"/CN={name}", "-addext",
             f"subjectAltName={names}", "-out", str(request)])
        run(["openssl", "x509", "-req", "-in", str(request), "-CA", self.certificate(authority), "-CAkey",
             self.key(authority), "-days", str(days), "-copy_extensions", "copy", "-out", self.certificate(name)])


class Servers:
    """Starts servers in the namespace of a class of tests; its end ends them."""

    def __init__(self, tests: type[HealthChecks], certificates: Certificates | None = None):
        self._netns = tests.netns
        self._directory = tests.directory
        self._certificates = certificates

    def start_nginx(self) -> None:
        configuration = self._write("nginx.conf", self._nginx_configuration())
        self._start("nginx", [need_command("nginx"), "-e", str(self._directory / "nginx.log"), "-c", configuration,
                              "-g", "daemon off;"], {f"tcp {HTTP}", f"tcp {HTTP2}"})

    def start_s_server(self, port: int, version: str) -> None:
        """openssl's, which ends the handshake of a client without a certificate of the authority."""
        self._start(f"s_server-{port}", [
            "openssl", "s_server", "-accept", str(port), "-cert", self._good.certificate("good"),
            "-key", self._good.key("good"), "-CAfile", self._good.authority, "-Verify", "1", "-verify_return_error",
            f"-{version}", "-www"], {f"tcp {port}"})

    def start_caddy(self) -> None:
        listen = "bind " + " ".join(_bracketed(address) for address in LOOPBACKS)
        configuration = self._write("Caddyfile", f"""\
{{
    admin off
    auto_https off
    storage file_system {self._directory}/caddy
}}
https://{NAME}:{QUIC} {{
    {listen}
    tls {self._good.certificate("good")} {self._good.key("good")}
    respond "ok"
}}
""")
        home = self._directory / "caddy"
        self._start("caddy", ["env", f"XDG_CONFIG_HOME={home}", f"XDG_DATA_HOME={home}", "caddy",
                              "run", "--adapter", "caddyfile", "--config", configuration], {f"udp {QUIC}"})

    def start_unbound(self) -> None:
        interfaces = "\n".join(f"  interface: {address}" for address in LOOPBACKS)
        configuration = self._write("unbound.conf", f"""\
server:
{interfaces}
  port: {DNS}
  username: ""
  chroot: ""
  directory: "{self._directory}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  module-config: "iterator"
  access-control: ::1/128 allow
  local-zone: "{NAME}." static
  local-data: "{NAME}. A 192.0.2.7"
  local-data: "{NAME}. A 192.0.2.8"
  local-data: "{NAME}. AAAA 2001:db8::7"
  local-data: "{NAME}. MX 10 mail.{NAME}."
  local-zone: "refused.example." always_refuse
  local-zone: "silent.example." always_deny
remote-control:
  control-enable: no
""")
        self._start("unbound", [need_command("unbound"), "-d", "-c", configuration], {f"udp {DNS}", f"tcp {DNS}"})

    def start_mosquitto(self) -> None:
        passwords = self._directory / "mosquitto.passwords"
        passwords.touch(mode=0o600)
        run(["mosquitto_passwd", "-b", str(passwords), MQTT_USER, MQTT_PASSWORD_TEXT])
        lines = ["user root", "per_listener_settings true"]
        tls = [f"cafile {self._good.authority}", f"certfile {self._good.certificate('good')}",
               f"keyfile {self._good.key('good')}", "allow_anonymous true"]
        options = {MQTT: ["allow_anonymous true"], MQTT_PASSWORD: [f"password_file {passwords}"], MQTT_TLS: tls,
                   MQTT_WANTS_CLIENT: [*tls, "require_certificate true"]}
        for port, listener in options.items():
            for address in LOOPBACKS:
                lines += [f"listener {port} {address}", *listener]
        configuration = self._write("mosquitto.conf", "\n".join(lines) + "\n")
        self._start("mosquitto", [need_command("mosquitto"), "-c", configuration], {f"tcp {port}" for port in options})

    def start_grpc(self) -> None:
        files = ["--certificate", self._good.certificate("good"), "--key", self._good.key("good")]
        self._start_grpc("grpc", [*_listen("--listen", GRPC), *_listen("--listen-tls", GRPC_TLS), *files],
                         {f"tcp {GRPC}", f"tcp {GRPC_TLS}"})
        self._start_grpc("grpc-wants-client", [*_listen("--listen-tls", GRPC_WANTS_CLIENT), *files, "--client-ca",
                                               self._good.authority], {f"tcp {GRPC_WANTS_CLIENT}"})
        self._start_grpc("grpc-not-serving", [*_listen("--listen", GRPC_NOT_SERVING), "--not-serving"],
                         {f"tcp {GRPC_NOT_SERVING}"})
        self._start_grpc("grpc-without-health", [*_listen("--listen", GRPC_WITHOUT_HEALTH), "--without-health"],
                         {f"tcp {GRPC_WITHOUT_HEALTH}"})

    def _start_grpc(self, name: str, arguments: list[str], expected: set[str]) -> None:
        program = harness.build() / "tests/controlplane/health/grpc_health_server"
        self._start(name, [str(program), *arguments], expected)

    @property
    def _good(self) -> Certificates:
        assert self._certificates is not None
        return self._certificates

    def _write(self, name: str, text: str) -> str:
        path = self._directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def _start(self, name: str, argv: list[str], expected: set[str]) -> None:
        """Returns when it listens on `expected`, with both families."""
        log = self._directory / f"{name}.log"
        record = processes.start(argv, netns=self._netns, record_path=self._directory / f"{name}.process", log=log)
        processes.wait_until(lambda: not processes.is_alive(record) or expected <= self._listening(), _START_TIMEOUT_S,
                             f"start of {name} (log: {log})")
        if not processes.is_alive(record):
            raise processes.TestbedError(f"{name} ended at its start:\n{processes.log_tail(log)}")

    def _listening(self) -> set[str]:
        """"tcp 80" for each port that has a listener on both loopback addresses, or on all addresses."""
        found: dict[str, set[str]] = {}
        for line in run(enter(self._netns, ["ss", "-Hltun"])).splitlines():
            protocol, _, _, _, local = line.split()[:5]
            address, _, port = local.rpartition(":")
            plain = address.strip("[]").removeprefix("::ffff:")
            found.setdefault(f"{protocol} {port}", set()).add(plain)
        return {key for key, addresses in found.items() if "*" in addresses or addresses >= set(LOOPBACKS)}

    def _nginx_configuration(self) -> str:
        servers = [_nginx_server(HTTP), _nginx_server(HTTP2, "http2")]
        if self._certificates is not None:
            servers += [
                self._nginx_tls(HTTPS, "good", "http2"),
                self._nginx_tls(HTTPS1, "good"),
                self._nginx_tls(EXPIRED, "expired"),
                self._nginx_tls(OTHER_NAME, "other_name"),
                self._nginx_tls(STRANGER, "of_stranger"),
                self._nginx_tls(SELF_SIGNED, "stranger"),
                self._nginx_tls(TLS12, "good", extra="ssl_protocols TLSv1.2;"),
                self._nginx_tls(TLS11, "good", extra="ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"),
                self._nginx_tls(WANTS_CLIENT, "good", "http2", "ssl_verify_client on; ssl_client_certificate "
                                f"{self._good.authority};")]
        temporary = "\n".join(f"    {kind}_temp_path {self._directory}/nginx-{kind};" for kind in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""\
user root;
worker_processes 1;
pid {self._directory}/nginx.pid;
error_log {self._directory}/nginx.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
{temporary}
{"".join(servers)}}}
"""

    def _nginx_tls(self, port: int, certificate: str, listen: str = "", extra: str = "") -> str:
        files = (f"ssl_certificate {self._good.certificate(certificate)}; "
                 f"ssl_certificate_key {self._good.key(certificate)};")
        return _nginx_server(port, f"ssl {listen}", f"{files} {extra}")


def _nginx_server(port: int, listen: str = "", extra: str = "") -> str:
    listens = " ".join(f"listen {_bracketed(address)}:{port} {listen};" for address in LOOPBACKS)
    return f"""\
    server {{
        {listens}
        {extra}
        location = / {{ return 200 "ok\\n"; }}
        location = /busy {{ return 503; }}
        location = /moved {{ return 301 http://elsewhere.example/; }}
        location = /echo {{ return 200 "$request_method $host $http_x_token $server_protocol"; }}
    }}
"""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _listen(option: str, port: int) -> list[str]:
    return [word for address in LOOPBACKS for word in (option, f"{_bracketed(address)}:{port}")]


class CertifiedHealthChecks(HealthChecks):
    """Tests of servers with the certificates of an authority of their own, which the checks know."""

    certificates: ClassVar[Certificates]

    @classmethod
    def start_servers(cls) -> None:
        cls.certificates = Certificates(cls.directory / "certificates")
        cls.start_certified(Servers(cls, cls.certificates))

    @classmethod
    def start_certified(cls, servers: Servers) -> None:
        raise NotImplementedError

    def options(self, **changes: object) -> dict[str, object]:
        """A check's `tls`."""
        return {"server_name": NAME, "ca_file": self.certificates.authority, **changes}
