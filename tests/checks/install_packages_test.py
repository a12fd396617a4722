"""tools/install-packages leaves nothing that keeps services from starting. apt and dpkg are stand-ins here,
and /usr/sbin is a folder of the test's own, in a mount namespace."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_IN_NAMESPACE = 'mount --bind "$1" /usr/sbin && exec "$2"'
_FOREIGN_POLICY = "#!/bin/sh\nexit 0\n"


class InstallPackages(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        for name in ("tools", "sbin", "bin", "installed"):
            (self.directory / name).mkdir()
        self.program = self.directory / "tools" / "install-packages"
        shutil.copy(ROOT / "tools" / "install-packages", self.program)
        (self.directory / "tools" / "packages.txt").write_text("curl\nnginx  # a server\n", encoding="ascii")
        self.policy = self.directory / "sbin" / "policy-rc.d"
        self.calls = self.directory / "calls"
        self.calls.touch()
        installed = self.directory / "installed"
        self.command("dpkg-query", f'for last; do :; done; [ -e {installed}/"$last" ] && printf installed')
        self.command("dpkg", "exit 0")
        self.command("update-rc.d", "exit 0")
        self.command("systemctl", "exit 0")
        self.command("apt-get", f'case "$*" in *install*) touch {installed}/curl {installed}/nginx ;; esac')

    def command(self, name: str, script: str) -> None:
        """A stand-in that notes how it was called, and the policy at that time."""
        path = self.directory / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" $([ ! -x /usr/sbin/policy-rc.d ] || /usr/sbin/policy-rc.d || '
                        f'echo forbidden) >> {self.calls}\n{script}\n', encoding="ascii")
        path.chmod(0o755)

    def run_program(self) -> int:
        environment = {**os.environ, "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(["unshare", "--mount", "sh", "-c", _IN_NAMESPACE, "sh", self.policy.parent, self.program],
                              env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              check=False).returncode

    def called(self, text: str) -> list[str]:
        return [line for line in self.calls.read_text(encoding="ascii").splitlines() if text in line]

    def kill_during_install(self) -> None:
        self.command("apt-get", f'case "$*" in *install*) touch {self.directory}/installed/nginx; kill -9 $PPID ;; esac')
        self.assertEqual(self.run_program(), -signal.SIGKILL)

    def test_services_are_forbidden_only_while_apt_works(self) -> None:
        self.assertEqual(self.run_program(), 0)
        self.assertEqual([call.endswith(" forbidden") for call in self.called("apt-get")], [True, True])
        self.assertEqual(len(self.called("update-rc.d nginx disable")), 1)
        self.assertFalse(self.policy.exists())

    def test_next_run_takes_away_what_a_killed_one_left(self) -> None:
        self.kill_during_install()
        self.assertTrue(self.policy.exists())
        (self.directory / "installed" / "curl").touch()  # nothing is missing any more
        self.assertEqual(self.run_program(), 0)
        self.assertFalse(self.policy.exists())
        self.assertEqual(len(self.called("dpkg --configure -a")), 1)
        self.assertEqual(len(self.called("update-rc.d nginx disable")), 1)

    def test_policy_of_the_operators_stays(self) -> None:
        self.policy.write_text(_FOREIGN_POLICY, encoding="ascii")
        self.policy.chmod(0o755)
        for _ in range(2):  # something is missing, then nothing
            self.assertEqual(self.run_program(), 0)
            self.assertEqual(self.policy.read_text(encoding="ascii"), _FOREIGN_POLICY)


class Options(unittest.TestCase):
    """A wrong option changes nothing: it is refused before anything is installed."""

    def test_wrong_option_is_refused_before_packages_are_installed(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            tools = pathlib.Path(directory) / "tools"
            shutil.copytree(ROOT / "tools", tools, ignore=shutil.ignore_patterns("__pycache__"))
            (tools / "install-packages").write_text(f"#!/bin/sh\ntouch {directory}/installed\n", encoding="ascii")
            for argv in (["demo", "--engine", "no-such"], ["demo", "--requests", "1"], ["check", "--step", "no-such"]):
                with self.subTest(" ".join(argv)):
                    done = subprocess.run([str(tools / argv[0]), *argv[1:]], capture_output=True, text=True, check=False)
                    self.assertEqual(done.returncode, 2)
                    self.assertIn(argv[1], done.stderr)
                    self.assertFalse((pathlib.Path(directory) / "installed").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
