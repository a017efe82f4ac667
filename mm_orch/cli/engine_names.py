"""Whether a word of the command line names an engine."""

from __future__ import annotations

from mm_orch.cli import terminal


def is_known_engine(name: str | None) -> bool:
    """Whether the name may be asked for (None always may); complains where not.

    A known engine may still be unable to run here: that is a failure, not wrong usage.
    """
    from mm_orch.optimization.registry import engine_names, probe_engines

    if name is None:
        return True
    names = {*engine_names(), *(availability.engine for availability in probe_engines())}
    if name in names:
        return True
    terminal.complain(f"No engine is named {name!r}. Known: {', '.join(sorted(names))}.")
    return False
