"""Which models visitors may name: repositories of the Hub that are public, small enough, and safe to read.

Everything is checked before a byte of weights is downloaded: the form of the id, that there are safetensors (other
formats can run code), their size, and that the configuration asks for no more memory than that. Requests carry no
token: a visitor must not see what the owner's can.
"""

from __future__ import annotations

import re

import torch
from huggingface_hub import HfApi, RepoFile
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import PreTrainedConfig

from ..encoders.model_types import facts_of, model_class_of
from ..errors import InputError

_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
_CONFIG_BYTES = 2**20
_LAYERS = 200
_TIMEOUT = 10.0  # seconds
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, on which huggingface_hub is built


class ModelError(InputError):
    """A model that cannot be shown; the message is for the visitor."""


def check_hub_model(name: str, max_bytes: int, api: HfApi | None = None) -> None:
    """Ask the Hub whether a model may be loaded.

    Args:
        name: ``owner/name``.
        max_bytes: of its weights.
        api: of another Hub, without a token.

    Raises:
        ModelError: it may not, or the Hub cannot be asked.
    """
    if not _ID.fullmatch(name) or ".." in name or "--" in name:
        raise ModelError(f"“{name[:80]}” is not the id of a model: write owner/name, as on huggingface.co.")
    try:
        api = api or HfApi(token=False)
        gated = api.model_info(name, timeout=_TIMEOUT, token=False).gated  # tried once: no long wait if the Hub is away
        tree = api.list_repo_tree(name, token=False)
        sizes = {file.path: file.size for file in tree if isinstance(file, RepoFile)}
    except RepositoryNotFoundError as error:
        raise ModelError(f"There is no public model {name} on the Hub; is it spelled right?") from error
    except (HfHubHTTPError, _HTTPError, OSError) as error:
        raise ModelError(f"The Hub cannot be asked about {name} just now ({type(error).__name__}).") from error
    if gated:
        raise ModelError(f"{name} is gated: it asks for an agreement first. Only open models can be used here.")
    weights = sum(size for file, size in sizes.items() if file.endswith(".safetensors"))
    if not weights:
        raise ModelError(f"{name} has no safetensors weights, and other formats are not read: they can run code.")
    if weights > max_bytes:
        raise ModelError(f"{name} has {weights / 2**20:,.0f} MB of weights; the limit is {max_bytes / 2**20:,.0f} MB.")
    if any(size > _CONFIG_BYTES for file, size in sizes.items() if file.endswith(".json") and "index" not in file):
        raise ModelError(f"{name} has a configuration of more than {_CONFIG_BYTES // 2**20} MB.")


def check_architecture(name: str, config: PreTrainedConfig, max_bytes: int) -> None:
    """Refuse a configuration that asks for more memory than weights of ``max_bytes`` can fill, before asking for it.

    Raises:
        ModelError: it does.
    """
    layers = getattr(config, "num_hidden_layers", None) or sum(getattr(config, "depths", None) or ())
    if layers > _LAYERS:
        raise ModelError(f"{name} has {layers} layers; the limit is {_LAYERS}.")
    with torch.device("meta"):
        model = model_class_of(config)(config, **facts_of(config).init_kwargs)
    needed = 4 * sum(parameter.numel() for parameter in model.parameters())
    if needed > 2 * max_bytes:  # half-precision checkpoints double in memory
        limit = 2 * max_bytes / 2**20
        raise ModelError(f"{name} takes {needed / 2**20:,.0f} MB of memory; the limit is {limit:,.0f} MB.")
