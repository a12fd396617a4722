"""Ten changes of backends a second break no connection."""

import contextlib
import itertools
import random
import subprocess
import time
from collections.abc import Iterator

from harness import VIP_URLS, BalancedTestbed
from testbed.configuration import POOL, Member, members_of
from testbed.load import Load

_RATE = "8m"  # of each download, in bytes a second: 100 MB take 12 seconds, more than 100 changes
_CHANGE_INTERVAL_S = 0.1
_DOWNLOADS_PER_FAMILY = 2
_HELD = 100
_DRAINED = ("b1", "b2", "b3", "b4")  # and taken back; the others are removed and added
_DOWNLOAD = "set -o pipefail; curl --silent --show-error --fail --globoff --max-time 120 '{}/big?rate={}' | sha256sum"


class Changes(BalancedTestbed):
    backend_count = 6

    def change(self, number: int, choice: random.Random) -> None:
        """Drains or takes back one backend, or removes and adds the last two."""
        if number % 2 == 0:
            # Also what is drained already: the answer is "unchanged".
            self.appliance.must(choice.choice(("drain", "undrain")), f"{POOL}/{choice.choice(_DRAINED)}")
            return
        members = members_of(self.testbed.backends())
        present: list[Member] = [*members[:len(_DRAINED)], *(one for one in members[len(_DRAINED):] if choice.random() < 0.5)]
        self.appliance.reload(present)

    @contextlib.contextmanager
    def everything_restored(self) -> Iterator[None]:
        with self.config_restored():
            try:
                yield
            finally:
                for name in _DRAINED:
                    self.appliance.must("undrain", f"{POOL}/{name}")

    def change_until_over(self, downloads: list["subprocess.Popen[str]"]) -> float:
        """Makes changes while downloads run; returns how many a second it were."""
        choice = random.Random(7)
        began = time.monotonic()
        for number in itertools.count(1):
            if all(download.poll() is not None for download in downloads):
                return (number - 1) / (time.monotonic() - began)
            self.change(number, choice)
            time.sleep(max(0.0, began + number * _CHANGE_INTERVAL_S - time.monotonic()))
        raise AssertionError("unreachable")

    def test_downloads_and_held_connections_survive_ten_changes_a_second(self) -> None:
        revision = self.appliance.snapshot().revision
        options = ["--interval", "0.2", "--concurrency", "16"]
        with self.everything_restored(), Load(self.testbed, "hold", _HELD, options=options) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            downloads = [self.start_in_client("bash", "-c", _DOWNLOAD.format(url, _RATE))
                         for url in VIP_URLS for _ in range(_DOWNLOADS_PER_FAMILY)]
            changes_per_s = self.change_until_over(downloads)
            for download in downloads:
                output, errors = download.communicate(timeout=30)
                self.assertEqual(download.returncode, 0, errors)
                self.assertEqual(output.split()[0], self.testbed.big_file_sha256)
            load.stop()
        self.assertEqual(load.failures, [])
        self.assertGreater(changes_per_s, 8)
        # Many ask for what is so already; enough were real.
        self.assertGreater(self.appliance.snapshot().revision - revision, 40)
        self.assert_no_checksum_errors()
