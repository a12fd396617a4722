#!/usr/bin/env python3
"""Runs the XDP tests on another kernel than this host's, in QEMU without KVM.

It takes kernel packages as files, so that it needs no network: a Debian image, or an Ubuntu image and its modules
(apt-get download linux-image-VERSION). What runs is gathered from the build directory and this system. Needs
qemu-system-x86, busybox-static and cpio, which nothing else of this project needs.
"""

import argparse
import lzma
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

_SOURCE = pathlib.Path(__file__).resolve().parents[2]
_MARK = "on_kernel:"
_MEMORY_MIB = 6144
# By name: the program in the build directory and its arguments.
_TESTS = {
    "verifier": ("tests/xdp/xdp_verifier_test",),
    "program": ("tests/xdp/xdp_program_test",),
    "engine": ("tests/xdp/xdp_engine_test",),
    "dataplane": ("tests/xdp/xdp_dataplane_test", "dataplane/sluice-dataplane"),
    "dispatcher": ("tests/xdp/xdp_dispatcher_test",),
    "vectors": ("tests/vectors/vectors_xdp_test",),
    "parity": ("tests/parity/parity_test",),
}
_SYSTEM_PROGRAMS = ("bash", "bpftool", "dash", "ethtool", "ip", "mount", "nsenter", "unshare")
_SYSTEM_FOLDERS = ("/usr/lib/x86_64-linux-gnu/bpf", "/usr/lib/x86_64-linux-gnu/dpdk")  # of libxdp and DPDK
_MODULES = ("veth", "tun", "llc", "stp", "bridge")  # in the order of their needs
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_INIT = """#!/bin/sh
export PATH=/usr/bin:/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
for module in {modules}; do insmod /$module; done
ip link set lo up
echo "{mark} kernel $(uname -r)"
cd /tmp
{commands}
poweroff -f
"""


class Problem(Exception):
    """What the user is told."""


def run(argv: list[str], **options) -> str:
    """Runs a command to its end and returns what it printed."""
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout
    except FileNotFoundError as error:
        raise Problem(f'the command "{argv[0]}" is not installed') from error
    except subprocess.CalledProcessError as error:
        raise Problem(f'"{" ".join(argv)}" failed: {error.stderr.strip()}') from error


def program(name: str) -> pathlib.Path:
    """Where a command of this system is."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise Problem(f'the command "{name}" is not installed')
    return pathlib.Path(found)


def unpack(packages: list[pathlib.Path], into: pathlib.Path) -> tuple[pathlib.Path, dict[str, bytes]]:
    """The kernel of the packages, and the modules that the tests need, by file name in the order of loading."""
    for package in packages:
        run(["dpkg-deb", "-x", str(package), str(into)])
    kernels = list(into.glob("boot/vmlinuz-*"))
    if len(kernels) != 1:
        raise Problem(f"packages: {len(kernels)} kernels are in them, not one")
    modules = {}
    for name in _MODULES:
        for file in into.glob(f"**/{name}.ko*"):
            content = file.read_bytes()
            modules[f"{name}.ko"] = lzma.decompress(content) if file.suffix == ".xz" else content
    if "veth.ko" not in modules:
        raise Problem("packages: no module for veth is in them; Ubuntu has a package of modules beside the image")
    return kernels[0], modules


def add_file(file: pathlib.Path, root: pathlib.Path) -> None:
    """Copies a file to the same path in the guest, by the same links: DPDK minds a library that it loads twice."""
    file = file.parent.resolve() / file.name
    target = root / file.relative_to("/")
    if target.exists() or target.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink():
        target.symlink_to(file.readlink())
        add_file(file.parent / file.readlink(), root)
    else:
        shutil.copy2(file, target)


def add_libraries_of(file: pathlib.Path, root: pathlib.Path) -> None:
    """Adds what a program or library is linked with."""
    listing = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+)", listing):
        add_file(pathlib.Path(library), root)


def add_system(root: pathlib.Path) -> None:
    """Adds the commands and files of this system that the tests use."""
    busybox = program("busybox")
    (root / "bin").mkdir()
    shutil.copy2(busybox, root / "bin/busybox")
    for applet in run([str(busybox), "--list"]).split():
        if applet not in (*_SYSTEM_PROGRAMS, "busybox", "sh"):
            (root / "bin" / applet).symlink_to("busybox")
    for name in _SYSTEM_PROGRAMS:
        shutil.copy2(program(name), root / "usr/bin" / name)
        add_libraries_of(program(name), root)
    (root / "bin/sh").symlink_to("/usr/bin/dash")
    for folder in _SYSTEM_FOLDERS:
        for file in pathlib.Path(folder).glob("**/*"):
            if not file.is_dir():
                add_file(file, root)
                add_libraries_of(file, root)


def make_root(root: pathlib.Path, build: pathlib.Path, tests: list[str], modules: dict[str, bytes]) -> None:
    """Fills the guest's root directory."""
    for folder in ("dev", "proc", "sys", "tmp", "run", "etc", "t", "usr/bin", "usr/lib", "usr/lib64", "var"):
        (root / folder).mkdir(parents=True)
    for link, to in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "/run")):
        (root / link).symlink_to(to)
    add_system(root)
    vectors = _SOURCE / "tests/vectors/files"
    shutil.copytree(vectors, root / vectors.relative_to("/"))
    for name in {name for test in tests for name in _TESTS[test]}:
        shutil.copy2(build / name, root / "t")
        add_libraries_of(build / name, root)
    for name, content in modules.items():
        (root / name).write_bytes(content)
    commands = []
    for test in tests:
        line = " ".join("/t/" + pathlib.Path(name).name for name in _TESTS[test])
        commands.append(f'{line} > /tmp/out 2>&1 && echo "{_MARK} {test} passed" || '
                        f'{{ tail -c 20000 /tmp/out; echo "{_MARK} {test} FAILED"; }}')
    (root / "init").write_text(_INIT.format(mark=_MARK, modules=" ".join(modules), commands="\n".join(commands)))
    (root / "init").chmod(0o755)


def boot(kernel: pathlib.Path, root: pathlib.Path, timeout_s: float) -> list[str]:
    """Runs the guest to its end, shows what it prints, and returns the lines that are marked as ours."""
    image = root.parent / "initrd"
    with image.open("wb") as file:
        names = run(["find", "."], cwd=root)
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], input=names.encode(), stdout=file,
                       cwd=root, check=True)
    # One thread for both CPUs: code that the kernel patches while the other CPU runs it is not seen in time else.
    argv = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m",
            str(_MEMORY_MIB), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel",
            str(kernel), "-initrd", str(image), "-append", "console=ttyS0 quiet panic=-1 oops=panic"]
    try:
        guest = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise Problem('the command "qemu-system-x86_64" is not installed') from error
    except subprocess.TimeoutExpired as error:
        raise Problem(f"the guest did not end within {timeout_s:g} s") from error
    text = guest.stdout.decode(errors="replace").replace("\r", "")
    print(text)
    return [line for line in text.splitlines() if line.startswith(_MARK)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a build directory, with the tests built")
    parser.add_argument("--tests", nargs="+", choices=_TESTS, metavar="TEST",
                        default=[test for test in _TESTS if test != "parity"],
                        help=f"of {', '.join(_TESTS)}; default: all but parity, which takes long")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds")
    parser.add_argument("packages", nargs="+", type=pathlib.Path, help=".deb files of one kernel")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-on-kernel-") as folder:
            kernel, modules = unpack(options.packages, pathlib.Path(folder) / "kernel")
            root = pathlib.Path(folder) / "root"
            make_root(root, options.build, options.tests, modules)
            lines = boot(kernel, root, options.timeout)
    except Problem as problem:
        print(f"on_kernel: {problem}", file=sys.stderr)
        return 2
    passed = [line for line in lines if line.endswith("passed")]
    return 0 if len(passed) == len(options.tests) else 1


if __name__ == "__main__":
    sys.exit(main())
