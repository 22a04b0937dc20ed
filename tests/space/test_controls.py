"""What the components of the page take and refuse."""

from __future__ import annotations

import pytest

gradio = pytest.importorskip("gradio", reason="the Space needs Gradio: pip install gradio")
from sp_hf.space.controls import LINE_UP, models_box  # noqa: E402


def test_a_line_up_names_each_model_once():
    with gradio.Blocks():
        box = models_box(["A", "B"], ["A"])
    assert box.preprocess([" A", "B", "A "]) == ["A", "B"] and box.preprocess("A") == ["A"]
    for odd in (None, 5, [5], [["A"]], {"A": 1}, [str(n) for n in range(LINE_UP + 1)]):
        with pytest.raises(gradio.Error, match="Name one to"):
            box.preprocess(odd)
