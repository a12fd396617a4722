"""The testbed's client reads whole regions, from memory that has a size and from BPF maps, which have none.
Needs root."""

import ctypes
import mmap
import os
import pathlib
import platform
import struct
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools")]
# Found by the line above.
from testbed import dataplane_client  # noqa: E402
from testbed.errors import TestbedError  # noqa: E402

_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_BPF_MAP_CREATE = 0
_BPF_MAP_TYPE_ARRAY = 2
_BPF_F_MMAPABLE = 1 << 10
_ELEMENT = 8192  # bytes
_ELEMENTS = 3


def array_map() -> int:
    """A descriptor of a new map of _ELEMENTS elements."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("<5I", _BPF_MAP_TYPE_ARRAY, 4, _ELEMENT, _ELEMENTS, _BPF_F_MMAPABLE).ljust(128, b"\0")
    descriptor = libc.syscall(_BPF_SYSCALL, _BPF_MAP_CREATE, attributes, len(attributes))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "bpf(BPF_MAP_CREATE): needs root")
    return descriptor


class MemoryOf(unittest.TestCase):
    def setUp(self) -> None:
        self.map = array_map()
        self.addCleanup(os.close, self.map)

    def write(self, offset: int, data: bytes) -> None:
        with mmap.mmap(self.map, _ELEMENT * _ELEMENTS, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
            memory[offset:offset + len(data)] = data

    def write_header(self, total_size: int) -> None:
        self.write(0, struct.pack("<QIIQ", 1, 1, _ELEMENT, total_size))

    def test_a_map_is_read_whole(self) -> None:
        self.write_header(_ELEMENT * _ELEMENTS)
        self.write(_ELEMENT * _ELEMENTS - 3, b"end")
        data = dataplane_client.memory_of(self.map)
        self.assertEqual(len(data), _ELEMENT * _ELEMENTS)
        self.assertEqual(data[-3:], b"end")

    def test_a_map_whose_header_claims_more_than_it_holds_is_refused(self) -> None:
        self.write_header(_ELEMENT * _ELEMENTS + 1)
        with self.assertRaises(OSError):
            dataplane_client.memory_of(self.map)

    def test_a_map_without_a_region_is_refused(self) -> None:
        with self.assertRaisesRegex(TestbedError, "claims 0 bytes"):
            dataplane_client.memory_of(self.map)

    def test_memory_that_has_a_size_is_read_whole(self) -> None:
        descriptor = os.memfd_create("test")
        self.addCleanup(os.close, descriptor)
        os.write(descriptor, bytes(4999) + b"!")
        self.assertEqual(dataplane_client.memory_of(descriptor), bytes(4999) + b"!")


if __name__ == "__main__":
    unittest.main()
