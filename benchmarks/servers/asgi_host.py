"""Runs the application of asgi_answers.

usage: python -m benchmarks.servers.asgi_host bare PORT
       python -m benchmarks.servers.asgi_host serve PORT DIRECTORY

bare   uvicorn runs it
serve  Ray Serve runs it: one replica behind its HTTP proxy, on a cluster of this process's own,
       whose files are in the directory

It needs an interpreter that has Ray Serve, which brings uvicorn. The application is in a module of
its own because Ray sends classes of the started one by value, but a cached function by its name,
which the replica's own ``__main__`` does not have.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from benchmarks.servers.asgi_answers import Answers

if TYPE_CHECKING:
    from collections.abc import Sequence

BARE, SERVE = "bare", "serve"
_HOST = "127.0.0.1"
# More than clients ask at once: what waits in a queue is not what is measured.
_MAX_RUNNING = 100
# uvicorn's are off too.
_QUIET = {"log_level": "WARNING", "enable_access_log": False}


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    how, port, *directory = arguments
    if how == BARE:
        _run_bare(int(port))
    else:
        _run_serve(int(port), *directory)


def _run_bare(port: int) -> None:
    import uvicorn

    uvicorn.run(Answers(), host=_HOST, port=port, log_level="warning", access_log=False)


def _run_serve(port: int, directory: str) -> None:
    import ray
    from ray import serve

    ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=directory)
    serve.start(http_options={"host": _HOST, "port": port}, logging_config=_QUIET)
    deployment = serve.deployment(max_ongoing_requests=_MAX_RUNNING)(serve.ingress(Answers())())
    serve.run(deployment.bind(), route_prefix="/", logging_config=_QUIET)
    # Ray ends its daemons when it is told to end.
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
