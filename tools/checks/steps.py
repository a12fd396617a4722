"""The steps of the check, in order. Each returns a Tally and prints why something failed."""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import bench
import meson_steps
from runner import Runner
from tally import Tally

FOLDERS = ("dataplane", "bpf", "controlplane", "tools", "tests")
PACKET_PATH = ("dataplane",)
FORMATTED_SUFFIXES = {".h", ".cc", ".c"}
_FUZZ_SECONDS = 20
# The build is g++'s; what clang needs for coroutines stands in controlplane/health/meson.build, too.
_COROUTINES_IN_CLANG_14 = ("-D__cpp_impl_coroutine=201902L", "-DBOOST_ASIO_HAS_CO_AWAIT",
                           "-DBOOST_ASIO_HAS_STD_COROUTINE")
_SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """Where the check runs and what it was asked for."""

    runner: Runner
    root: pathlib.Path
    text: str   # of --filter
    tidy_folders: tuple[str, ...]

    @property
    def release(self) -> pathlib.Path:
        return self.root / "build-check"

    @property
    def sanitized(self) -> pathlib.Path:
        return self.root / "build-check-sanitized"

    @property
    def fuzzing(self) -> pathlib.Path:
        return self.root / "build-check-fuzz"


def format_sources(check: Check) -> Tally:
    """clang-format has nothing to change."""
    tally = Tally()
    files = [path for folder in FOLDERS for path in sorted((check.root / folder).rglob("*"))
             if path.suffix in FORMATTED_SUFFIXES and path.is_file()]
    if check.runner.run("format", ["clang-format", "--dry-run", "-Werror", *files]) != 0:
        tally.fails(f"format: clang-format -i would change files (log: {check.runner.log('format')})")
    else:
        tally.passes()
    return tally


def build_release(check: Check) -> Tally:
    """As the demo builds it, with warnings as errors."""
    return meson_steps.build(check.runner, "build", check.release, ["--werror", "-Dbuildtype=release"], [],
                             compiler("gcc", "g++"))


def unit_tests(check: Check) -> Tally:
    return meson_steps.run_tests(check.runner, check.release, "unit", check.text, os.cpu_count() or 1, {})


def root_tests(check: Check) -> Tally:
    """Those with namespaces, taps and XDP programs: one at a time."""
    return meson_steps.run_tests(check.runner, check.release, "root", check.text, 1, {})


def end_to_end(check: Check) -> Tally:
    """The program tests/e2e/run.py writes what it counted as JSON."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as directory:
        result = pathlib.Path(directory) / "result.json"
        status = check.runner.run(
            "e2e", ["/usr/bin/python3", "-B", "tests/e2e/run.py", "--build", check.release, "--result", result,
                    "--filter", check.text])
        if not result.exists():
            tally.fails(f"e2e: ended with status {status} and no result (log: {check.runner.log('e2e')})")
            return tally
        counted = json.loads(result.read_text(encoding="utf-8"))
    tally.passes(counted["passed"])
    for name in counted["skipped"]:
        tally.skips(f"e2e: {name}")
    for name in counted["failures"]:
        tally.fails(f"e2e: {name} (log: {check.runner.log('e2e')})")
    return tally


def bench_briefly(check: Check) -> Tally:
    """That the bench runs: it would rot unseen."""
    return bench.run_bench(check.runner, check.release / "tools" / "bench" / "sluice-bench", check.text,
                           check.runner.logs / "bench.json")


def sanitizers(check: Check) -> Tally:
    """The unit tests once more, under AddressSanitizer and UndefinedBehaviorSanitizer. With -Og and line tables
    alone g++ takes a third of the time that it takes with -O1 -g, and stacks still name file and line."""
    options = ["-Dbuildtype=debug", "-Doptimization=g", "-Dc_args=-g1", "-Dcpp_args=-g1",
               "-Db_sanitize=address,undefined"]
    environment = compiler("gcc", "g++")
    tally = meson_steps.build(check.runner, "build-sanitized-setup", check.sanitized, options,
                              ["build.ninja"], environment)
    if tally.failed:
        return tally
    targets = meson_steps.test_targets(check.sanitized, "unit")
    tally = meson_steps.build(check.runner, "build-sanitized", check.sanitized, options, targets, environment)
    if not tally.failed:
        tally.add(meson_steps.run_tests(check.runner, check.sanitized, "unit", check.text, os.cpu_count() or 1,
                                        _SANITIZER_ENVIRONMENT))
    return tally


def fuzz(check: Check) -> Tally:
    """Each libFuzzer target for a short while, from its seeds if it has some."""
    options = ["-Dfuzzers=true", "-Dbuildtype=debugoptimized", "-Db_lundef=false",
               "-Db_sanitize=address,undefined"]
    environment = compiler("clang", "clang++")
    tally = meson_steps.build(check.runner, "build-fuzz-setup", check.fuzzing, options, ["build.ninja"],
                              environment)
    if tally.failed:
        return tally
    targets = fuzz_targets(check)
    names = [str(path.relative_to(check.fuzzing)) for path in targets]
    tally = meson_steps.build(check.runner, "build-fuzz", check.fuzzing, options, names, environment)
    if not targets:
        tally.fails("fuzz: no targets are built")
    if not tally.failed:
        for target in targets:
            if check.text in target.name:
                _fuzz_one(check, target, tally)
    return tally


def fuzz_targets(check: Check) -> list[pathlib.Path]:
    here = str(check.root / "tests" / "fuzz")
    return sorted(pathlib.Path(target["filename"][0])
                  for target in meson_steps.introspect(check.fuzzing, "targets")
                  if target["type"] == "executable" and target["defined_in"].startswith(here))


def _fuzz_one(check: Check, target: pathlib.Path, tally: Tally) -> None:
    """New inputs go to a directory that is thrown away; what crashes stays beside the log."""
    name = f"fuzz-{target.name}"
    subject = target.name.removesuffix("_fuzz")
    folder = check.root / "tests" / "fuzz"
    seeds, dictionary = folder / "seeds" / subject, folder / f"{subject}.dict"
    with tempfile.TemporaryDirectory() as found:
        argv = [target, f"-max_total_time={_FUZZ_SECONDS}", f"-artifact_prefix={check.runner.logs}/{name}-",
                "-print_final_stats=1", *([f"-dict={dictionary}"] if dictionary.exists() else []),
                found, *([seeds] if seeds.is_dir() else [])]
        status = check.runner.run(name, argv, environment=_SANITIZER_ENVIRONMENT, timeout_s=20 * _FUZZ_SECONDS)
    if status == 0:
        tally.passes()
    else:
        tally.fails(f"{name}: found something (log: {check.runner.log(name)})")


def tidy(check: Check) -> Tally:
    """clang-tidy over the packet path; with --full over every file that the build compiles, which takes a
    quarter of an hour. -Wno-restrict is for g++ and unknown to clang."""
    tally = Tally()
    folders = "|".join(check.tidy_folders)
    coroutines = [f"-extra-arg={argument}" for argument in _COROUTINES_IN_CLANG_14]
    argv = ["run-clang-tidy", "-quiet", "-extra-arg=-Wno-unknown-warning-option", *coroutines, "-p", check.release,
            "-j", str(os.cpu_count() or 1), f"{check.root}/({folders})/.*"]
    if check.runner.run("tidy", argv) != 0:
        tally.fails(f"tidy: clang-tidy has findings (log: {check.runner.log('tidy')})")
    else:
        tally.passes()
    return tally


def compiler(c: str, cxx: str) -> dict[str, str]:
    """The environment that makes meson take these compilers, through ccache where it is installed."""
    cache = "ccache " if shutil.which("ccache") else ""
    return {"CC": cache + c, "CXX": cache + cxx}


@dataclasses.dataclass(frozen=True)
class Step:
    name: str
    title: str
    run: Callable[[Check], Tally]
    quick: bool   # also with --quick
    needed: bool  # the rest makes no sense without it


STEPS = (
    Step("format", "formatting", format_sources, True, False),
    Step("build", "build, warnings as errors", build_release, True, True),
    Step("unit", "unit tests", unit_tests, True, False),
    Step("root", "tests that need root", root_tests, True, False),
    Step("e2e", "end to end", end_to_end, True, False),
    Step("bench", "the bench, briefly", bench_briefly, True, False),
    Step("sanitizers", "unit tests under ASan and UBSan", sanitizers, False, False),
    Step("fuzz", "fuzzing, briefly", fuzz, False, False),
    Step("tidy", "clang-tidy", tidy, False, False),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="check", description="Builds Sluice and runs every test. Needs root. The last line is "
        '"N passed, N failed, N skipped"; the status is 0 only if nothing failed and nothing was skipped.')
    parser.add_argument("--quick", action="store_true",
                        help="without the builds under sanitizers and for fuzzing, and without clang-tidy")
    parser.add_argument("--full", action="store_true", help="clang-tidy over everything, not the packet path alone")
    parser.add_argument("--step", action="append", choices=[step.name for step in STEPS], default=[],
                        help="only this step; may be repeated (unit, root, e2e and bench test what build has built)")
    parser.add_argument("--filter", default="", metavar="TEXT",
                        help="only tests whose name contains TEXT (format and clang-tidy are left out)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("some tests need network namespaces and XDP: run this with sudo")
    return arguments
