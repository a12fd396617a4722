"""The units as systemd's own tools see them. None of it asks or changes the systemd that may run here."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

_UNITS = pathlib.Path(sys.argv[1])   # as meson has made them
_FILES = pathlib.Path(sys.argv[2])
_BUILD = pathlib.Path(os.environ["SLUICE_BUILD"])
_PROGRAMS = {"sluiced": _BUILD / "controlplane/sluiced/sluiced", "sluicectl": _BUILD / "tools/sluicectl/sluicectl",
             "sluice-dataplane": _BUILD / "dataplane/sluice-dataplane"}
_MOST_EXPOSURE = {"sluiced.service": 2.0, "sluice-dataplane.service": 6.5}


def run(*argv: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=50, check=False)


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (_UNITS / unit).read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


class SystemdUnits(unittest.TestCase):
    def test_units_are_valid(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            copies = []
            for unit in _MOST_EXPOSURE:
                text = (_UNITS / unit).read_text(encoding="utf-8")
                # Only the programs are where they were built, not installed.
                text = re.sub(r"^(Exec\w+=)\S*/(\S+)", lambda found: found[1] + str(_PROGRAMS[found[2]]), text,
                              flags=re.MULTILINE)
                copy = pathlib.Path(directory) / unit
                copy.write_text(text, encoding="utf-8")
                copies.append(copy)
            done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *copies)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_exposure_is_low(self) -> None:
        for unit, most in _MOST_EXPOSURE.items():
            with self.subTest(unit):
                done = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                           f"--threshold={int(most * 10)}", _UNITS / unit)
                said = (done.stdout.strip().splitlines() or [done.stderr])[-1]
                self.assertEqual(done.returncode, 0, said)
                level = re.search(r"exposure level .*: ([\d.]+)", said)
                self.assertIsNotNone(level, said)
                assert level is not None
                print(f"{unit}: exposure {level[1]}")
                self.assertLessEqual(float(level[1]), most)

    def test_watchdog_and_readiness_are_on(self) -> None:
        for unit in _MOST_EXPOSURE:
            found = settings(unit)
            self.assertEqual(found["Type"], ["notify"])
            self.assertRegex(found["WatchdogSec"][0], r"^\d+s$")
            self.assertEqual(found["Restart"], ["on-failure"])
            self.assertEqual(found["StartLimitIntervalSec"], ["0"], "it is tried until it starts")

    def test_sluiced_has_no_capability_and_a_user_of_its_own(self) -> None:
        found = settings("sluiced.service")
        self.assertEqual((found["CapabilityBoundingSet"], found["AmbientCapabilities"]), ([""], [""]))
        self.assertEqual((found["User"], found["Group"]), (["sluice"], ["sluice"]))

    def test_user_and_directories_can_be_made(self) -> None:
        with tempfile.TemporaryDirectory() as root:
            (pathlib.Path(root) / "etc").mkdir()
            made = run("systemd-sysusers", f"--root={root}", _FILES / "sluice.sysusers.conf")
            self.assertEqual(made.returncode, 0, made.stderr)
            passwd = (pathlib.Path(root) / "etc/passwd").read_text(encoding="utf-8")
            self.assertRegex(passwd, r"(?m)^sluice:.*:/usr/sbin/nologin$")

    def test_directories_of_both_daemons_are_made_for_both(self) -> None:
        lines = (_FILES / "sluice.tmpfiles.conf").read_text(encoding="utf-8").splitlines()
        made = [line.split() for line in lines if line and not line.startswith("#")]
        # Made and never emptied, which is what D, R and e are for.
        self.assertEqual(made, [["d", "/run/sluice", "1775", "root", "sluice", "-"],
                                ["d", "/etc/sluice", "0750", "root", "sluice", "-"]])
        for unit in _MOST_EXPOSURE:
            self.assertIn("/run/sluice", settings(unit)["ReadWritePaths"][0].split())
            self.assertNotIn("RuntimeDirectory", settings(unit))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
