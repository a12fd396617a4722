"""The REST API by HTTPS, with curl and openssl as clients and as attackers. It needs no engine."""

import concurrent.futures
import json
import os
import pathlib
import re
import resource
import socket
import ssl
import subprocess
import time
import urllib.parse

from discovery_testbed import Discovery
from health_servers import Certificates
from health_testbed import LOOPBACKS
import harness
from testbed.commands import enter, inside

PORT = 8443
_FLOOD = 10_000
_HTTP_STATUS = re.compile(r"HTTP/1\.1 (\d{3})")


class Api(Discovery):
    certificates: Certificates
    tokens: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.certificates = Certificates(cls.directory / "api-certificates")
        for key in (cls.directory / "api-certificates").glob("*.key"):
            key.chmod(0o600)

    def setUp(self) -> None:
        super().setUp()
        self.tokens = {}
        self.configure_api()
        self.token("viewer", "viewer")
        self.token("web", "operator", "--services", "web")
        self.token("dns", "operator", "--services", "dns")
        self.token("admin", "admin")
        self.start_sluiced()

    def configure_api(self, **changes: object) -> None:
        """Two services on pools of their own; `changes` replace keys of `api`."""
        api = {"listen": [f"127.0.0.1:{PORT}", f"[::1]:{PORT}"], "certificate": self.certificates.certificate("good"),
               "key": self.certificates.key("good"), "client_ca": self.certificates.authority,
               "tokens_file": str(self.place / "tokens"),
               "clients": [{"certificate": "checker.example", "role": "operator", "services": ["web"]}],
               "limits": {"header_timeout": "1s", "body_timeout": "1s", "idle_timeout": "2s"}, **changes}
        services = [{"name": name, "vips": ["198.51.100.10"], "protocol": protocol, "ports": [80], "pool": name}
                    for name, protocol in (("web", "tcp"), ("dns", "udp"))]
        pools = [{"name": name, "slots": 251, "backends": [{"name": "b1", "address": address}]}
                 for name, address in (("web", "10.1.0.11"), ("dns", "10.1.0.12"))]
        (self.place / "sluice.yaml").write_text(
            json.dumps({"version": 1, "services": services, "pools": pools, "api": api}), encoding="utf-8")

    def token(self, name: str, role: str, *options: str) -> None:
        """Makes one and adds it to the file; a reload, or the start, lets it in."""
        code, said = self._run("token", "create", "--name", name, "--role", role, "--file",
                               str(self.place / "tokens"), *options, server=False)
        self.assertEqual(code, 0, said)
        self.tokens[name] = next(line for line in said.splitlines() if line.startswith("sluice_"))

    def _run(self, *arguments: str, server: bool = True, token: str = "",
             environment: dict[str, str] | None = None) -> tuple[int, str]:
        where = ["--server", f"https://127.0.0.1:{PORT}", "--ca", self.certificates.authority] if server else []
        if token:
            (self.place / "token").write_text(token + "\n", encoding="ascii")
            where += ["--token-file", str(self.place / "token")]
        argv = enter(self.netns, [str(harness.build() / "tools/sluicectl/sluicectl"), *where, *arguments])
        done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
                              env={**os.environ, **(environment or {})})
        return done.returncode, done.stdout

    def curl(self, path: str, *options: str, token: str = "", host: str = "127.0.0.1") -> tuple[int, str]:
        """The status, and the whole answer with its header; 0 when there is none."""
        if token:
            options = (*options, "-H", f"Authorization: Bearer {self.tokens.get(token, token)}")
        argv = enter(self.netns, ["curl", "--silent", "--show-error", "--include", "--globoff", "--path-as-is", "--max-time", "20",
                                  "--cacert", self.certificates.authority, *options, f"https://{host}:{PORT}{path}"])
        done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        found = _HTTP_STATUS.search(done.stdout)
        return int(found.group(1)) if found else 0, done.stdout

    def status_of(self, path: str, *options: str, token: str = "", host: str = "127.0.0.1") -> int:
        return self.curl(path, *options, token=token, host=host)[0]

    def shown(self, name: str) -> tuple[str, ...]:
        """curl's options that show this certificate."""
        return "--cert", self.certificates.certificate(name), "--key", self.certificates.key(name)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        with inside(self.netns):
            client = socket.socket()
        client.settimeout(20)
        client.bind((source, 0))
        client.connect(("127.0.0.1", PORT))
        return client

    def tls(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.certificates.authority)
        return context.wrap_socket(self.connect(), server_hostname="127.0.0.1")

    def exchange(self, request: bytes) -> bytes:
        """What comes until the server closes."""
        answer = b""
        with self.tls() as client:
            client.sendall(request)
            try:
                while part := client.recv(65536):
                    answer += part
            except (ssl.SSLError, ConnectionError):
                pass
        return answer

    def audit(self, name: str = "audit.log") -> list[dict]:
        return [json.loads(line) for line in (self.place / "state" / name).read_text(encoding="utf-8").splitlines()]

    def assert_secret_tokens(self) -> None:
        """No token is in any file of sluiced's but the ones that have it by their nature."""
        for path in [*(self.place / "state").rglob("*"), self.place / "tokens", self.place / "sluiced.log"]:
            if not path.is_file():
                continue
            text = path.read_bytes()
            for token in self.tokens.values():
                self.assertNotIn(token.encode(), text, path)


class ApiIdentities(Api):
    def test_token_and_certificate_get_their_rights_and_no_more(self) -> None:
        for host in ("127.0.0.1", "[::1]"):
            self.assertEqual(self.status_of("/v1/backends", token="viewer", host=host), 200)
            self.assertEqual(self.status_of("/v1/backends", *self.shown("client"), host=host), 200)
        status, said = self.curl("/v1/backends", host="[::1]")
        self.assertEqual(status, 401)
        self.assertIn('WWW-Authenticate: Bearer realm="sluice"', said)
        # A viewer's token that somebody has stolen.
        for method, path in (("POST", "/v1/backends/web/b1/drain"), ("DELETE", "/v1/backends/web/b1/maintenance"),
                             ("PUT", "/v1/pools/web/registrations/b9"), ("POST", "/v1/reload"),
                             ("POST", "/v1/check-config")):
            status, said = self.curl(path, "-X", method, "-d", "{}", token="viewer")
            self.assertEqual(status, 403, said)
            self.assertRegex(said, r"this needs the role (operator|admin); viewer has the role viewer")
        self.assertEqual(self.backends_of("web")["state"], "up")
        # A scoped operator.
        self.assertEqual(self.status_of("/v1/backends/web/b1/drain", "-d", "", token="dns"), 403)
        self.assertEqual(self.status_of("/v1/backends/web/b1/drain", "-d", "", *self.shown("client")), 200)
        self.assertIn(self.backends_of("web")["state"], ("draining", "drained"))
        self.assertEqual(self.status_of("/v1/backends/dns/b1/drain", "-d", "", token="web"), 403)
        self.assertEqual(self.status_of("/v1/reload", "-d", "", token="web"), 403)
        listed = json.loads(self.curl("/v1/backends", token="dns")[1].splitlines()[-1])["backends"]
        self.assertEqual([one["pool"] for one in listed], ["dns"])
        self.assertEqual(self.status_of("/v1/reload", "-d", "", token="admin"), 200)
        change = self.audit()[0]
        self.assertEqual((change["identity"], change["method"], change["role"]),
                         ("checker.example", "certificate", "operator"))
        self.assertEqual((change["old"]["state"], change["new"]["state"]), ("up", "draining"))
        self.assertRegex(change["from"], r"127\.0\.0\.1:\d+")
        self.assertEqual(len(self.audit()), 2)
        self.assert_secret_tokens()

    def backends_of(self, pool: str) -> dict:
        code, said = self.ctl("-o", "json", "backends", "--pool", pool)
        self.assertEqual(code, 0, said)
        return json.loads(said)["backends"][0]

    def test_bad_certificates_and_old_versions_do_not_get_through_the_handshake(self) -> None:
        for name in ("expired", "client_of_stranger", "of_stranger"):
            status, said = self.curl("/v1/status", *self.shown(name), token="admin")
            self.assertEqual(status, 0, said)
            self.assertIn("curl: (", said)
        # Signed by the authority, and of nobody that the configuration names.
        self.assertEqual(self.status_of("/v1/status", *self.shown("other_name")), 403)
        for option in ("--tls-max 1.1 --tlsv1.1", "--tls-max 1.0 --tlsv1.0"):
            status, said = self.curl("/v1/status", *option.split(), "--ciphers", "DEFAULT@SECLEVEL=0", token="admin")
            self.assertEqual(status, 0, said)
            self.assertIn("alert protocol version", said)
        self.assertEqual(self.status_of("/v1/status", "--tls-max", "1.2", token="admin"), 200)
        details = " ".join(line["detail"] for line in self.audit("audit-refused.log"))
        self.assertIn("certificate has expired", details)
        self.assertIn("unable to get local issuer certificate", details)

    def test_expired_and_revoked_tokens_are_refused(self) -> None:
        old = self.tokens["viewer"]
        tokens = self.place / "tokens"
        text = tokens.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        tokens.write_text(re.sub(r'expires: "\d{4}', 'expires: "2020', lines[0]) + "".join(lines[2:]), encoding="utf-8")
        self.assertEqual(self.ctl("reload")[0], 0)
        status, said = self.curl("/v1/status", token=old)
        self.assertEqual(status, 401)
        self.assertIn("has expired on 2020", said)
        self.assertIn('error="invalid_token"', said)
        self.assertEqual(self.status_of("/v1/status", token="web"), 401)
        self.assertEqual(self.status_of("/v1/status", token="dns"), 200)

    def test_a_reload_takes_new_files_and_refuses_bad_ones_whole(self) -> None:
        serial = self._served_name()
        self.configure_api(certificate=self.certificates.certificate("client"), key=self.certificates.key("client"))
        self.assertEqual(self.ctl("reload")[0], 0)
        self.assertEqual((serial, self._served_name()), ("good", "client"))
        for field, value, why in (("certificate", str(self.place / "gone.pem"), "No such file"),
                                  ("certificate", str(self.place / "tokens"), "no start line"),
                                  ("key", self.certificates.key("other_name"), "key values mismatch"),
                                  ("client_ca", str(self.place), "no regular file"),
                                  ("tokens_file", str(self.place / "sluice.yaml"), "list"),
                                  ("listen", ["192.0.2.1:8443"], "192.0.2.1:8443: Cannot assign requested address")):
            self.configure_api(**{field: value})
            code, said = self.ctl("reload")
            self.assertEqual(code, 5, said)
            self.assertIn(f"api.{field}: ", said)
            self.assertIn(why, said)
            self.assertEqual(self._served_name(), "client")
            self.assertEqual(self.status_of("/v1/status", "--insecure", token="viewer"), 200)
        self.configure_api(listen=[f"[::1]:{PORT}"])
        self.assertEqual(self.ctl("reload")[0], 0)
        self.assertEqual(self.status_of("/v1/status", token="viewer", host="[::1]"), 200)
        self.assertEqual(self.status_of("/v1/status", token="viewer"), 0)

    def test_a_start_with_bad_files_fails_and_names_field_and_file(self) -> None:
        self.stop_sluiced()
        self.configure_api(key=str(self.place / "gone.key"))
        program = harness.build() / "controlplane/sluiced/sluiced"
        done = subprocess.run(enter(self.netns, [
            str(program), "--config", str(self.place / "sluice.yaml"), "--dataplane-socket", str(self.place / "dataplane.sock"),
            "--api-socket", str(self.place / "api.sock"), "--state-dir", str(self.place / "state")]),
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"api.key: {self.place}/gone.key: No such file or directory", done.stdout)

    def _served_name(self) -> str:
        """The CN of the certificate that the API shows."""
        with inside(self.netns):
            client = socket.create_connection(("127.0.0.1", PORT), 10)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificates.authority)
        with context.wrap_socket(client) as tls:
            return dict(pair[0] for pair in tls.getpeercert()["subject"])["commonName"]

    def test_sluicectl_by_https(self) -> None:
        self.assertEqual(self._run("backends", token=self.tokens["viewer"])[0], 0)
        code, said = self._run("drain", "web/b1", token=self.tokens["viewer"])
        self.assertEqual(code, 1)
        self.assertIn("this needs the role operator; viewer has the role viewer", said)
        self.assertEqual(self._run("drain", "web/b1", token=self.tokens["web"])[0], 0)
        self.assertEqual(self._run("services", "nope", token=self.tokens["admin"])[0], 3)
        self.assertEqual(self._run("backends")[0], 1)  # 401
        shown = ("--certificate", self.certificates.certificate("client"), "--key", self.certificates.key("client"))
        self.assertEqual(self._run("undrain", "web/b1", *shown)[0], 0)
        environment = {"SLUICE_SERVER": f"https://[::1]:{PORT}/", "SLUICE_CA": self.certificates.authority,
                       "SLUICE_TOKEN_FILE": str(self.place / "token")}
        self.assertEqual(self._run("status", server=False, environment=environment)[0], 0)
        self.assertEqual(self._run("status", "--server", "https://127.0.0.1:1", server=False)[0], 4)
        self.assertEqual(self._run("status", "--server", f"https://127.0.0.1:{PORT}", server=False)[0], 4)  # no --ca
        self.assertEqual(self._run("status", "--server", "http://127.0.0.1:1", server=False)[0], 2)
        self.assertEqual(self._run("status", "--token-file", str(self.place / "gone"))[0], 2)

    def test_unix_socket_gives_roles_by_user_and_group(self) -> None:
        self.configure_api(socket={"group": "12000", "mode": "0660"},
                           local=[{"user": "11001", "role": "viewer"}, {"group": "12001", "role": "operator"}])
        self.assertEqual(self.ctl("reload")[0], 0)
        api_socket = self.place / "api.sock"
        self.assertEqual((api_socket.stat().st_gid, api_socket.stat().st_mode & 0o777), (12000, 0o660))

        for parent in (self.place, *self.place.parents):
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)

        def ask(uid: int, groups: list[int], *arguments: str) -> tuple[int, str]:
            argv = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--groups", ",".join(map(str, groups)),
                    "curl", "--silent", "--include", "--unix-socket", str(api_socket), *arguments]
            said = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
            found = _HTTP_STATUS.search(said)
            return int(found.group(1)) if found else 0, said

        drain = ("-d", "", "http://sluiced/v1/backends/web/b1/drain")
        status = "http://sluiced/v1/status"
        self.assertEqual(ask(11001, [12000], status)[0], 200)
        self.assertEqual(ask(11001, [12000], *drain)[0], 403)
        self.assertEqual(ask(11002, [12000], status)[0], 403)  # of the socket's group, and in no list
        self.assertEqual(ask(11002, [12000, 12001], *drain)[0], 200)
        self.assertEqual(ask(11002, [12001], status)[0], 0)  # may not open it
        self.assertEqual(self.ctl("undrain", "web/b1")[0], 0)  # root
        self.assertEqual([line["identity"] for line in self.audit()], ["uid 0", "uid 11002", "uid 0"])
        self.assertRegex(self.audit()[1]["from"], r"uid 11002 pid \d+")


    def test_reload_ends_connections_of_before(self) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.place / "api.sock"))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 200 "))
            self.assertEqual(self.ctl("reload")[0], 0)
            self.assertEqual(client.recv(65536), b"")


class ApiChanges(Api):
    def test_versions_and_keys_keep_changes_from_being_lost_or_made_twice(self) -> None:
        path = "/v1/backends/web/b1"
        tag = self._tag(self.curl("/v1/backends?pool=web", token="web")[1])
        key = ("-H", "Idempotency-Key: one")
        status, first = self.curl(f"{path}/drain", "-d", "", "-H", f"If-Match: {tag}", *key, token="web")
        self.assertEqual(status, 200, first)
        self.assertEqual(self.status_of(f"{path}/undrain", "-d", "", "-H", f"If-Match: {tag}", token="web"), 412)
        status, again = self.curl(f"{path}/drain", "-d", "", "-H", f"If-Match: {tag}", *key, token="web")
        self.assertEqual(status, 200)
        self.assertIn("Idempotency-Replayed: true", again)
        self.assertEqual(self._tag(first), self._tag(again))
        self.assertEqual(self.status_of(f"{path}/undrain", "-d", "", *key, token="web"), 422)
        now = self._tag(self.curl("/v1/backends?pool=web", token="web")[1])
        self.assertNotEqual(now, tag)
        self.assertEqual(self.status_of(f"{path}/undrain", "-d", "", "-H", f"If-Match: {now}", token="web"), 200)
        self.stop_sluiced()
        self.start_sluiced()
        self.assertEqual(self.status_of(f"{path}/drain", "-d", "", "-H", f"If-Match: {now}", token="web"), 412)
        self.assertEqual([line["outcome"] for line in self.audit()], ["applied", "applied"])
        self.assertEqual([line["outcome"] for line in self.audit("audit-refused.log")], ["refused", "refused"])

    def _tag(self, said: str) -> str:
        found = re.search(r"ETag: (\S+)", said)
        self.assertIsNotNone(found, said)
        return found.group(1)

    def test_backends_come_in_pages(self) -> None:
        first = json.loads(self.curl("/v1/backends?limit=1", token="viewer")[1].splitlines()[-1])
        cursor = urllib.parse.quote(first["next_cursor"], safe="")
        second = json.loads(self.curl(f"/v1/backends?limit=1&cursor={cursor}", token="viewer")[1].splitlines()[-1])
        self.assertEqual([one["backends"][0]["pool"] for one in (first, second)], ["dns", "web"])
        self.assertNotIn("next_cursor", second)

    def test_health_and_readiness_are_open(self) -> None:
        self.assertEqual(self.status_of("/healthz"), 200)
        self.assertEqual(self.status_of("/readyz"), 200)
        self.assertEqual(self.status_of("/v1/readyz"), 401)
        self.assertEqual(self.status_of("/healthz", "-d", ""), 401)  # no such route for strangers


class ApiHostileClients(Api):
    def test_malformed_and_oversized_requests_are_refused_with_the_right_status(self) -> None:
        bearer = f"Authorization: Bearer {self.tokens['admin']}\r\n".encode()
        cases = ((b"hello\r\n\r\n", 400),
                 (b"GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n", 400),
                 (b"GET /v1/status HTTP/1.1\r\n" + bearer + bearer + b"\r\n", 400),
                 (b"GET /v1/status HTTP/1.1\r\n" + bearer + b"X: a\r\n folded: b\x00\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
                 (b"GET /v1/status HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Origin: https://evil.example\r\nContent-Length: 0\r\n\r\n", 400),
                 (b"POST /v1/reload HTTP/1.1\r\n" + bearer + b"Content-Length: 5000\r\n\r\n", 413),
                 (b"POST /v1/check-config HTTP/1.1\r\n" + bearer + b"Content-Length: 99999999\r\n\r\n", 413),
                 (b"POST /v1/check-config HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000, 401),
                 (b"GET /v1/status HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
                 (b"GET /v1/../../etc/passwd HTTP/1.1\r\n" + bearer + b"Connection: close\r\n\r\n", 404),
                 (b"GET /v1/services/..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + bearer + b"Connection: close\r\n\r\n", 404),
                 (b"GET http://evil/v1/status HTTP/1.1\r\n" + bearer + b"Connection: close\r\n\r\n", 400))
        for request, status in cases:
            answer = self.exchange(request)
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status} ".encode()), (request[:200], answer))
            self.assertIn(b"application/problem+json", answer)
        self.assertEqual(self.status_of("/v1/status", token="admin"), 200)

    def test_nothing_of_a_request_becomes_a_header_or_a_line(self) -> None:
        path = "/v1/backends/web/b1%0d%0aX-Evil:%201%0a%7b%22event%22:%22change%22%7d/drain?deadline=5"
        status, said = self.curl(path, "-d", "", "-H", "If-Match: \"a\"", token="web")
        self.assertEqual(status, 412)
        self.assertNotIn("\nX-Evil", said)
        self.assertEqual(self.status_of(path, "-d", "", token="dns"), 403)
        self.assertEqual(self.audit(), [])
        refused = self.audit("audit-refused.log")
        self.assertEqual(len(refused), 2)
        self.assertIn("b1%0d%0aX-Evil", refused[0]["request"]["path"])
        self.assertEqual(self.status_of(f"/v1/{self.tokens['web']}", "-d", "", token="wrong"), 401)
        self.assertEqual(self.audit("audit-refused.log")[-1]["request"]["path"], "/v1/[token]")
        self.assert_secret_tokens()

    def test_guesses_are_counted_and_end_in_429(self) -> None:
        codes = [self.status_of("/v1/status", token=f"guess{i}") for i in range(25)]
        self.assertEqual(codes[:20], [401] * 20)
        self.assertEqual(codes[-1], 429)
        self.assertIn("Retry-After: ", self.curl("/v1/status", token="guess")[1])
        self.assertEqual(self.status_of("/v1/status", token="viewer"), 200)

    def test_slow_clients_are_cut_off_and_others_are_served_meanwhile(self) -> None:
        silent, header, body, idle = self.connect(), self.tls(), self.tls(), self.tls()
        bearer = f"Authorization: Bearer {self.tokens['admin']}\r\n".encode()
        body.sendall(b"POST /v1/check-config HTTP/1.1\r\n" + bearer + b"Content-Length: 1000\r\n\r\nversion")
        idle.sendall(b"GET /v1/status HTTP/1.1\r\n" + bearer + b"\r\n")
        deadline = time.monotonic() + 20
        served = 0
        with silent, header, body, idle:
            waiting = {"silent": silent, "header": header, "body": body, "idle": idle}
            header.sendall(b"GET /v1/status HTTP/1.1\r\n")
            while waiting and time.monotonic() < deadline:
                served += self.status_of("/v1/status", token="viewer") == 200
                for name, client in list(waiting.items()):
                    if self._has_ended(client):
                        del waiting[name]
                if "header" in waiting:
                    self._drip(header)  # a byte at a time does not win time
            self.assertEqual(waiting, {})
        self.assertGreater(served, 2)

    def _has_ended(self, client: socket.socket) -> bool:
        client.settimeout(0.05)
        try:
            return client.recv(65536) == b""
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    def _drip(self, client: socket.socket) -> None:
        try:
            client.sendall(b"X")
        except OSError:
            pass  # its end is seen by who reads

    def test_ten_thousand_idle_connections_keep_nobody_out(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * _FLOOD), hard))
        self.configure_api(limits={"connections": 200, "header_timeout": "10m"})
        self.assertEqual(self.ctl("reload")[0], 0)
        bearer = f"Authorization: Bearer {self.tokens['admin']}\r\n".encode()
        known = self.tls()
        self._asks(known, bearer)
        at_rest = self._descriptors()
        held: list[socket.socket] = []
        most = 0
        try:
            # Of 500 addresses, and then all of one: the limit of all, and that of an address.
            for i in range(_FLOOD):
                held.append(self.connect(f"127.1.{i % 500 // 250}.{i % 250 + 1}" if i < _FLOOD // 2 else "127.0.0.9"))
                if i % 500 == 0:
                    most = max(most, self._descriptors())
                    self.assertEqual(self.status_of("/v1/backends", token="viewer"), 200, i)
                    self.assertEqual(self.ctl("status")[0], 0)
                    self._asks(known, bearer)
            self.assertLessEqual(most, at_rest + 210)
            self.assertEqual(self.status_of("/v1/backends/web/b1/drain", "-d", "", token="web"), 200)
        finally:
            for client in (*held, known):
                client.close()
        self.wait(lambda: self._descriptors() <= at_rest, "the end of the connections")

    def _asks(self, client: ssl.SSLSocket, bearer: bytes) -> None:
        """A request on a connection that there is."""
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\nGET /v1/services HTTP/1.1\r\n" + bearer + b"\r\n")
        said = b""
        while b'"services"' not in said:
            part = client.recv(65536)
            self.assertNotEqual(part, b"", said)
            said += part

    def _descriptors(self) -> int:
        assert self._sluiced is not None
        return len(list(pathlib.Path(f"/proc/{self._sluiced.pid}/fd").iterdir()))

    def test_many_clients_at_once_get_their_own_answers(self) -> None:
        def ask(number: int) -> bool:
            token = ("viewer", "web", "dns")[number % 3]
            said = self.curl("/v1/services", token=token, host=LOOPBACKS[0])[1]
            names = set(re.findall(r'"name":"(\w+)"', said))
            return names == ({"web", "dns"} if token == "viewer" else {token})

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(ask, range(60))), [True] * 60)
