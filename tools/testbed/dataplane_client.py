"""A client of sluice-dataplane's control socket that reads its snapshot and its counters as they are in
memory (dataplane/abi), so that the demo and the tests see them while sluiced is away too."""

import dataclasses
import json
import mmap
import os
import pathlib
import re
import socket
import struct

from testbed.errors import TestbedError

_PROTOCOL_VERSION = 1
_MESSAGE_MAX_BYTES = 256 * 1024
_TIMEOUT_S = 10.0
_ABI = pathlib.Path(__file__).resolve().parent.parent.parent / "dataplane" / "abi"

_SNAPSHOT_MAGIC = 0x50414E5345434C53
_COUNTER_MAGIC = 0x544E554F43434C53
_VERDICT_CAPACITY = 64
_PAGE_BYTES = 4096
_REGION_START = struct.Struct("<QIIQ")  # magic, version, header_size, total_size: of every region

_HEADER = struct.Struct("<QIIQQQQIIII48s")  # SnapshotHeader up to its sections
_SECTION = struct.Struct("<QII")
_SERVICE = struct.Struct("<IIHHHHB7xII")
_BACKEND = struct.Struct("<16sHBBBBBxQ8xIIII")
_COUNTER_HEADER = struct.Struct("<QIIQIIIIQQQQQQ")
_BACKEND_STATES = {1: "up", 2: "draining", 3: "down", 4: "closed"}


@dataclasses.dataclass(frozen=True)
class SnapshotService:
    name: str
    slots: tuple[int, ...]  # identifiers of backends


@dataclasses.dataclass(frozen=True)
class SnapshotBackend:
    identifier: int
    pool: str
    name: str
    state: str  # up, draining, down, closed
    weight: int  # as scheduled
    removed: bool
    ramp_step: int  # of a slow start; 0: none


@dataclasses.dataclass(frozen=True)
class Snapshot:
    revision: int
    services: dict[str, SnapshotService]
    backends: dict[int, SnapshotBackend]


@dataclasses.dataclass(frozen=True)
class Counters:
    """Sums over the workers."""

    verdicts: dict[str, int]  # packets by metric name
    received_packets: int
    transmitted_packets: int
    kernel_packets: int

    def sum_of_verdicts(self) -> int:
        return sum(self.verdicts.values())


def _ask(path: pathlib.Path, request: str) -> tuple[dict, int | None]:
    """One request; the answer, and the file descriptor that came with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        message = {"protocol": _PROTOCOL_VERSION, "id": 1, "request": request}
        connection.send(json.dumps(message).encode())
        data, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_MAX_BYTES, 1)
    answer = json.loads(data)
    if not answer.get("ok"):
        raise TestbedError(f'sluice-dataplane refused "{request}": {answer.get("error")}')
    return answer, descriptors[0] if descriptors else None


def hello(path: pathlib.Path) -> dict:
    """Engine, version and revision."""
    return _ask(path, "hello")[0]


def status(path: pathlib.Path) -> dict:
    return _ask(path, "status")[0]


def _content(path: pathlib.Path, request: str) -> bytes | None:
    """A copy of the memory that the answer's descriptor stands for."""
    _, descriptor = _ask(path, request)
    if descriptor is None:
        return None
    try:
        return memory_of(descriptor)
    finally:
        os.close(descriptor)


def memory_of(descriptor: int) -> bytes:
    """A copy of a file, or of a BPF map that a region lies in (the XDP engine's): a map has no size that
    could be asked for, but the header at its beginning says it, and the kernel maps no more than there is."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        size = _REGION_START.unpack_from(_mapped(descriptor, _PAGE_BYTES))[3]
        if size < _PAGE_BYTES:
            raise TestbedError(f"the region's header claims {size} bytes, it has at least {_PAGE_BYTES}")
    return _mapped(descriptor, size)


def _mapped(descriptor: int, size: int) -> bytes:
    with mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        return memory[:]


def read_snapshot(path: pathlib.Path) -> Snapshot | None:
    """The snapshot that packets are decided by now; None while there is none."""
    data = _content(path, "snapshot")
    if data is None:
        return None
    magic, _, _, _, _, revision, *_ = _HEADER.unpack_from(data)
    if magic != _SNAPSHOT_MAGIC:
        raise TestbedError(f"the snapshot begins with {magic:#x}")
    sections = [_SECTION.unpack_from(data, _HEADER.size + i * _SECTION.size) for i in range(6)]
    services, _, _, backends, slots, strings = sections
    if (services[2], backends[2]) != (_SERVICE.size, _BACKEND.size):
        raise TestbedError("the records of dataplane/abi/snapshot.h are not those that dataplane_client.py reads")
    slot_ids = struct.unpack_from(f"<{slots[1]}H", data, slots[0])

    def text(offset: int, length: int) -> str:
        return data[strings[0] + offset:strings[0] + offset + length].decode()

    of_services = {}
    for index in range(services[1]):
        first, count, _, _, _, _, scheduler, offset, length = _SERVICE.unpack_from(
            data, services[0] + index * services[2])
        if scheduler:
            of_services[text(offset, length)] = SnapshotService(text(offset, length), slot_ids[first:first + count])
    of_backends = {}
    for index in range(backends[1]):
        _, weight, state, _, removed, _, ramp_step, _, pool_at, pool_length, name_at, name_length = (
            _BACKEND.unpack_from(data, backends[0] + index * backends[2]))
        if state:
            of_backends[index] = SnapshotBackend(index, text(pool_at, pool_length), text(name_at, name_length),
                                                 _BACKEND_STATES[state], weight, bool(removed), ramp_step)
    return Snapshot(revision, of_services, of_backends)


def verdict_names() -> list[str]:
    """The metric names, in the order of their counters, from the one list that there is."""
    text = (_ABI / "verdicts.def").read_text(encoding="utf-8")
    return re.findall(r'^SLUICE_VERDICT\(\w+, \w+, "(\w+)"', text, re.MULTILINE)


def read_counters(path: pathlib.Path) -> Counters:
    data = _content(path, "counters")
    assert data is not None
    magic, _, header_size, _, workers, verdicts, _, _, stride, *_ = _COUNTER_HEADER.unpack_from(data)
    names = verdict_names()
    if magic != _COUNTER_MAGIC or verdicts != len(names):
        raise TestbedError(f"the counters are of another version: {verdicts} verdicts, this reads {len(names)}")
    sums = [0] * (_VERDICT_CAPACITY + 5)
    for worker in range(workers):
        values = struct.unpack_from(f"<{len(sums)}Q", data, header_size + worker * stride)
        sums = [total + value for total, value in zip(sums, values)]
    received, _, transmitted, _, kernel = sums[_VERDICT_CAPACITY:]
    return Counters(dict(zip(names, sums)), received, transmitted, kernel)
