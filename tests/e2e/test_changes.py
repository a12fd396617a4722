"""Ten changes of backends a second break no connection."""

import itertools
import random
import time

from harness import VIP_URLS, BalancedTestbed
from testbed.configuration import POOL, Member, members_of
from testbed.load import Load

_RATE = "8m"  # of each download, in bytes a second: 100 MB take 12 seconds, more than 100 changes
_CHANGE_INTERVAL_S = 0.1
_DOWNLOADS_PER_FAMILY = 2
_HELD = 100


class Changes(BalancedTestbed):
    backend_count = 6

    def change(self, number: int, choice: random.Random) -> None:
        """Drains or takes back one of the first four backends, or removes or adds one of the last two."""
        if number % 2 == 0:
            name = f"b{choice.randint(1, 4)}"
            # Also what is drained already: the answer is "unchanged".
            self.appliance.must(choice.choice(("drain", "undrain")), f"{POOL}/{name}")
            return
        members = members_of(self.testbed.backends())
        present: list[Member] = [*members[:4], *(one for one in members[4:] if choice.random() < 0.5)]
        self.appliance.reload(present)

    def test_downloads_and_held_connections_survive_ten_changes_a_second(self) -> None:
        choice = random.Random(7)
        revision = self.appliance.snapshot().revision
        script = "set -o pipefail; curl --silent --show-error --fail --globoff --max-time 120 '{}/big?rate={}' | sha256sum"
        options = ["--interval", "0.2", "--concurrency", "16"]
        changes = 0
        with self.config_restored(), Load(self.testbed, "hold", _HELD, options=options) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            downloads = [self.start_in_client("bash", "-c", script.format(url, _RATE))
                         for url in VIP_URLS for _ in range(_DOWNLOADS_PER_FAMILY)]
            began = time.monotonic()
            for changes in itertools.count(1):
                if all(download.poll() is not None for download in downloads):
                    break
                self.change(changes, choice)
                time.sleep(max(0.0, began + changes * _CHANGE_INTERVAL_S - time.monotonic()))
            took = time.monotonic() - began
            for download in downloads:
                output, errors = download.communicate(timeout=30)
                self.assertEqual(download.returncode, 0, errors)
                self.assertEqual(output.split()[0], self.testbed.big_file_sha256)
            load.stop()
        for name in ("b1", "b2", "b3", "b4"):
            self.appliance.must("undrain", f"{POOL}/{name}")
        self.assertEqual(load.failures, [])
        self.assertGreater(changes / took, 8, f"{changes} changes in {took:.1f} s")
        # Most of them were real: half of the drains and reloads ask for what is so already.
        self.assertGreater(self.appliance.snapshot().revision - revision, changes / 3)
        self.assert_no_checksum_errors()
