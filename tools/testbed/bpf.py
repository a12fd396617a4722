"""The testbed's BPF programs, compiled when it comes up: it takes a tenth of a second each."""

import pathlib
import platform

from testbed.commands import need_command, run

_SOURCES = pathlib.Path(__file__).resolve().parent


class Programs:
    """Object files in the testbed's directory."""

    def __init__(self, directory: pathlib.Path):
        self.decap = directory / "decap.bpf.o"      # XDP, on each backend's interface
        self.pass_all = directory / "pass.bpf.o"    # XDP, on the fabric's end of the balancer's wires
        self.silence = directory / "silence.bpf.o"  # tc ingress, on the balancer's interfaces

    def compile(self) -> None:
        for target in (self.decap, self.pass_all, self.silence):
            source = _SOURCES / (target.stem + ".c")
            run([need_command("clang"), "-target", "bpf", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
                 f"-I/usr/include/{platform.machine()}-linux-gnu", "-c", str(source), "-o", str(target)])
