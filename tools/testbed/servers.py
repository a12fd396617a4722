"""What runs in a backend: a real nginx, and echo_server.py for UDP and for uploads."""

import pathlib
import shutil
import signal
import sys

from testbed import processes, topology
from testbed.commands import need_command

_HERE = pathlib.Path(__file__).resolve().parent
_START_TIMEOUT_S = 20

# {listen}: one line per address and port. /big?rate=10m and /slow?rate=2k say how fast they come.
_NGINX_CONFIGURATION = """\
user www-data;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    keepalive_timeout 3600s;
    keepalive_requests 100000000;
    client_body_temp_path {directory}/temp/body;
    proxy_temp_path {directory}/temp/proxy;
    fastcgi_temp_path {directory}/temp/fastcgi;
    uwsgi_temp_path {directory}/temp/uwsgi;
    scgi_temp_path {directory}/temp/scgi;
    server {{
{listen}
        add_header X-Backend {name} always;
        location = / {{ return 200 "{name}\\n"; }}
        location = /healthz {{ return 200 "ok\\n"; }}
        location = /big {{ root {www}; set $limit_rate $arg_rate; }}
        location = /slow {{ alias {www}/small; set $limit_rate $arg_rate; }}
    }}
}}
"""


class BackendServers:
    """The servers of one backend, with their files in a directory of their own."""

    def __init__(self, backend: topology.Backend, netns: str, directory: pathlib.Path, www: pathlib.Path):
        self._backend = backend
        self._netns = netns
        self._directory = directory
        self._www = www
        self._nginx_record = directory / "nginx.process"
        self._echo_record = directory / "echo.process"

    def start(self) -> None:
        """Starts both; returns when they accept connections."""
        shutil.rmtree(self._directory, ignore_errors=True)
        (self._directory / "temp").mkdir(parents=True)
        self.start_nginx()
        self._start_echo()

    def start_nginx(self) -> None:
        """Starts nginx; returns when it listens."""
        pid_file = self._directory / "nginx.pid"
        pid_file.unlink(missing_ok=True)
        configuration = self._directory / "nginx.conf"
        configuration.write_text(self._nginx_configuration(), encoding="utf-8")
        log = self._directory / "nginx.log"
        record = processes.start(
            [need_command("nginx"), "-e", str(log), "-c", str(configuration), "-g", "daemon off;"],
            netns=self._netns, record_path=self._nginx_record, log=log)
        # nginx writes its pid after it has bound its addresses.
        self._wait_for_file(pid_file, record, log)

    def kill_nginx(self) -> None:
        """SIGKILL to master and worker: the kernel then answers for the port with RST."""
        record = processes.read_record(self._nginx_record)
        if record is not None:
            processes.kill_group(record)

    def nginx_is_alive(self) -> bool:
        record = processes.read_record(self._nginx_record)
        return record is not None and processes.is_alive(record)

    def stop(self) -> None:
        """Ends both, their connections with them."""
        self.kill_nginx()
        record = processes.read_record(self._echo_record)
        if record is not None and processes.is_alive(record):
            processes.send_signal(record, signal.SIGTERM)
            processes.kill_group(record)

    def _start_echo(self) -> None:
        ready = self._directory / "echo.ready"
        log = self._directory / "echo.log"
        record = processes.start(
            [sys.executable, str(_HERE / "echo_server.py"), "--name", self._backend.name,
             "--address", topology.VIP_IPV4, "--address", topology.VIP_IPV6,
             "--udp-port", str(topology.UDP_ECHO_PORT), "--tcp-port", str(topology.TCP_DIGEST_PORT),
             "--ready-file", str(ready)],
            netns=self._netns, record_path=self._echo_record, log=log)
        self._wait_for_file(ready, record, log)

    def _wait_for_file(self, path: pathlib.Path, record: processes.ProcessRecord, log: pathlib.Path) -> None:
        processes.wait_until(lambda: path.exists() or not processes.is_alive(record), _START_TIMEOUT_S,
                             f"start of the servers of {self._backend.name} (log: {log})")
        if not path.exists():
            raise processes.TestbedError(
                f"a server of {self._backend.name} ended at its start:\n{processes.log_tail(log)}")

    def _nginx_configuration(self) -> str:
        addresses = (topology.VIP_IPV4, f"[{topology.VIP_IPV6}]", self._backend.ipv4,
                     f"[{self._backend.ipv6}]")
        ports = (topology.HTTP_PORT, topology.HTTP_LEAST_CONNECTION_PORT)
        listen = "\n".join(f"        listen {address}:{port} backlog=4096;"
                           for address in addresses for port in ports)
        return _NGINX_CONFIGURATION.format(directory=self._directory, listen=listen,
                                           name=self._backend.name, www=self._www)
