"""A run that is interrupted takes everything down; what a killed one left behind, the next takes away."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import unittest
from collections.abc import Iterator

from testbed import processes
from testbed.builder import Testbed
from testbed.mounts import mounts_below

_HERE = pathlib.Path(__file__).resolve().parent
_PREFIX = "e2ecut"
_HUGE_PAGES = 4
_COUNT = pathlib.Path("/proc/sys/vm/nr_hugepages")
_END_TIMEOUT_S = 60

# A run of these tests in small: a testbed is up when the signal comes.
_RUN = f"""
import sys, time
sys.path[:0] = [{str(_HERE)!r}, {str(_HERE.parent.parent / "tools")!r}]
import run
from testbed import commands
from testbed.builder import Testbed
from testbed.signals import raise_on_signals
raise_on_signals()
with run.taken_down({_PREFIX!r}):
    testbed = Testbed({_PREFIX!r})
    testbed.up(1, huge_pages={_HUGE_PAGES})
    (testbed.directory / "bpf").mkdir()
    commands.run(["mount", "-t", "bpf", "bpf", str(testbed.directory / "bpf")])
    print("up", flush=True)
    time.sleep({_END_TIMEOUT_S})
"""


class Interruption(unittest.TestCase):
    def setUp(self) -> None:
        self.testbed = Testbed(_PREFIX)
        self.addCleanup(self.testbed.down)
        self.pages = int(_COUNT.read_text(encoding="ascii"))

    @contextlib.contextmanager
    def ended_by(self, number: signal.Signals) -> Iterator[list[processes.ProcessRecord]]:
        """After a run that a signal ended in its middle; gives the processes that it had in namespaces."""
        with subprocess.Popen([sys.executable, "-B", "-c", _RUN], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), "up\n")
                self.assertEqual(int(_COUNT.read_text(encoding="ascii")), self.pages + _HUGE_PAGES)
                records = [processes.read_record(path) for path in self.testbed.directory.glob("b1/*.process")]
                self.assertEqual(len(records), 2)
                self.assertEqual(len(mounts_below(self.testbed.directory)), 1)
                process.send_signal(number)
                process.wait(_END_TIMEOUT_S)
            finally:
                process.kill()
        yield [record for record in records if record is not None]

    def assert_nothing_is_left(self, records: list[processes.ProcessRecord]) -> None:
        self.assertEqual(mounts_below(self.testbed.directory), [])
        self.assertEqual(self.testbed.network.existing(), [])
        self.assertFalse(self.testbed.directory.exists())
        self.assertEqual([one for one in records if processes.is_alive(one)], [])
        self.assertEqual(int(_COUNT.read_text(encoding="ascii")), self.pages)

    def test_interrupted_run_leaves_nothing(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name), self.ended_by(number) as records:
                self.assert_nothing_is_left(records)

    def test_next_run_takes_away_what_a_killed_one_left(self) -> None:
        with self.ended_by(signal.SIGKILL) as records:
            self.assertTrue(all(processes.is_alive(one) for one in records))
            self.testbed.up(1)
            self.assertEqual(int(_COUNT.read_text(encoding="ascii")), self.pages)
            self.testbed.down()
            self.assert_nothing_is_left(records)
