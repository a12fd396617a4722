"""Ten changes of backends a second break no connection."""

import contextlib
import random
import time
from collections.abc import Iterator

from downloads import paced_downloads
from harness import BalancedTestbed
from testbed.builder import BIG_FILE_BYTES
from testbed.configuration import POOL, members_of
from testbed.load import Load

_CHANGES = 120
_CHANGE_INTERVAL_S = 0.1  # at least; a slow machine takes longer
_DOWNLOADS_PER_FAMILY = 2
_HELD = 100
_DRAINED = ("b1", "b2", "b3", "b4")  # and taken back; the others are removed and added
_MIN_UNDRAINED = 2


class Changes(BalancedTestbed):
    backend_count = 6

    def setUp(self) -> None:
        self.drained: set[str] = set()
        self.absent: set[str] = set()
        self.choice = random.Random(7)

    def change(self) -> None:
        """Drains or takes back a backend, or removes or adds one: never what is so already. Returns when
        packets are decided by it."""
        names = {backend.name for backend in self.testbed.backends()}
        possible = [("undrain", name) for name in self.drained]
        if len(self.drained) < len(_DRAINED) - _MIN_UNDRAINED:
            possible += [("drain", name) for name in _DRAINED if name not in self.drained]
        possible += [("toggle", name) for name in names.difference(_DRAINED)]
        command, name = self.choice.choice(sorted(possible))
        before = self.appliance.snapshot().revision
        if command == "toggle":
            self.absent ^= {name}
            self.appliance.reload([one for one in members_of(self.testbed.backends())
                                   if one.backend.name not in self.absent])
        else:
            self.drained ^= {name}
            self.appliance.must(command, f"{POOL}/{name}")
        self.wait_until(lambda: self.is_in_force(names, before), f"the effect of {command} {name}")

    def is_in_force(self, names: set[str], revision: int) -> bool:
        """Whether a later snapshot than that of `revision` has the present backends, and the drained ones so."""
        snapshot = self.appliance.snapshot()
        states = {one.name: one.state for one in snapshot.backends.values() if not one.removed}
        draining = {name for name, state in states.items() if state == "draining"}
        return snapshot.revision > revision and draining == self.drained and set(states) == names - self.absent

    @contextlib.contextmanager
    def everything_restored(self) -> Iterator[None]:
        with self.config_restored():
            try:
                yield
            finally:
                for name in self.drained:
                    self.appliance.must("undrain", f"{POOL}/{name}")

    def test_downloads_and_held_connections_survive_ten_changes_a_second(self) -> None:
        """Each change lets each download get on by its share of the file, so that every one lives through
        all of them."""
        options = ["--interval", "0.2", "--concurrency", "16"]
        with self.everything_restored(), Load(self.testbed, "hold", _HELD, options=options) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            revision = self.appliance.snapshot().revision
            with paced_downloads(self, _DOWNLOADS_PER_FAMILY) as downloads:
                for number in range(1, _CHANGES + 1):
                    next_at = time.monotonic() + _CHANGE_INTERVAL_S
                    self.change()
                    downloads.allow(number * BIG_FILE_BYTES // (_CHANGES + 1))
                    time.sleep(max(0.0, next_at - time.monotonic()))
                self.assertGreaterEqual(self.appliance.snapshot().revision - revision, _CHANGES)
            result = load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(result.done, _HELD)
        self.assert_no_checksum_errors()
