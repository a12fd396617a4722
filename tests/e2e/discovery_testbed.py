"""What the tests of discovery share: sluiced with a dataplane that forwards nothing, in a namespace of its own, and the
servers that it learns backends from: unbound, etcd, and one that speaks Consul's HTTP API."""

import base64
import contextlib
import http.server
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence

import harness
from health_servers import Certificates
from health_testbed import LOOPBACKS, HealthChecks
from testbed import processes
from testbed.commands import enter, inside, need_command, run

DNS = 53
ETCD, ETCD_PEER = 2379, 2380
CONSUL = 8500
_START_TIMEOUT_S = 30
_WAIT_S = 20


class Discovery(HealthChecks):
    """Each test has a directory and a sluiced of its own."""

    place: pathlib.Path
    _sluiced: processes.ProcessRecord | None
    _started: list[processes.ProcessRecord]

    def setUp(self) -> None:
        self.place = pathlib.Path(tempfile.mkdtemp(dir=self.directory))  # paths of sockets must be short
        self._sluiced = None
        self._started = []
        self._start("dataplane", [str(harness.build() / "tests/controlplane/sluiced/packetless_dataplane"),
                                  str(self.place)])
        self.wait(lambda: (self.place / "dataplane.sock").exists(), "start of the dataplane")

    def tearDown(self) -> None:
        fell = self._sluiced is not None and not processes.is_alive(self._sluiced)
        for record in reversed(self._started):
            processes.stop(record)
        if fell:
            self.fail(f"sluiced does not run any more:\n{processes.log_tail(self.place / 'sluiced.log')}")

    def configure(self, discovery: Mapping[str, object], **pool: object) -> None:
        """One pool, `web`, with this source; what it waits for is short."""
        web = {"name": "web", "discovery": {"lost_hold": "500ms", "max_backoff": "200ms", **discovery}, **pool}
        if discovery["type"] == "registration":
            del web["discovery"]["max_backoff"]
        services = [{"name": "web", "vips": ["198.51.100.10"], "protocol": "tcp", "ports": [80], "pool": "web"}]
        (self.place / "sluice.yaml").write_text(json.dumps({"version": 1, "services": services, "pools": [web]}),
                                                encoding="utf-8")

    def start_sluiced(self, discovery: Mapping[str, object] | None = None, **pool: object) -> None:
        if discovery is not None:
            self.configure(discovery, **pool)
        self._sluiced = self._start("sluiced", [
            str(harness.build() / "controlplane/sluiced/sluiced"), "--config", str(self.place / "sluice.yaml"),
            "--dataplane-socket", str(self.place / "dataplane.sock"), "--api-socket", str(self.place / "api.sock"),
            "--state-dir", str(self.place / "state")])
        self.wait(lambda: self.ctl("status")[0] == 0, "start of sluiced")

    def stop_sluiced(self) -> None:
        assert self._sluiced is not None
        processes.stop(self._sluiced)
        self._sluiced = None

    def restart_sluiced(self) -> None:
        self.stop_sluiced()
        self.start_sluiced()

    def ctl(self, *arguments: str) -> tuple[int, str]:
        """The exit code of sluicectl, and what it printed."""
        program = harness.build() / "tools/sluicectl/sluicectl"
        done = subprocess.run([str(program), "--socket", str(self.place / "api.sock"), *arguments], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        return done.returncode, done.stdout

    def backends(self) -> dict[str, dict]:
        """Those of the pool that are not removed, by name."""
        code, said = self.ctl("-o", "json", "backends")
        self.assertEqual(code, 0, said)
        return {one["name"]: one for one in json.loads(said)["backends"] if one["state"] != "removed"}

    def wait_for(self, *names: str) -> dict[str, dict]:
        """Until the pool has these backends and no others."""
        self.wait(lambda: set(self.backends()) == set(names), f"backends {names}")
        return self.backends()

    def wait_for_text(self, pattern: str) -> str:
        """Until `sluicectl discovery` says that."""
        self.wait(lambda: re.search(pattern, self.ctl("discovery")[1]) is not None, f'"{pattern}" in sluicectl discovery')
        return self.ctl("discovery")[1]

    def wait(self, condition: object, what: str) -> None:
        assert callable(condition)
        deadline = time.monotonic() + _WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                log = processes.log_tail(self.place / "sluiced.log")
                self.fail(f"{what}: not within {_WAIT_S} s; {self.ctl('discovery')[1]}\n{log}")
            time.sleep(0.05)

    def stop(self, record: processes.ProcessRecord) -> None:
        processes.stop(record)

    def _start(self, name: str, argv: Sequence[str]) -> processes.ProcessRecord:
        record = processes.start(argv, netns=self.netns, record_path=self.place / f"{name}.process",
                                 log=self.place / f"{name}.log")
        self._started.append(record)
        return record

    def start_server(self, name: str, argv: Sequence[str], port: int) -> processes.ProcessRecord:
        """Returns when it accepts TCP connections on that port of 127.0.0.1."""
        record = self._start(name, argv)
        log = self.place / f"{name}.log"
        processes.wait_until(lambda: not processes.is_alive(record) or self._accepts(port), _START_TIMEOUT_S,
                             f"start of {name} (log: {log})")
        if not processes.is_alive(record):
            raise processes.TestbedError(f"{name} ended at its start:\n{processes.log_tail(log)}")
        return record

    def _accepts(self, port: int) -> bool:
        with inside(self.netns), socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    def start_unbound(self, *records: str, more: str = "") -> processes.ProcessRecord:
        """With these records of example., as "web.example. 60 IN A 10.1.0.11"."""
        interfaces = "\n".join(f"  interface: {address}" for address in LOOPBACKS)
        data = "\n".join(f"  local-data: '{record}'" for record in records)
        configuration = self.place / "unbound.conf"
        configuration.write_text(f"""\
server:
{interfaces}
  port: {DNS}
  username: ""
  chroot: ""
  directory: "{self.place}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  module-config: "iterator"
  access-control: ::1/128 allow
  local-zone: "example." static
{more}
{data}
remote-control:
  control-enable: no
""", encoding="utf-8")
        return self.start_server("unbound", [need_command("unbound"), "-d", "-c", str(configuration)], DNS)

    def start_etcd(self, certificates: Certificates | None = None) -> processes.ProcessRecord:
        scheme = "http" if certificates is None else "https"
        urls = ",".join(f"{scheme}://{'[::1]' if ':' in one else one}:{ETCD}" for one in LOOPBACKS)
        argv = [need_command("etcd"), "--data-dir", str(self.place / "etcd"), "--listen-client-urls", urls,
                "--advertise-client-urls", urls, "--listen-peer-urls", f"http://127.0.0.1:{ETCD_PEER}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{ETCD_PEER}", "--initial-cluster",
                f"default=http://127.0.0.1:{ETCD_PEER}", "--logger", "zap"]
        if certificates is not None:
            argv += ["--cert-file", certificates.certificate("good"), "--key-file", certificates.key("good"),
                     "--trusted-ca-file", certificates.authority, "--client-cert-auth"]
        return self.start_server("etcd", argv, ETCD)

    def etcd(self, path: str, body: dict, *options: str, url: str = f"http://127.0.0.1:{ETCD}") -> dict:
        """What etcd answers to a request of ours, not of sluiced."""
        said = run(enter(self.netns, ["curl", "--silent", "--show-error", "--max-time", "10", "--retry", "20",
                                      "--retry-connrefused", "--retry-delay", "1", *options, "-d", json.dumps(body),
                                      url + path]))
        return json.loads(said)

    def etcd_put(self, name: str, value: object, *options: str, lease: str = "0",
                 url: str = f"http://127.0.0.1:{ETCD}") -> int:
        """Puts a backend, or a text, under /web/; returns the revision."""
        text = value if isinstance(value, str) else json.dumps(value)
        answer = self.etcd("/v3/kv/put", {"key": encode(f"/web/{name}"), "value": encode(text), "lease": lease},
                           *options, url=url)
        return int(answer["header"]["revision"])


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class ConsulServer:
    """GET /v1/health/service/NAME as Consul documents it (developer.hashicorp.com/consul/api-docs/features/blocking
    and .../api-docs/health): `index` waits for a higher one, for `wait` at most and a sixteenth more; a token that is
    not the right one is refused with 403. Not Consul itself, which Debian 12 does not have."""

    def __init__(self, netns: str, token: str = ""):
        self.token = token
        self.queries: list[dict[str, str]] = []
        self._instances: list[dict] = []
        self._index = 10
        self._changed = threading.Condition()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # pylint: disable=invalid-name
                owner.answer(self)

            def log_message(self, *_: object) -> None:  # pylint: disable=arguments-differ
                pass

        with inside(netns):
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", CONSUL), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self.token = "nobody's"  # who waits is sent away
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def set(self, *instances: dict, index: int | None = None) -> None:
        """The passing instances from now on; `index`: as after a restore, when it may be lower."""
        with self._changed:
            self._instances = list(instances)
            self._index = self._index + 1 if index is None else index
            self._changed.notify_all()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        given = handler.headers.get("X-Consul-Token", "")
        with self._changed:
            self.queries.append({"path": url.path, "token": given, **query})
            wait_ms = float(query.get("wait", "300000ms").removesuffix("ms"))
            asked = int(query.get("index", "0"))
            # An index above the own one is from before a restore: it is answered at once.
            if asked:
                self._changed.wait_for(lambda: self._index != asked or self.token not in ("", given),
                                       wait_ms / 1000 * 17 / 16)
            status, instances, index = 200, self._instances, self._index
            if self.token and given != self.token:
                status = 403
        body = json.dumps(instances).encode() if status == 200 else b"Permission denied"
        with contextlib.suppress(OSError):  # who asked has gone
            handler.send_response(status)
            handler.send_header("X-Consul-Index", str(index))
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)


def instance(identifier: str, address: str, weight: int = 1, port: int = 80, node: str = "10.9.9.9") -> dict:
    """One of Consul's; without an address of its own it has the node's."""
    return {"Node": {"Node": f"node-of-{identifier}", "Address": node},
            "Service": {"ID": identifier, "Service": "web", "Address": address, "Port": port,
                        "Weights": {"Passing": weight, "Warning": 1}},
            "Checks": [{"Status": "passing"}]}
