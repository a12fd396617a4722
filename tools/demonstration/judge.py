"""What the demo excuses, because it killed a server itself, and no more than that."""

import dataclasses
import math
from collections.abc import Sequence

from testbed.load import Failure

# How a connection ends when nobody listens any more. Nothing else is a kill's doing: no timeout, no wrong answer.
_REFUSED = {"ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError"}
# How one ends that the server had accepted and read from.
_CUT_SHORT = "IncompleteReadError"
_STANDARD_DEVIATIONS = 4


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a server was killed: some time between these (seconds of CLOCK_MONOTONIC)."""

    began: float
    over: float

    def explains(self, failure: Failure) -> bool:
        """Whether it is of a kind that the kill brings about, and of its time."""
        if failure.ended < self.began:
            return False
        return failure.kind in _REFUSED or (failure.kind == _CUT_SHORT and failure.began <= self.over)


@dataclasses.dataclass(frozen=True)
class Verdict:
    excused: list[Failure]
    blamed: list[Failure]


def judge_requests(failures: Sequence[Failure], kill: Kill, detected: float, attempts: int, share: float) -> Verdict:
    """Of new connections, those fail that hash to the killed server until it is detected: `share` of the
    `attempts` until then, which is a binomial draw. What exceeds that is blamed."""
    excusable = [one for one in failures if kill.explains(one) and one.began < detected]
    most = math.ceil(attempts * share + _STANDARD_DEVIATIONS * math.sqrt(attempts * share * (1 - share)))
    return Verdict(excusable[:most], [one for one in failures if one not in excusable] + excusable[most:])


def judge_held(failures: Sequence[Failure], kills: dict[str, Kill]) -> Verdict:
    """Of long-lived connections, those fail whose own server was killed (`kills`: by backend)."""
    excused = [one for one in failures if one.backend in kills and kills[one.backend].explains(one)]
    return Verdict(excused, [one for one in failures if one not in excused])


def dropped(verdicts: dict[str, int]) -> list[str]:
    """A line for each verdict that dropped packets: nothing that the demo does is a reason to."""
    return [f"{name}: {packets} packets" for name, packets in verdicts.items() if name.startswith("drop_") and packets]
