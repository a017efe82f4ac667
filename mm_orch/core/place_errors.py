"""What goes wrong with the place of a worker: neither its engine nor its requests are to blame."""

from __future__ import annotations

from mm_orch.core.errors import DeviceLostError, EngineCrashedError, EngineStartError


class NoPlaceError(EngineStartError):
    """No place on the cluster could be had, or it was lost while the model was loading."""

    code = "no_place"


class NodeLostError(EngineCrashedError):
    """The machine on which the engine ran is lost, or the connection to it."""

    code = "node_lost"


OF_PLACE = (NoPlaceError, DeviceLostError, NodeLostError)
"""Nothing of these opens a circuit, makes a request suspect, or is remembered of an engine."""
