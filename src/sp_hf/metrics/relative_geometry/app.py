"""Try the metric in a browser: ``python app.py``, or as a Hugging Face Space. Inputs and metrics are JSON."""

import json
from pathlib import Path

import evaluate
import gradio as gr

FOLDER = Path(__file__).resolve().parent
NAME = "relative_geometry"
EXAMPLE = """\
{
  "predictions": [[0.5, 0.0, 0.0, 0.0], [0.25, 0.25, 0.0, 0.0], [-0.25, -0.5, 0.0, 0.0]],
  "references": [[0.75, 0.25, 0.25, 0.25], [0.75, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]],
  "first_boxes": [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.5, 0.5], [0.5, 0.75, 0.25, 0.25]]
}
"""


def compute(inputs: str) -> dict:
    """The metrics, from the arguments of ``compute`` as JSON."""
    metric = evaluate.load(str(FOLDER / f"{NAME}.py"))  # anew: a failure leaves rows behind
    try:
        return metric.compute(**json.loads(inputs))
    except (TypeError, ValueError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def interface() -> gr.Interface:
    """The page: an editor with the example, the metrics, and the README below."""
    return gr.Interface(
        fn=compute,
        inputs=gr.Code(EXAMPLE, language="json", label="Inputs"),
        outputs=gr.JSON(label="Metrics"),
        title=f"Metric: {NAME}",
        article=(FOLDER / "README.md").read_text(encoding="utf-8").split("---", 2)[2],  # without the front matter
        flagging_mode="never",
    )


if __name__ == "__main__":
    interface().launch()
