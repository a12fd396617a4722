"""Huge pages for a testbed. They are the machine's, not a namespace's: what was taken is on record, so that
a run that was killed leaves none behind for longer than until the next."""

import json
import pathlib

from testbed.errors import TestbedError

_COUNT = pathlib.Path("/proc/sys/vm/nr_hugepages")


class HugePages:
    """Pages of the machine's default size, reserved in addition to those that were there before."""

    def __init__(self, record: pathlib.Path):
        self._record = record

    def reserve(self, pages: int) -> None:
        """TestbedError, and none reserved, if the kernel does not find that many."""
        before = _read()
        self._record.write_text(json.dumps({"before": before, "reserved": pages}) + "\n", encoding="utf-8")
        _COUNT.write_text(str(before + pages), encoding="ascii")
        found = _read() - before
        if found < pages:
            _COUNT.write_text(str(before), encoding="ascii")
            self._record.unlink()
            raise TestbedError(f"the kernel found {found} of {pages} huge pages; free some memory")

    def give_back(self) -> None:
        """Does nothing if none are reserved. Others may have reserved or given back theirs meanwhile."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return  # none reserved, or killed before the record was whole, and so before they were
        now = _read()
        if now != record["before"]:  # else killed between the record and the reservation
            _COUNT.write_text(str(max(0, now - record["reserved"])), encoding="ascii")
        self._record.unlink()


def _read() -> int:
    return int(_COUNT.read_text(encoding="ascii"))
