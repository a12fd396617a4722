"""File systems that were mounted below a directory: a bpffs, which keeps programs, links and maps alive."""

import pathlib

from testbed.commands import run

_MOUNTS = pathlib.Path("/proc/self/mountinfo")
_MOUNT_POINT = 4  # field of a line of proc(5) mountinfo


def mounts_below(directory: pathlib.Path) -> list[pathlib.Path]:
    """Mount points in the directory, the last one mounted first."""
    points = [pathlib.Path(line.split()[_MOUNT_POINT]) for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    return [point for point in reversed(points) if directory in point.parents]


def unmount_below(directory: pathlib.Path) -> None:
    """With a bpffs goes what is pinned in it."""
    for point in mounts_below(directory):
        run(["umount", str(point)])
