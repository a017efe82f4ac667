"""What the first rank sends the others: one order to load, then one frame a step.

stdin of a follower   RankOrder as a JSON line, then frames until the end of file
frame                 length, 4 bytes, then a StepFrame as msgpack
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

import msgspec

from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.pytorch.shapes import round_up_rows

if TYPE_CHECKING:
    import torch

    from mm_orch.optimization.engines.pytorch.packed import PackedStep

RANK_LOST_EXIT_CODE = 4
"""With which a worker ends whose ranks are no longer complete or in line."""

_WARM_UP_TOKENS = 4
_LENGTH = struct.Struct(">I")


class RankOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank has to know to load its share of a model.

    Attributes:
        spec: the model.
        rank: counts from 0.
        num_ranks: of the model.
        num_threads: size of this rank's compute pool.
        dtype: fp32, bf16 or fp16.
        device: cpu or cuda:N.
        port: where the first rank's store listens; 0 with one rank.
        uses_shared_memory: add up through memory that the ranks share, else through sockets.
        wants_kernels: let DeepSpeed put its own kernels in.
    """

    spec: EngineSpec
    rank: int
    num_ranks: int
    num_threads: int
    dtype: str
    device: str
    port: int
    uses_shared_memory: bool
    wants_kernels: bool

    @property
    def num_warm_up_tokens(self) -> int:
        """Tokens of the step by which the ranks are checked."""
        return min(_WARM_UP_TOKENS, self.spec.context_length)

    @property
    def max_rows(self) -> int:
        """Rows that a step has at most, with room for rounding up."""
        return round_up_rows(self.spec.max_batch_tokens + self.spec.max_batch_size)


class StepFrame(msgspec.Struct, frozen=True, array_like=True):
    """A packed step; a segment is first row, rows, keys and blocks."""

    token_ids: list[int]
    positions: list[int]
    slots: list[int]
    wanted_rows: list[int]
    segments: list[tuple[int, int, int, list[int]]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StepFrame)


def write_step(pipe: IO[bytes], data: bytes) -> None:
    """Send one encoded step; raises OSError when nobody reads."""
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def read_step(pipe: IO[bytes], device: torch.device) -> PackedStep | None:
    """Wait for a step and return it on the device; None at the end of the file."""
    length = pipe.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(length)[0]
    data = pipe.read(size)
    return decode_step(data, device) if len(data) == size else None


def encode_step(step: PackedStep) -> bytes:
    """Return the step as msgpack."""
    frame = StepFrame(
        token_ids=step.token_ids.tolist(),
        positions=step.positions.tolist(),
        slots=step.slots.tolist(),
        wanted_rows=step.wanted_rows.tolist(),
        segments=[(s.begin, s.num_new_tokens, s.num_keys, s.block_ids) for s in step.segments],
    )
    return _encoder.encode(frame)


def decode_step(data: bytes, device: torch.device) -> PackedStep:
    """Return the step that was encoded, its tensors on the device."""
    import torch

    from mm_orch.optimization.engines.pytorch.packed import PackedStep, Segment

    frame = _decoder.decode(data)
    return PackedStep(
        token_ids=torch.tensor(frame.token_ids, device=device),
        positions=torch.tensor(frame.positions, device=device),
        slots=torch.tensor(frame.slots, device=device),
        segments=tuple(Segment(*sizes, device) for sizes in frame.segments),
        wanted_rows=torch.tensor(frame.wanted_rows, dtype=torch.long, device=device),
    )
