"""What a replica runs on: memory, how fast it is read, how fast it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mm_orch.core.errors import InvalidValueError
from mm_orch.planning.fields import Field, parse_fields

_GB = 10**9
_TERA = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One replica's share of a machine.

    Attributes:
        name: for people.
        memory_bytes: for weights and KV memory together.
        bytes_per_s: read from memory, as programs reach it.
        flops_per_s: computed, as programs reach it.
        overhead_s: of a step as such.
        kv_element_bytes: of a number in KV memory.
        origin: where the figures come from.
    """

    name: str
    memory_bytes: float
    bytes_per_s: float
    flops_per_s: float
    overhead_s: float
    kv_element_bytes: int = 2
    origin: str = ""

    @property
    def words(self) -> str:
        """The figures for people."""
        return (
            f"{self.memory_bytes / _GB:.4g} GB of memory, {self.bytes_per_s / _GB:.4g} GB/s,"
            f" {self.flops_per_s / _TERA:.3g} TFLOP/s ({self.origin})"
        )


# Programs do not reach what data sheets say. How near they come depends on model and kernels:
# these are assumptions, and the options replace what they give.
_MEMORY_SHARE = 0.9
_BANDWIDTH_SHARE = 0.7
_FLOPS_SHARE = 0.5
_GPU_OVERHEAD_S = 0.001

# Memory in GB, bandwidth in GB/s, dense 16-bit TFLOP/s without sparsity: the vendors' data sheets,
# to which docs/scaling.md has links.
_DATA_SHEETS: dict[str, tuple[float, float, float]] = {
    "t4": (16, 320, 65),
    "a10": (24, 600, 125),
    "l4": (24, 300, 121),
    "l40s": (48, 864, 362),
    "a100-80gb": (80, 2039, 312),
    "h100-sxm": (80, 3350, 989),
    "h200": (141, 4800, 989),
    "mi300x": (192, 5300, 1307),
}
MACHINE = "machine"
"""The name that stands for what this program runs on."""
NAMES = (MACHINE, *_DATA_SHEETS)

_FIELDS = {
    "memory": Field(low=0.01, high=1e5, unit="GB"),
    "bandwidth": Field(low=0.1, high=1e6, unit="GB/s"),
    "tflops": Field(low=1e-4, high=1e6, unit="TFLOP/s"),
    "overhead": Field(low=0, high=1e4, unit="ms a step"),
}


def find_gpu(name: str) -> Hardware | None:
    """Return what may be expected of a GPU by its data sheet; None of an unknown one."""
    if name not in _DATA_SHEETS:
        return None
    memory, bandwidth, tflops = _DATA_SHEETS[name]
    return Hardware(
        name=name,
        memory_bytes=memory * _GB * _MEMORY_SHARE,
        bytes_per_s=bandwidth * _GB * _BANDWIDTH_SHARE,
        flops_per_s=tflops * _TERA * _FLOPS_SHARE,
        overhead_s=_GPU_OVERHEAD_S,
        origin=f"data sheet, {_BANDWIDTH_SHARE:.0%} of its bandwidth and {_FLOPS_SHARE:.0%} of its"
        " arithmetic",
    )


def change_hardware(hardware: Hardware, fields: str) -> Hardware:
    """Return hardware with some figures replaced by those that programs were seen to reach.

    Args:
        hardware: what stands where nothing is given.
        fields: such as ``memory=70,bandwidth=1500,tflops=180,overhead=1``.

    Raises:
        InvalidValueError: naming the field, its value and what is allowed.
    """
    standing = {
        "memory": hardware.memory_bytes / _GB,
        "bandwidth": hardware.bytes_per_s / _GB,
        "tflops": hardware.flops_per_s / _TERA,
        "overhead": hardware.overhead_s * 1000,
    }
    known = {name: replace(field, default=standing[name]) for name, field in _FIELDS.items()}
    values = parse_fields("--hardware", fields, known)
    return replace(
        hardware,
        memory_bytes=values["memory"] * _GB,
        bytes_per_s=values["bandwidth"] * _GB,
        flops_per_s=values["tflops"] * _TERA,
        overhead_s=values["overhead"] / 1000,
        origin=f"{hardware.origin}; with {fields}",
    )


def split_option(text: str) -> tuple[str, str]:
    """Return the name that ``--hardware`` begins with, and the fields after it.

    Raises:
        InvalidValueError: there is no hardware of that name.
    """
    name, _, fields = text.partition(",")
    name = name.strip().lower()
    if name not in NAMES:
        raise InvalidValueError(
            f"--hardware: {name!r} is not known; give one of {', '.join(NAMES)}, and then its own"
            f" figures if you know them: {', '.join(f'{field}=NUMBER' for field in _FIELDS)}"
        )
    return name, fields
