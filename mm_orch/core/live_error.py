"""What is said of options that cannot get other values while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import RequestError

if TYPE_CHECKING:
    from mm_orch.core.faults import Fault


class LiveChangeError(RequestError):
    """Options cannot get these values while the server runs; nothing has changed.

    Args:
        faults: everything that is wrong.
        live_names: the options that can be changed, where one is among the faults that cannot.
    """

    code = "config_change_refused"

    def __init__(self, faults: list[Fault], *, live_names: tuple[str, ...] = ()) -> None:
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        lines = "\n".join(f"  {fault}" for fault in faults)
        if live_names and any(fault.key not in live_names for fault in faults):
            names = ", ".join(live_names)
            lines += f"\nOptions that can be changed while the server runs: {names}."
        super().__init__(
            f"The change has {count}, so nothing is changed:\n{lines}",
            param=faults[0].key if faults else None,
        )
        self.faults = faults
