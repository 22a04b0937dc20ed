"""Reads the measured results that a model card shows.

Only what was measured of this very encoder is published: results are matched by the digest of its weights, not by
name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.model import open_model


class ResultsError(InputError):
    """Results that are not about the model they are to be published with."""


def read_results(paths: Iterable[str | os.PathLike[str]], encoder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """``results.json`` files (or the folders of evaluations), checked to be about this encoder.

    Args:
        paths: files or folders.
        encoder: folder of the stock encoder.

    Returns:
        Their contents; ``"this"`` holds the name that the encoder has in each.

    Raises:
        ResultsError: a file of another schema, or none of its models has this encoder's weights.
    """
    documents, identity = [], None
    for path in map(Path, paths):
        file = path / "results.json" if path.is_dir() else path
        results = json.loads(file.read_text(encoding="utf-8"))
        if results.get("schema_version") != 1:
            raise ResultsError(f"{file} has schema_version {results.get('schema_version')!r}; this version reads 1")
        identity = identity or open_model(str(encoder)).identity
        model = next((m["name"] for m in results["models"] if m["role"] == "model" and m["identity"] == identity), None)
        if model is None:
            named = ", ".join(m["name"] for m in results["models"] if m["role"] == "model")
            raise ResultsError(
                f"{file} is about {named}, not about the weights in {encoder}; run sp-hf evaluate on it first"
            )
        documents.append(results | {"this": model, "folder": file.parent})
    return documents
