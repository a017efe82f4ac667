"""The stack on which this thread takes signals, kept as it was.

OpenVINO's CPU plug-in puts one of its own in its place on CPUs with AMX. Where several plug-ins
have lived in a process, one that goes may bring back the stack of one that has gone before: the
next signal then ends the process. Workers have one for as long as they live; tests have many.
"""

from __future__ import annotations

import ctypes
import sys


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def read_signal_stack() -> SignalStack:
    """Return the stack that this thread has now."""
    stack = SignalStack()
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


def restore_signal_stack(stack: SignalStack) -> None:
    """Give this thread a stack that it had, unless it has it."""
    now = read_signal_stack()
    if (now.address, now.size) != (stack.address, stack.size):
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
