"""Fetches a model from the Hugging Face hub: safetensors only, at a fixed revision."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.recipe import is_module_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mm_orch.models.progress import Progress
    from mm_orch.models.source import HubSource

_WANTED_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class HubListing:
    """What to fetch: the commit that the revision means, and bytes by file name."""

    commit: str
    sizes: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        """Of all files together."""
        return sum(self.sizes.values())


def choose_files(repository: str, sizes: Mapping[str, int], *, with_code: bool) -> dict[str, int]:
    """Pick the files to fetch: of the top folder, and how its parts are configured.

    Args:
        repository: for messages.
        sizes: bytes by path.
        with_code: fetch Python files too (``trust_remote_code``).

    Raises:
        ModelStoreError: it has no safetensors, only pickled weights or none.
    """
    suffixes = (*_WANTED_SUFFIXES, ".py") if with_code else _WANTED_SUFFIXES
    chosen = {
        path: size
        for path, size in sizes.items()
        if ("/" not in path and path.endswith(suffixes)) or is_module_config(path)
    }
    if not any(path.endswith(".safetensors") for path in chosen):
        has_pickle = any(path.endswith(_PICKLE_SUFFIXES) for path in sizes)
        detail = ", only pickled weights, which can run code" if has_pickle else ""
        raise ModelStoreError(
            f"{repository} holds no .safetensors{detail}.",
            remedy="Use a model that is published as safetensors.",
        )
    return chosen


def list_repository(source: HubSource, *, with_code: bool) -> HubListing:
    """Ask the hub what the revision holds; HF_TOKEN and HF_ENDPOINT are honoured by its client.

    Raises:
        ModelStoreError: unknown repository or revision, no right to read it, or no network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(source.repository, revision=source.revision, files_metadata=True)
    except GatedRepoError as error:
        raise ModelStoreError(
            f"{source.repository} is gated.",
            remedy="Accept its terms on the hub and set HF_TOKEN.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        revision = source.revision or "its newest revision"
        raise ModelStoreError(
            f"The hub has no {source.repository} at {revision}, or it is private.",
            remedy="Check the spelling; for a private model set HF_TOKEN.",
        ) from error
    except _client_errors(HfHubHTTPError) as error:
        raise _unreachable(source, error) from error
    if found.sha is None or found.siblings is None:
        raise ModelStoreError(f"The hub says nothing of the files of {source.repository}.")
    sizes = {file.rfilename: file.size or 0 for file in found.siblings}
    return HubListing(found.sha, choose_files(source.repository, sizes, with_code=with_code))


def fetch_from_hub(
    source: HubSource, listing: HubListing, directory: Path, progress: Progress
) -> None:
    """Download the listed files into the directory; files that are there already are kept.

    Raises:
        ModelStoreError: the network failed; what has arrived is kept for the next try.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    progress.start(f"downloading {source.repository}", listing.total_bytes)
    try:
        for name, size in listing.sizes.items():
            hf_hub_download(source.repository, name, revision=listing.commit, local_dir=directory)
            progress.advance(size)
    except _client_errors(HfHubHTTPError) as error:
        raise _unreachable(source, error) from error
    finally:
        progress.finish()
    # The client's own notes on what it has fetched are of no use once all is there.
    shutil.rmtree(directory / ".cache", ignore_errors=True)
    # An earlier try may have been for another revision.
    for path in directory.iterdir():
        if path.is_file() and path.name not in listing.sizes:
            path.unlink()


def _client_errors(http_error: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what the hub's client may raise.

    Errors of its HTTP library pass through it, and which library that is changes with its
    version: the client's own HTTP error is derived from that library's. A name that the hub
    would not allow is a ValueError.
    """
    return (*http_error.__bases__, OSError, ValueError)


def _unreachable(source: HubSource, error: Exception) -> ModelStoreError:
    return ModelStoreError(
        f"{source.repository} cannot be fetched from the hub: {type(error).__name__}: {error}.",
        remedy="Check network and proxy, then run the command again.",
    )
