"""Health checks by commands in their sandbox, as root starts them and as another user does."""

import os
import pathlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable

import harness
from health_testbed import LOOPBACKS, REFUSING_PORT, SHORT_TIMEOUT, HealthChecks, answers_with, silent
from testbed.commands import enter, need_command

_USER = 54321  # nobody's here
_WAIT_S = 10
_NOTHING_WRITTEN = "wrote nothing"
_ASKS = 'exec 3<>"/dev/tcp/$1/$2" && echo hello >&3 && read -r answer <&3 && echo "$answer" && [ "$answer" = ready ]'
_FORKS = """\
import os, time
forked = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        forked += 1
except BlockingIOError:
    print("forked", forked, "times")
"""
# Ignores what can be ignored, in a session of its own, and holds none of the check's descriptors.
_GRANDCHILD = "setsid sh -c 'trap \"\" TERM HUP INT; sleep 3600; : {mark}' </dev/null >/dev/null 2>&1 &"


def _has_process(mark: str, program: str = "") -> bool:
    for process in pathlib.Path("/proc").iterdir():
        try:
            command_line = (process / "cmdline").read_bytes()
        except OSError:  # no process, or one that has ended
            continue
        if mark.encode() in command_line and command_line.startswith(program.encode()):
            return True
    return False


def _mark() -> str:
    return f"sluice-{uuid.uuid4()}"


def _wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Exec(HealthChecks):
    """Of a sluiced that runs as root."""

    user_command: tuple[str, ...] = ()  # what changes the user
    hiding_command: tuple[str, ...] = ()  # what takes something of the host away

    def checking(self, address: str) -> list[str]:
        program = self.directory / "check_once"
        return enter(self.netns, [*self.hiding_command, *self.user_command, str(program), address])

    @classmethod
    def start_servers(cls) -> None:
        # A user that may not look into the build directory can run it here.
        shutil.copy(harness.build() / "tests/controlplane/health/check_once", cls.directory)

    def shell(self, script: str) -> list[str]:
        return ["/bin/sh", "-c", script]

    def assert_ends(self, mark: str) -> None:
        self.assertTrue(_wait_until(lambda: not _has_process(mark)), f"a process with {mark} is still there")

    def test_exit_status_0_is_healthy(self) -> None:
        self.assert_healthy("exit status 0", type="exec", command=["/usr/bin/true"])
        self.assert_healthy("exit status 0: fine", type="exec", command=self.shell("echo fine; echo more"))

    def test_any_other_exit_status_is_not(self) -> None:
        self.assert_unhealthy("exit status 1", type="exec", command=["/usr/bin/false"])
        self.assert_unhealthy("exit status 2: CRITICAL - no disk", type="exec",
                              command=self.shell("echo CRITICAL - no disk >&2; exit 2"))
        self.assert_unhealthy("exit status 127: /bin/sh: 1: nonesuch: not found", type="exec",
                              command=self.shell("nonesuch"))

    def test_signal(self) -> None:
        self.assert_unhealthy("exit status 139 (SIGSEGV)", type="exec", command=self.shell("kill -SEGV $$"))

    def test_it_asks_the_backend(self) -> None:
        asks = ["/usr/bin/bash", "-c", _ASKS, "ask", "{address}", "{port}"]
        with self.stream_server(answers_with(b"ready\n")) as port:
            self.assert_healthy("exit status 0: ready", type="exec", port=port, command=asks)
        with self.stream_server(answers_with(b"broken\n")) as port:
            self.assert_unhealthy("exit status 1: broken", type="exec", port=port, command=asks)
        with self.stream_server(silent) as port:
            self.assert_unhealthy("timed out after 400ms", type="exec", port=port, command=asks, timeout=SHORT_TIMEOUT)
        self.assert_unhealthy("exit status 1: ask: connect: Connection refused", type="exec", port=REFUSING_PORT,
                              command=asks)

    def test_placeholders_and_environment(self) -> None:
        for address in LOOPBACKS:
            self.assert_healthy(f"exit status 0: {address} 7 checked b; {address} 7 checked b 10000", [address],
                                type="exec", port=7, command=[
                                    "/bin/sh", "-c", 'echo "$*; $SLUICE_ADDRESS $SLUICE_PORT $SLUICE_POOL '
                                    '$SLUICE_BACKEND $SLUICE_TIMEOUT_MS"',
                                    "name", "{address}", "{port}", "{pool}", "{backend}"])
        self.assert_healthy("exit status 0: no port", type="exec",
                            command=self.shell('echo "${SLUICE_PORT-no port}"'))
        self.assert_healthy("exit status 0: HOME LC_ALL PATH PWD SLUICE_ADDRESS SLUICE_BACKEND SLUICE_POOL "
                            "SLUICE_TIMEOUT_MS", type="exec",
                            command=self.shell("env | sed 's/=.*//' | sort | paste -sd ' '"))

    def test_no_shell_takes_the_arguments_apart(self) -> None:
        self.assert_healthy("exit status 0: a  b;c $HOME `id` {\"d\": 1}", type="exec",
                            command=["/bin/echo", "a  b;c", "$HOME", "`id`", '{"d": 1}'])

    def test_unprintable_and_long_output(self) -> None:
        self.assert_healthy(r"exit status 0: \x1b[31mred\x00\xc3\xa4", type="exec",
                            command=["/usr/bin/printf", r"\033[31mred\000\303\244\r\nmore"])
        self.assert_healthy("exit status 0: " + 200 * "x" + "...", type="exec",
                            command=self.shell("printf '%0201d' 0 | tr 0 x"))

    def test_too_much_output(self) -> None:
        self.assert_unhealthy("wrote more than 64 KiB", type="exec", command=["/usr/bin/yes"])

    def test_command_that_does_not_end(self) -> None:
        self.assert_unhealthy("timed out after 400ms: begun", type="exec", timeout=SHORT_TIMEOUT,
                              command=self.shell("echo begun; sleep 3600"))
        self.assert_unhealthy("timed out after 400ms", type="exec", timeout=SHORT_TIMEOUT,
                              command=self.shell("exec >&- 2>&-; sleep 3600"))

    def test_nothing_outlives_the_timeout(self) -> None:
        mark = _mark()
        self.assert_unhealthy("timed out after 400ms", type="exec", timeout=SHORT_TIMEOUT, command=self.shell(
            f"trap '' TERM; {_GRANDCHILD.format(mark=mark)} sleep 3600; true"))
        self.assert_ends(mark)

    def test_nothing_outlives_the_command(self) -> None:
        mark = _mark()
        self.assert_healthy("exit status 0", type="exec", command=self.shell(_GRANDCHILD.format(mark=mark)))
        self.assert_ends(mark)

    def test_nothing_outlives_a_killed_daemon_for_long(self) -> None:
        seconds = f"3600.{uuid.uuid4().int}"
        self._kill_daemon(f"command: [/usr/bin/sleep, '{seconds}']", seconds, "/usr/bin/sleep")

    def test_nothing_outlives_a_daemon_that_dies_while_a_sandbox_is_made(self) -> None:
        for _ in range(8):
            mark = _mark()
            self._kill_daemon(f"command: [/bin/sh, -c, 'sleep 3600; : {mark}']", mark, "")

    def _kill_daemon(self, command: str, mark: str, program: str) -> None:
        """Once the check's command has come as far as that program."""
        with subprocess.Popen(self.checking(LOOPBACKS[0]), stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as checking:
            try:
                checking.stdin.write(f"{{type: exec, timeout: 1s, {command}}}".encode())
                checking.stdin.close()
                self.assertTrue(_wait_until(lambda: _has_process(mark, program)), "the command was not started")
            finally:
                checking.kill()
        self.assert_ends(mark)

    def test_processes_are_limited(self) -> None:
        self.assert_says("success", r"exit status 0: forked [1-6]?\d times", type="exec",
                         command=["/usr/bin/python3", "-c", _FORKS])

    def test_memory_files_and_time_are_limited(self) -> None:
        self.assert_says("failure", "exit status 1: Traceback .*", type="exec",
                         command=["/usr/bin/python3", "-c", "bytearray(512 << 20)"])
        self.assert_unhealthy("exit status 153 (SIGXFSZ)", type="exec",
                              command=self.shell("exec head -c 20M /dev/zero > /tmp/big"))
        self.assert_says("failure", "exit status 1: .*No space left on device.*", type="exec", command=self.shell(
            "for i in 1 2 3; do head -c 8M /dev/zero > /tmp/$i || exit 1; done"))
        self.assert_healthy("exit status 0: 11 256 0", type="exec",
                            command=self.shell("echo $(ulimit -t) $(ulimit -n) $(ulimit -c)"))

    def test_it_writes_nowhere_but_to_its_tmp(self) -> None:
        open_to_all = self.directory / "open"
        open_to_all.mkdir()
        self.addCleanup(shutil.rmtree, open_to_all)
        open_to_all.chmod(0o777)
        places = f"/ /usr /usr/local /bin /etc /dev /proc {open_to_all}"
        self.assert_healthy(f"exit status 0: {_NOTHING_WRITTEN}", type="exec", readable=[str(open_to_all)],
                            command=self.shell(f"for place in {places}; do touch $place/x 2>/dev/null && echo $place; "
                                               f"done; touch /tmp/x /dev/shm/x && echo {_NOTHING_WRITTEN}"))
        self.assertEqual(list(open_to_all.iterdir()), [])
        self.assertFalse(os.path.lexists("/tmp/x") and os.stat("/tmp/x").st_uid in (65534, _USER))

    def test_it_sees_what_it_needs_and_no_more(self) -> None:
        self.assert_healthy("exit status 0: bin dev etc lib lib64 proc sbin tmp usr", type="exec",
                            command=self.shell("echo $(ls /)"))
        self.assert_healthy("exit status 0: 2", type="exec",  # the sandbox's own, and the shell
                            command=self.shell("set -- /proc/[0-9]*; echo $#"))
        self.assert_healthy("exit status 0: 0 1 2", type="exec",
                            command=self.shell("for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do "
                                               "[ -e /proc/$$/fd/$i ] && set -- $* $i; done; echo $*"))
        self.assert_healthy("exit status 0: CapEff: 0000000000000000 NoNewPrivs: 1", type="exec",
                            command=self.shell("echo $(grep -E '^(CapEff|NoNewPrivs)' /proc/self/status)"))
        self.assert_healthy("exit status 0: 1000", type="exec", command=["/bin/cat", "/proc/self/oom_score_adj"])
        self.assert_says("failure", "exit status 1: unshare: .*", type="exec",
                         command=["/usr/bin/unshare", "--user", "/bin/true"])

    def test_further_files_can_be_read(self) -> None:
        program = self.directory / "program"
        program.write_text("#!/bin/sh\ncat \"$1\"\n", encoding="ascii")
        program.chmod(0o755)
        secret = self.directory / "secret"
        secret.write_text("what it needs", encoding="ascii")
        for file in (program, secret):
            self.addCleanup(file.unlink)
        self.assert_healthy("exit status 0: what it needs", type="exec", readable=[str(self.directory)],
                            command=[str(program), str(secret)])
        self.assert_says("failure", "exit status 1: cat: .*No such file or directory", type="exec",
                         readable=[str(program)], command=[str(program), str(secret)])

    def test_what_this_host_lacks_says_nothing_of_the_backend(self) -> None:
        self.assert_not_carried_out("not checked: cannot execute /usr/nonesuch: No such file or directory",
                                    type="exec", command=["/usr/nonesuch"])
        self.assert_not_carried_out("not checked: cannot execute /usr/share: Permission denied", type="exec",
                                    command=["/usr/share"])
        self.assert_not_carried_out("not checked: the sandbox could not be made: bwrap: Can't find source path "
                                    "/nonesuch: No such file or directory", type="exec", readable=["/nonesuch"],
                                    command=["/usr/bin/true"])

    def test_host_without_bubblewrap(self) -> None:
        hides = f"mount --bind /dev/null {need_command('bwrap')} && exec \"$@\""
        self.hiding_command = (need_command("unshare"), "--mount", "/bin/sh", "-c", hides, "sh")
        self.assert_says("not carried out",
                         "not checked: the sandbox could not be made: .*/usr/bin/bwrap.*: Permission denied",
                         type="exec", command=["/usr/bin/true"])


class ExecOfAnotherUser(Exec):
    """Of a sluiced that has no privileges."""

    user_command = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--")
