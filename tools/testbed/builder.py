"""The testbed as a whole: up, down, status, and backends that come and go."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import shutil
from collections.abc import Iterator

from testbed import processes, topology
from testbed.affinity import stay_on_one_cpu
from testbed.bpf import Programs
from testbed.commands import need_root
from testbed.errors import TestbedError
from testbed.huge_pages import HugePages
from testbed.mounts import unmount_below
from testbed.network import Network
from testbed.servers import BackendServers
from testbed.signals import uninterrupted

STATE_ROOT = pathlib.Path("/run/sluice-testbed")

BIG_FILE_BYTES = 100_000_000
_SMALL_FILE_BYTES = 64 * 1024
_FILE_SEED = 20261120


class Testbed:
    """The testbed of one prefix. Its directory under /run says what it consists of, so that any process
    can go on with it or take it down."""

    def __init__(self, prefix: str = "slb"):
        self.network = Network(prefix)
        self.prefix = prefix
        self.directory = STATE_ROOT / prefix
        self._record = self.directory / "testbed.json"
        self._owner = self.directory / "owner.process"
        self._huge_pages = HugePages(self.directory / "huge-pages.json")

    def up(self, backends: int = 4, queues: int = 1, *, segments: int = 1, fabric_mtu: int = topology.FABRIC_MTU,
           huge_pages: int = 0) -> None:
        """Builds it, after taking away what a run that was killed left behind. On an error or a signal
        nothing stays. TestbedError if the program that built the present one still runs. It is this
        process's until release(): while it runs, nobody else's `up` takes the testbed away."""
        need_root()
        topology.backend_of_number(backends)
        if not 1 <= queues <= topology.MAX_QUEUES:
            raise TestbedError(f'"{queues}" queues: allowed are 1 to {topology.MAX_QUEUES}')
        if not 1 <= segments <= topology.MAX_SEGMENTS:
            raise TestbedError(f'"{segments}" segments: allowed are 1 to {topology.MAX_SEGMENTS}')
        topology.check_fabric_mtu(fabric_mtu)
        stay_on_one_cpu()
        with self._locked():
            self.refuse_if_owned()
            self._remove()
            try:
                self.directory.mkdir(parents=True, mode=0o755)
                self._claim()
                if huge_pages:
                    self._huge_pages.reserve(huge_pages)
                self._build(backends, segments, queues, fabric_mtu)
            except BaseException:
                with uninterrupted():
                    self._remove()
                raise

    def release(self) -> None:
        """The testbed outlives this process."""
        self._owner.unlink(missing_ok=True)

    def is_mine(self) -> bool:
        """Whether this process has built it and not released it."""
        owner = processes.read_record(self._owner)
        return owner is not None and owner == processes.record_of(os.getpid())

    def down(self) -> bool:
        """Takes everything down: processes, namespaces, files. False if there was nothing."""
        need_root()
        with uninterrupted(), self._locked():
            there = self.directory.exists() or bool(self.network.existing())
            self._remove()
        return there

    def add_backend(self, number: int | None = None) -> topology.Backend:
        """Adds a backend (by default with the next number), its servers running."""
        with self._locked():
            record = self._read()
            numbers = record["backends"]
            if number is None:
                number = max(numbers, default=0) + 1
            if number in numbers:
                raise TestbedError(f'backend "b{number}" is there already')
            backend = topology.backend_of_number(number, record["segments"])
            self._write({**record, "backends": sorted([*numbers, number])})
            self.network.add_backend(backend, self.programs, record["fabric_mtu"])
            self.servers(backend).start()
            return backend

    def remove_backend(self, number: int) -> None:
        """Takes a backend away, its servers and their connections with it."""
        with self._locked():
            record = self._read()
            if number not in record["backends"]:
                raise TestbedError(f'there is no backend "b{number}"')
            backend = topology.backend_of_number(number)
            self.servers(backend).stop()
            self.network.remove_namespace(self.network.of_backend(backend))
            self._write({**record, "backends": [one for one in record["backends"] if one != number]})
            shutil.rmtree(self.directory / backend.name, ignore_errors=True)

    def is_up(self) -> bool:
        return self._record.exists()

    def backends(self) -> list[topology.Backend]:
        record = self._read()
        return [topology.backend_of_number(number, record["segments"]) for number in record["backends"]]

    @property
    def queues(self) -> int:
        """Queues of each of the balancer's interfaces."""
        return self._read()["queues"]

    @property
    def segments(self) -> int:
        """Ethernet segments, and interfaces of the balancer."""
        return self._read()["segments"]

    @property
    def big_file_sha256(self) -> str:
        return self._read()["big_file_sha256"]

    def servers(self, backend: topology.Backend) -> BackendServers:
        return BackendServers(backend, self.network.of_backend(backend), self.directory / backend.name,
                              self._www)

    @property
    def _www(self) -> pathlib.Path:
        return self.directory / "www"

    @property
    def programs(self) -> Programs:
        return Programs(self.directory)

    def _claim(self) -> None:
        record = processes.record_of(os.getpid())
        assert record is not None
        processes.write_record(self._owner, record)

    def _build(self, backends: int, segments: int, queues: int, fabric_mtu: int) -> None:
        self.programs.compile()
        self._www.mkdir()
        digest = write_random_file(self._www / "big", BIG_FILE_BYTES)
        write_random_file(self._www / "small", _SMALL_FILE_BYTES)
        numbers = list(range(1, backends + 1))
        self._write({"backends": numbers, "segments": segments, "queues": queues, "fabric_mtu": fabric_mtu,
                     "big_file_sha256": digest})
        self.network.build(segments, queues, self.programs, fabric_mtu)
        for number in numbers:
            backend = topology.backend_of_number(number, segments)
            self.network.add_backend(backend, self.programs, fabric_mtu)
            self.servers(backend).start()

    def _remove(self) -> None:
        """Ends what has a record first, then whatever else runs in this prefix's namespaces."""
        for path in self.directory.glob("**/*.process"):
            record = processes.read_record(path)
            if record is not None and path != self._owner:
                processes.stop(record)
        for netns in self.network.existing():
            self.network.remove_namespace(netns)
        self._huge_pages.give_back()
        unmount_below(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def refuse_if_owned(self) -> None:
        """TestbedError if the program that built it still runs and is another."""
        owner = processes.read_record(self._owner)
        if owner is not None and owner.pid != os.getpid() and processes.is_alive(owner):
            raise TestbedError(f'the testbed "{self.prefix}" belongs to process {owner.pid}, which still runs; '
                               "wait for it, end it, or choose another --prefix")

    def _read(self) -> dict:
        try:
            return json.loads(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TestbedError(f'no testbed "{self.prefix}" is up; start one with '
                               f"tools/testbed/testbed --prefix {self.prefix} up") from error

    def _write(self, record: dict) -> None:
        temporary = self._record.with_suffix(".new")
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
        temporary.rename(self._record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One program at a time changes a testbed, of whatever prefix."""
        STATE_ROOT.mkdir(parents=True, exist_ok=True)
        with open(STATE_ROOT / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def write_random_file(path: pathlib.Path, size_bytes: int) -> str:
    """Writes bytes that do not compress and are the same each time; returns their SHA-256."""
    source = random.Random(_FILE_SEED)
    sha256 = hashlib.sha256()
    with open(path, "wb") as file:
        left = size_bytes
        while left > 0:
            block = source.randbytes(min(left, 1 << 20))
            sha256.update(block)
            file.write(block)
            left -= len(block)
    return sha256.hexdigest()
