"""The `transformers` library and the hub of models from which it and timm download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from camcli.errors import ModelError, one_line

CONFIG = "config.json"
"""The file that describes a network in a folder that `save_pretrained` wrote."""
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError),
    *(SafetensorError, UnpicklingError),
)
"""Errors that `transformers` raises for a folder that is damaged or not one of its models."""


class HubError(Exception):
    """A model that cannot be downloaded, with the reason.

    `known` is False if the hub has no model of the name, or can have none.
    """

    def __init__(self, reason: str, *, known: bool) -> None:
        super().__init__(reason)
        self.known = known


def require_transformers(use: str) -> Any:
    """Return the library `transformers`. Raises ModelError with `use`, which needs it."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"{use} transformers ({one_line(error)}): pip install 'camcli[transformers]'"
        ) from None
    return transformers


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of some files that is in a folder."""
    return next((folder / file for file in names if (folder / file).is_file()), None)


def cached_file(name: str, file: str) -> Path | None:
    """Return a file of a model that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None


def hub_folder(name: str, weights: Sequence[str]) -> Path:
    """Return the folder of a model in the hub's cache. It is downloaded if needed.

    `weights` are file names, the best first; one of them is downloaded. Raises HubError.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        cached = Path(snapshot_download(name, allow_patterns=[CONFIG], local_files_only=True))
        if find_file(cached, weights):
            return cached
    except HFValidationError as error:
        raise HubError(one_line(error), known=False) from None
    except OSError:
        pass  # not in the cache
    try:
        # Ask first: without a connection, a download retries for minutes.
        there = [file.rfilename for file in HfApi().model_info(name, timeout=10).siblings or ()]
        best = [file for file in weights if file in there][:1]
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", *best]))
    except RepositoryNotFoundError as error:
        raise HubError(one_line(error), known=False) from None
    except Exception as error:  # noqa: BLE001 - depends on the HTTP client of the hub's library
        raise HubError(one_line(error), known=True) from None


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Suppress the library's progress bars and reports; failures raise errors anyway."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
