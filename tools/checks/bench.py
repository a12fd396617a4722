"""Running tools/bench briefly: whether it runs and reports, and what it counts; not what it times."""

import json
import math
import pathlib

from runner import Runner
from tally import Tally

_BENCHES = ("worker", "stages", "xdp", "maglev", "balance", "passive")
_FLOWS = ("1", "100000")
_DIFFERENCES = ("net_ns_per_packet", "multiple_of_empty")  # of two times: noise can make the first the smaller
_LARGEST_OVER_MEAN = 1.15  # of least-connection's active connections; from a seed, so the same everywhere


def run_bench(runner: Runner, program: pathlib.Path, text: str, results: pathlib.Path) -> Tally:
    """The benches whose names contain `text`; each is a test case. Their results go to `results`."""
    tally = Tally()
    names = [name for name in _BENCHES if text in name]
    if not names:
        return tally
    results.unlink(missing_ok=True)
    status = runner.run("bench", [program, "--quick", "--engine", "all", "--flows", *_FLOWS, "--only", *names,
                                  "--json", results], timeout_s=900)
    if status != 0:
        tally.fails(f"bench: ended with status {status} (log: {runner.log('bench')})")
        return tally
    try:
        measured = json.loads(results.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError) as error:
        tally.fails(f"bench: no results in {results}: {error!r}")
        return tally
    for name in names:
        problem = find_problem([one for one in measured if one.get("bench") == name])
        if problem:
            tally.fails(f"bench {name}: {problem} (results: {results})")
        else:
            tally.passes()
    return tally


def find_problem(results: list[dict]) -> str:
    """What is wrong with one bench's results, or nothing."""
    if not results:
        return "has no results"
    for one in results:
        numbers = {key: value for key, value in one.items() if isinstance(value, float)}
        if not numbers:
            return f"measured nothing: {one}"
        for key, value in numbers.items():
            if not math.isfinite(value) or (value < 0 and key not in _DIFFERENCES):
                return f"{key} is {value}"
        if one.get("scheduler") == "least-connection" and one.get("largest_over_mean", 0) > _LARGEST_OVER_MEAN:
            return f"is less even than {_LARGEST_OVER_MEAN}: {one}"
        if any(value is None for value in one.values()):  # what JSON makes of a number that is none
            return f"is not a number: {one}"
    return ""
