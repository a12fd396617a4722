"""The demo excuses what its own kill of a server brings about, and nothing else."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "demonstration")]
# Found by the line above.
import judge  # noqa: E402
from testbed.load import Failure  # noqa: E402

_KILL = judge.Kill(began=10.0, over=10.1)
_DETECTED = 12.0


def failure(kind: str = "ConnectionRefusedError", *, backend: str | None = None, began: float = 11.0,
            ended: float = 11.1) -> Failure:
    return Failure("198.51.100.10:80", backend, f"{kind}: no", 2048, began, ended)


def requests(*failures: Failure, attempts: int = 400, share: float = 0.25) -> judge.Verdict:
    return judge.judge_requests(failures, _KILL, _DETECTED, attempts, share)


class Requests(unittest.TestCase):
    def test_refused_and_reset_connections_are_excused(self) -> None:
        kinds = ("ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError")
        self.assertEqual(requests(*map(failure, kinds)).blamed, [])

    def test_other_kinds_are_blamed(self) -> None:
        for kind in ("TimeoutError", "BadResponse", "OSError", "ValueError"):
            with self.subTest(kind):
                self.assertEqual(len(requests(failure(kind)).blamed), 1)

    def test_answer_cut_short_is_excused_only_on_a_connection_from_before_the_kill(self) -> None:
        self.assertEqual(requests(failure("IncompleteReadError", began=9.9)).blamed, [])
        self.assertEqual(len(requests(failure("IncompleteReadError", began=10.2)).blamed), 1)

    def test_failure_before_the_kill_or_after_detection_is_blamed(self) -> None:
        self.assertEqual(len(requests(failure(began=9.0, ended=9.1)).blamed), 1)
        self.assertEqual(len(requests(failure(began=12.1, ended=12.2)).blamed), 1)

    def test_no_more_than_the_killed_servers_share_is_excused(self) -> None:
        # 400 attempts, a quarter of them: 100, standard deviation 8.7, and four of them.
        verdict = requests(*[failure(began=11 + i / 1000) for i in range(200)])
        self.assertEqual((len(verdict.excused), len(verdict.blamed)), (135, 65))


class Held(unittest.TestCase):
    def test_connections_of_the_killed_server_are_excused(self) -> None:
        for kind in ("ConnectionResetError", "IncompleteReadError"):
            verdict = judge.judge_held([failure(kind, backend="b3", began=1.0)], {"b3": _KILL})
            self.assertEqual((len(verdict.excused), verdict.blamed), (1, []))

    def test_connections_of_other_servers_are_blamed(self) -> None:
        for backend in ("b1", None):
            self.assertEqual(len(judge.judge_held([failure(backend=backend, began=1.0)], {"b3": _KILL}).blamed), 1)

    def test_connection_that_another_server_answered_is_blamed(self) -> None:
        self.assertEqual(len(judge.judge_held([failure("BadResponse", backend="b3")], {"b3": _KILL}).blamed), 1)


class Drops(unittest.TestCase):
    def test_each_verdict_that_dropped_is_blamed(self) -> None:
        self.assertEqual(judge.dropped({"forward_new": 5, "drop_hop_limit": 0, "drop_no_backend": 2}),
                         ["drop_no_backend: 2 packets"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
