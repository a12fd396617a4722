"""The two daemons in the balancer's namespace, and sluicectl to talk to them."""

import dataclasses
import json
import pathlib
import re
import signal
import subprocess
from collections.abc import Sequence

from testbed import dataplane_client, processes, topology
from testbed.affinity import ALL_CPUS
from testbed.builder import Testbed
from testbed.commands import enter, run
from testbed.configuration import POOL, Extras, Member, configuration
from testbed.errors import TestbedError
from testbed.network import CHECK_INTERFACES, balancer_interface

PORT_NAMES = ("front", "back")  # by segment
_CHOICE = re.compile(r"info: engine (\w+: .*)")
_XDP_MODES = {1: "native", 2: "generic"}  # XDP_ATTACHED_DRV, XDP_ATTACHED_SKB of linux/if_link.h
_START_TIMEOUT_S = 60
_HEALTH_TIMEOUT_S = 30
_COMMAND_TIMEOUT_S = 30


@dataclasses.dataclass(frozen=True)
class DataplaneOptions:
    """How sluice-dataplane gets the balancer's interfaces, and what moves packets."""

    engine: str = "dpdk"  # dpdk, xdp, auto
    device: str = "interface"  # interface, or af_packet for DPDK alone
    workers: int = 1  # of DPDK
    huge_pages: str = "off"  # on, off; of DPDK
    xdp_mode: str = "auto"  # native, generic, auto
    check_port: bool = False  # the port of Network.add_check_path()


def _dpdk_arguments(options: DataplaneOptions) -> list[str]:
    return ["--workers", str(options.workers), "--idle", "sleep", "--huge-pages", options.huge_pages]


def _xdp_arguments(options: DataplaneOptions) -> list[str]:
    return ["--xdp-mode", options.xdp_mode]


# `auto` gets nothing that would make the choice for it.
_OF_ENGINE = {"dpdk": _dpdk_arguments, "xdp": _xdp_arguments, "auto": lambda _: ["--idle", "sleep"]}


@dataclasses.dataclass(frozen=True)
class CommandResult:
    status: int
    output: str
    errors: str


class Appliance:
    """One balancer on a testbed that is up. Its processes end with the testbed at the latest."""

    def __init__(self, testbed: Testbed, build: pathlib.Path):
        self.testbed = testbed
        self.directory = testbed.directory / "sluice"
        self.config_path = self.directory / "sluice.yaml"
        self.control_socket = self.directory / "dataplane.sock"
        self.api_socket = self.directory / "sluiced.sock"
        self.bpf_directory = self.directory / "bpf"
        self._dataplane = build / "dataplane" / "sluice-dataplane"
        self._sluiced = build / "controlplane" / "sluiced" / "sluiced"
        self._sluicectl = build / "tools" / "sluicectl" / "sluicectl"
        self._dataplane_record = self.directory / "dataplane.process"
        self._sluiced_record = self.directory / "sluiced.process"
        for program in (self._dataplane, self._sluiced, self._sluicectl):
            if not program.exists():
                raise TestbedError(f"{program} is not there; build it first: meson setup {build} && ninja -C {build}")
        self.directory.mkdir(exist_ok=True)

    @property
    def dataplane_log(self) -> pathlib.Path:
        return self.directory / "dataplane.log"

    @property
    def sluiced_log(self) -> pathlib.Path:
        return self.directory / "sluiced.log"

    def start_dataplane(self, options: DataplaneOptions = DataplaneOptions(), wrapper: Sequence[str] = ()) -> None:
        """Starts sluice-dataplane, by a command in front of it if there is one; returns when it answers on its
        control socket."""
        network = self.testbed.network
        network.heed_balancer()
        if options.device == "af_packet":
            network.silence_balancer(self.testbed.programs)
        record = processes.start([*wrapper, *self.dataplane_argv(options)], netns=network.balancer, record_path=self._dataplane_record,
                                 log=self.dataplane_log, cpus=ALL_CPUS)
        self._wait_for_start(record, self._dataplane_answers, "sluice-dataplane", self.dataplane_log)

    def dataplane_argv(self, options: DataplaneOptions) -> list[str]:
        return [str(self._dataplane), "--engine", options.engine, *self._ports(options),
                *_OF_ENGINE[options.engine](options), "--control-socket", str(self.control_socket),
                "--snapshot", str(self.directory / "snapshot"), *self._handover()]

    def detach(self) -> None:
        """Ends what the XDP engine left forwarding when it was stopped."""
        run(enter(self.testbed.network.balancer, [str(self._dataplane), "--detach", *self._handover()]))

    def pins(self) -> list[str]:
        """What keeps the XDP engine's programs and maps in the kernel."""
        names = (path.name for path in self.bpf_directory.glob("*"))
        return sorted(name for name in names if not name.endswith(".debug"))  # the kernel's own

    def xdp_programs(self) -> list[int]:
        """Identifiers of the programs on the balancer's interfaces."""
        return [xdp["prog"]["id"] for xdp in self._xdp()]

    def xdp_modes(self) -> list[str]:
        """How the kernel runs each of them: native, generic."""
        return [_XDP_MODES[xdp["mode"]] for xdp in self._xdp()]

    def _xdp(self) -> list[dict]:
        links = json.loads(run(["ip", "-n", self.testbed.network.balancer, "-j", "link", "show"]))
        return [link["xdp"] for link in links if "prog" in link.get("xdp", {})]

    def dataplane_status(self) -> dict:
        """What sluice-dataplane says of itself."""
        return dataplane_client.status(self.control_socket)

    def choice_of_engine(self) -> str:
        """Which engine sluice-dataplane took at its last start and why, in its own words."""
        return _CHOICE.findall(self.dataplane_log.read_text(encoding="utf-8"))[-1]

    def _handover(self) -> list[str]:
        """Where an engine finds what the one before it left."""
        return ["--connections", str(self.directory / "connections"), "--bpf-directory", str(self.bpf_directory)]

    def _ports(self, options: DataplaneOptions) -> list[str]:
        arguments = []
        for segment in range(self.testbed.segments):
            interface = balancer_interface(segment)
            wire = (f"device=net_af_packet:iface={interface};qpairs={self.testbed.queues}"
                    if options.device == "af_packet" else f"interface={interface}")
            arguments += ["--port", f"name={PORT_NAMES[segment]},{wire},addresses="
                          f"{topology.ipv4_of(2, segment)}/{topology.IPV4_PREFIX_LENGTH};"
                          f"{topology.ipv6_of(2, segment)}/{topology.IPV6_PREFIX_LENGTH}"]
        if options.check_port:
            interface = CHECK_INTERFACES[1]
            wire = f"interface={interface}" if options.engine == "xdp" else f"device=net_af_packet:iface={interface}"
            arguments += ["--port", f"name=checks,{wire}"]
        return arguments

    def start_sluiced(self, wrapper: Sequence[str] = ()) -> None:
        """Starts sluiced, by a command in front of it if there is one; returns when it answers on its socket."""
        record = processes.start([*wrapper, *self.sluiced_argv()], netns=self.testbed.network.balancer, record_path=self._sluiced_record,
                                 log=self.sluiced_log, cpus=ALL_CPUS)
        self._wait_for_start(record, lambda: self.sluicectl("status").status == 0, "sluiced", self.sluiced_log)

    def sluiced_argv(self) -> list[str]:
        return [str(self._sluiced), "--config", str(self.config_path), "--dataplane-socket", str(self.control_socket),
                "--api-socket", str(self.api_socket), "--state-dir", str(self.directory / "sluiced-state")]

    def stop_dataplane(self) -> None:
        self._stop(self._dataplane_record, "sluice-dataplane", self.dataplane_log)

    def stop_sluiced(self) -> None:
        self._stop(self._sluiced_record, "sluiced", self.sluiced_log)

    def kill_dataplane(self) -> None:
        """SIGKILL."""
        _kill(self._dataplane_record)

    def kill_sluiced(self) -> None:
        """SIGKILL."""
        _kill(self._sluiced_record)

    def signal_sluiced(self, number: signal.Signals) -> None:
        record = processes.read_record(self._sluiced_record)
        if record is None or not processes.send_signal(record, number):
            raise TestbedError(f"sluiced does not run; the end of its log:\n{processes.log_tail(self.sluiced_log)}")

    def dataplane_pid(self) -> int:
        return self._pid(self._dataplane_record)

    def sluiced_pid(self) -> int:
        return self._pid(self._sluiced_record)

    @staticmethod
    def _pid(path: pathlib.Path) -> int:
        record = processes.read_record(path)
        if record is None or not processes.is_alive(record):
            raise TestbedError(f"the process of {path.name} does not run")
        return record.pid

    def is_running(self) -> bool:
        """Whether both daemons are."""
        records = [processes.read_record(path) for path in (self._dataplane_record, self._sluiced_record)]
        return all(record is not None and processes.is_alive(record) for record in records)

    def write_config(self, members: Sequence[Member], extras: Extras = Extras()) -> None:
        self.config_path.write_text(configuration(members, extras), encoding="utf-8")

    def reload(self, members: Sequence[Member], extras: Extras = Extras()) -> None:
        """Writes the configuration and has sluiced take it; TestbedError if it does not."""
        self.write_config(members, extras)
        self.must("reload", "--force")  # whatever it moves

    def sluicectl(self, *arguments: str) -> CommandResult:
        """Runs sluicectl as an operator would; any exit status."""
        argv = self.sluicectl_argv(*arguments)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=_COMMAND_TIMEOUT_S, check=False)
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def sluicectl_argv(self, *arguments: str) -> list[str]:
        return [str(self._sluicectl), "--socket", str(self.api_socket), *arguments]

    def must(self, *arguments: str) -> str:
        """As sluicectl(), but TestbedError if the status is not 0; returns the output."""
        result = self.sluicectl(*arguments)
        if result.status != 0:
            raise TestbedError(f'"sluicectl {" ".join(arguments)}" ended with status {result.status}: '
                               f"{(result.errors or result.output).strip()}")
        return result.output

    def query(self, *arguments: str) -> dict:
        """What `sluicectl -o json` says."""
        return json.loads(self.must("-o", "json", *arguments))

    def backends(self) -> dict[str, dict]:
        """The pool's backends by name."""
        return {one["name"]: one for one in self.query("backends")["backends"] if one["pool"] == POOL}

    def wait_for_states(self, states: dict[str, str], timeout_s: float = _HEALTH_TIMEOUT_S) -> None:
        """Until these backends have these states in the snapshot that packets are decided by."""

        def reached() -> bool:
            snapshot = dataplane_client.read_snapshot(self.control_socket)
            if snapshot is None:
                return False
            now = {one.name: one.state for one in snapshot.backends.values() if not one.removed}
            return all(now.get(name) == state for name, state in states.items())

        processes.wait_until(reached, timeout_s, f"backends in the states {states}")

    def snapshot(self) -> dataplane_client.Snapshot:
        snapshot = dataplane_client.read_snapshot(self.control_socket)
        if snapshot is None:
            raise TestbedError("sluice-dataplane has no snapshot")
        return snapshot

    def counters(self) -> dataplane_client.Counters:
        return dataplane_client.read_counters(self.control_socket)

    def _dataplane_answers(self) -> bool:
        try:
            return bool(dataplane_client.hello(self.control_socket)["ok"])
        except OSError:
            return False

    def _wait_for_start(self, record: processes.ProcessRecord, answers: object, name: str, log: pathlib.Path) -> None:
        assert callable(answers)
        processes.wait_until(lambda: not processes.is_alive(record) or answers(), _START_TIMEOUT_S,
                             f"start of {name} (log: {log})")
        if not processes.is_alive(record):
            raise TestbedError(f"{name} ended at its start:\n{processes.log_tail(log)}")

    def _stop(self, path: pathlib.Path, name: str, log: pathlib.Path) -> None:
        record = processes.read_record(path)
        if record is not None and not processes.stop(record):
            raise TestbedError(f"{name} did not end within 10 s of SIGTERM; the end of its log:\n"
                               f"{processes.log_tail(log)}")


def _kill(path: pathlib.Path) -> None:
    record = processes.read_record(path)
    if record is not None:
        processes.kill_group(record)


def client_argv(testbed: Testbed, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the client's namespace."""
    return enter(testbed.network.client, argv)
