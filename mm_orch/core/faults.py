"""What can be wrong in what people write: configuration, and workflows in YAML."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in the configuration.

    Attributes:
        key: path such as ``optimization.batcher.max_batch_size``, or a variable's name.
        value: what was given, printable (secrets are masked).
        problem: what is allowed instead.
        origin: where it came from: a file, a variable, the command line.
        suggestion: the likely intended key or value, or None.
    """

    key: str
    value: str
    problem: str
    origin: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f" Did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{self.key} = {self.value} ({self.origin}): {self.problem}.{hint}"
