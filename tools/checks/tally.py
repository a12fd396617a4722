"""What a step found, and how the steps add up."""

import dataclasses


@dataclasses.dataclass
class Tally:
    """Test cases by their result; `failures` and `omissions` have a line for each failed and skipped one."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    omissions: list[str] = dataclasses.field(default_factory=list)

    def passes(self, count: int = 1) -> None:
        self.passed += count

    def fails(self, what: str) -> None:
        self.failed += 1
        self.failures.append(what)

    def skips(self, what: str) -> None:
        self.skipped += 1
        self.omissions.append(what)

    def add(self, other: "Tally") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.omissions += other.omissions

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
