"""Changes of the configuration that go on in the background of a test."""

import threading
import time

from harness import BalancedTestbed
from testbed.configuration import POOL

_INTERVAL_S = 0.1
_PENDING = 7  # tools/sluicectl/exit_codes.h


class Changer(threading.Thread):
    """Drains b3 and takes it back, ten times a second, until its `with` ends: each time a new snapshot."""

    def __init__(self, test: BalancedTestbed):
        super().__init__(daemon=True)
        self.done = 0
        self._began = time.monotonic()
        self._test = test
        self._unexpected: list[str] = []
        self._end = threading.Event()

    def __enter__(self) -> "Changer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()
        took = time.monotonic() - self._began
        print(f"{self._test.id()}: {self.done} changes in {took:.1f} s, {self.done / took:.1f} a second", flush=True)
        self._test.appliance.must("undrain", f"{POOL}/b3")

    def run(self) -> None:
        while not self._end.is_set():
            next_at = time.monotonic() + _INTERVAL_S
            command = "undrain" if self.done % 2 else "drain"
            result = self._test.appliance.sluicectl(command, f"{POOL}/b3")
            # While the dataplane is away the change is sluiced's, and waits.
            if result.status not in (0, _PENDING):
                self._unexpected.append(result.errors or result.output)
            self.done += 1
            self._end.wait(max(0.0, next_at - time.monotonic()))

    def wait_for_snapshots(self, count: int) -> None:
        """Until packets have been decided by so many further snapshots."""
        revision = self._test.appliance.snapshot().revision
        self._test.wait_until(lambda: self._test.appliance.snapshot().revision >= revision + count,
                              f"{count} snapshots: {self._unexpected}")

    def wait_for_changes(self, count: int) -> None:
        """Until sluiced has accepted so many further ones, whether or not there is a dataplane."""
        done = self.done
        self._test.wait_until(lambda: self.done >= done + count, f"{count} changes")
        self.assert_all_accepted()

    def assert_all_accepted(self) -> None:
        self._test.assertEqual(self._unexpected, [])
