"""What the demo prints."""

import sys
import time
from collections.abc import Sequence

_LINE_INTERVAL_S = 5.0  # between signs of life when the output is no terminal


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The first column to the left, the others to the right."""
    lines = [[str(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(line, widths))]
        print("   " + "  ".join(cells).rstrip(), flush=True)


class Progress:
    """One line that is rewritten on a terminal, and repeated now and then elsewhere."""

    def __init__(self, what: str):
        self._what = what
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._last = self._began
        self._width = 0

    def show(self, text: str) -> None:
        line = f"   {self._what}: {text}"
        if self._terminal:
            print("\r" + line.ljust(self._width), end="", flush=True)
            self._width = len(line)
        elif time.monotonic() - self._last > _LINE_INTERVAL_S:
            print(line, flush=True)
            self._last = time.monotonic()

    def done(self, text: str) -> None:
        took = time.monotonic() - self._began
        line = f"   {self._what}: {text} ({took:.1f} s)"
        print(("\r" if self._terminal else "") + line.ljust(self._width), flush=True)
