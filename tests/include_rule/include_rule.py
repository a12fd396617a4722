"""Who may include whom (one direction), checked over the sources as text.

A source belongs to the part whose folder is the longest match of its path. What a part may include of
the project is listed in PARTS, what it may include of libraries in LIBRARIES.
"""

import dataclasses
import pathlib
import re

SOURCE_SUFFIXES = {".h", ".cc", ".c", ".def"}

# Part: the folders and headers of the project that it may include, its own always.
PARTS: dict[str, tuple[str, ...]] = {
    "dataplane/abi": (),
    "dataplane/core": ("dataplane/abi",),
    "bpf": ("dataplane/abi", "dataplane/core"),
    "dataplane/server": ("dataplane/abi", "dataplane/core"),
    "dataplane/dpdk": ("dataplane/abi", "dataplane/core", "dataplane/server", "dataplane/libxdp_handles.h",
                       "dataplane/options.h", "dataplane/program.h"),
    "dataplane/xdp": ("dataplane/abi", "dataplane/core", "dataplane/server", "bpf", "dataplane/libxdp_handles.h",
                      "dataplane/options.h", "dataplane/program.h"),
    # The program that puts an engine and the server together.
    "dataplane/main": ("dataplane/abi", "dataplane/core", "dataplane/server", "dataplane/dpdk", "dataplane/xdp"),
    # The control plane places VIPs and finds connections with the very functions that packets are
    # decided by: hash.h, service.h and connection.h are the only ones of the core that it needs.
    "controlplane": ("dataplane/abi", "dataplane/core/hash.h", "dataplane/core/service.h",
                     "dataplane/core/connection.h"),
    "tools/sluicectl": ("controlplane/api", "dataplane/abi/result.h"),
    "tools/bench": ("dataplane", "bpf", "controlplane/compile", "controlplane/health", "controlplane/model",
                    "controlplane/sluiced", "tests"),
    "tools/testbed": (),
    "tests": ("dataplane", "controlplane", "tools", "bpf"),
}

# Library headers (regular expression on what stands between < and >): the parts that may include them.
LIBRARIES: dict[str, tuple[str, ...]] = {
    r"rte_.*": ("dataplane/dpdk", "dataplane/main", "tools/bench", "tests"),
    r"(bpf|xdp)/.*": ("dataplane/dpdk", "dataplane/xdp", "dataplane/main", "bpf", "tools/bench",
                    "tools/testbed", "tests"),
    r"(boost|curl|openssl|yaml-cpp)/.*|ares\.h|sqlite3\.h": ("controlplane", "tools/sluicectl", "tests"),
    r"seccomp\.h|sys/capability\.h": ("dataplane/main", "tests"),
    r"pcap(/.*|\.h)": ("tools/sluicectl", "tests"),
    r"nlohmann/.*|spdlog/.*|fmt/.*|CLI/.*": (
        "dataplane/server", "dataplane/dpdk", "dataplane/xdp", "dataplane/main", "controlplane",
        "tools/sluicectl", "tools/bench", "tests"),
}

# Headers that are read as C11 for the BPF target too: the control path's result type is not.
SHARED_WITH_C = ("dataplane/abi", "dataplane/core")
CXX_ONLY = {"dataplane/abi/result.h"}
PORTABILITY_HEADER = "dataplane/abi/portability.h"

_INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
_CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b\s*(.*)")


@dataclasses.dataclass(frozen=True, order=True)
class Violation:
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def check_tree(root: pathlib.Path) -> list[Violation]:
    """Every violation in the sources under `root`, in order."""
    found: list[Violation] = []
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        found += check_source(name, path.read_text(encoding="utf-8"))
    return sorted(found)


def sources(root: pathlib.Path) -> list[pathlib.Path]:
    """The C and C++ sources of the project's folders; build directories are none of them."""
    folders = {part.split("/")[0] for part in PARTS}
    return [path for folder in sorted(folders) for path in sorted((root / folder).rglob("*"))
            if path.suffix in SOURCE_SUFFIXES and path.is_file()]


def part_of(name: str) -> str | None:
    """The part that a path (or an included name) belongs to."""
    matches = [part for part in PARTS if name == part or name.startswith(part + "/")]
    if not matches and re.fullmatch(r"dataplane/[^/]+", name):
        return "dataplane/main"
    return max(matches, key=len, default=None)


def check_source(name: str, text: str) -> list[Violation]:
    part = part_of(name)
    if part is None:
        return [Violation(name, 0, "is in no folder that the include rule knows; add the folder to PARTS")]
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        include = _INCLUDE.match(line)
        if include and include.group(1):
            problem = _check_own(name, part, include.group(1))
        elif include:
            problem = _check_library(name, part, include.group(2))
        else:
            problem = None
        if problem:
            found.append(Violation(name, number, problem))
    return found + _check_conditionals(name, text)


def _is_under(included: str, allowed: str) -> bool:
    return included == allowed or included.startswith(allowed + "/")


def _check_own(name: str, part: str, included: str) -> str | None:
    if not any(_is_under(included, allowed) for allowed in (*_top_folders(), part)):
        return f'includes "{included}": name it from the top of the tree'
    if part_of(included) == part or any(_is_under(included, allowed) for allowed in PARTS[part]):
        if name.startswith(SHARED_WITH_C) and included in CXX_ONLY:
            return f'includes "{included}", which C cannot read'
        return None
    allowed = ", ".join(PARTS[part]) or "nothing else of the project"
    return f'includes "{included}"; {part} may include {allowed}'


def _top_folders() -> set[str]:
    return {part.split("/")[0] for part in PARTS}


def _check_library(name: str, part: str, included: str) -> str | None:
    if name.startswith(SHARED_WITH_C) and name not in CXX_ONLY | {PORTABILITY_HEADER}:
        return f"includes <{included}>; the core and the records use what {PORTABILITY_HEADER} gives them"
    for pattern, allowed in LIBRARIES.items():
        if re.fullmatch(pattern, included) and not any(_is_under(part, one) for one in allowed):
            return f"includes <{included}>; of the parts only {', '.join(allowed)} may"
    return None


def _check_conditionals(name: str, text: str) -> list[Violation]:
    """In what C and C++ share, the include guard is the only condition outside the portability header."""
    if not name.startswith(SHARED_WITH_C) or name == PORTABILITY_HEADER:
        return []
    conditions = [(number, match.group(1), match.group(2))
                  for number, line in enumerate(text.splitlines(), start=1)
                  if (match := _CONDITIONAL.match(line))]
    guard = conditions[:1] if conditions and conditions[0][1] == "ifndef" and \
        re.fullmatch(r"SLUICE_[A-Z0-9_]+_H", conditions[0][2].strip()) else []
    return [Violation(name, number, f"has #{kind} {what}; conditions belong in {PORTABILITY_HEADER}")
            for number, kind, what in conditions[len(guard):]]
