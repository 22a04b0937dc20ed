"""Which models visitors may name: repositories of the Hub that are public, small enough, and safe to read.

Everything is checked before a byte of weights is downloaded: the form of the id, that there are safetensors (other
formats can run code), and their size. Requests carry no token: a visitor must not see what the owner's can.
"""

from __future__ import annotations

import re

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

_ID = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")
_TIMEOUT = 10.0
_HTTPError = HfHubHTTPError.__bases__[0]  # of httpx or of httpx2, whichever huggingface_hub is built on


class ModelError(ValueError):
    """A model that cannot be shown; the message is for the visitor."""


def check_hub_model(name: str, max_bytes: int) -> None:
    """Ask the Hub whether a model may be loaded.

    Args:
        name: ``owner/name``.
        max_bytes: of its weights.

    Raises:
        ModelError: it may not, or the Hub cannot be asked.
    """
    if not _ID.fullmatch(name) or ".." in name or "--" in name:
        raise ModelError(f"“{name[:80]}” is not the id of a model: write owner/name, as on huggingface.co.")
    try:
        info = HfApi(token=False).model_info(name, files_metadata=True, timeout=_TIMEOUT, token=False)
    except GatedRepoError as error:
        raise ModelError(f"{name} asks for a login (it is gated); only public models can be shown here.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"There is no public model {name} on the Hub; is it spelled right?") from error
    except (HfHubHTTPError, _HTTPError, OSError, ValueError) as error:
        raise ModelError(f"The Hub cannot be asked about {name} just now ({type(error).__name__}).") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    weights = sum(size for file, size in sizes.items() if file.endswith(".safetensors") and "/" not in file)
    if not weights:
        raise ModelError(f"{name} has no safetensors weights, and other formats are not read: they can run code.")
    if weights > max_bytes:
        raise ModelError(f"{name} has {weights / 2**20:,.0f} MB of weights; the limit is {max_bytes / 2**20:,.0f} MB.")
