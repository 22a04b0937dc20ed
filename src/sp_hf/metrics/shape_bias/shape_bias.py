"""Shape bias: does a classifier go by shape or by texture when the two disagree?

On cue-conflict images (the shape of one class, the texture of another; Geirhos et al. 2019, "ImageNet-trained CNNs are
biased towards texture", arXiv:1811.12231) a decision for the class of the shape is a shape decision, one for the class
of the texture a texture decision, and any other counts for neither:

    shape bias = shape decisions / (shape decisions + texture decisions)
    coverage   = (shape decisions + texture decisions) / images

Images whose shape and texture are of the same class are no conflict and are left out, as in the authors' code. Per
class means per class of the shape, as in their figure 4.
"""

import math

import datasets
import evaluate

_CITATION = """\
@inproceedings{geirhos2019imagenet,
  title     = {ImageNet-trained {CNNs} are biased towards texture; increasing shape bias improves accuracy and
               robustness},
  author    = {Geirhos, Robert and Rubisch, Patricia and Michaelis, Claudio and Bethge, Matthias and Wichmann, Felix A.
               and Brendel, Wieland},
  booktitle = {International Conference on Learning Representations},
  year      = {2019}
}
"""

_INPUTS = """
Args:
    predictions: classes that were predicted: names, or whole numbers.
    shape_labels: classes of the shapes.
    texture_labels: classes of the textures.

Returns:
    shape_bias: in [0, 1]: 1 goes by shape alone, 0 by texture alone; NaN where no decision was for either.
    coverage: in [0, 1]: how many of the decisions were for one of the two.
    shape_decisions, texture_decisions, images: counts; images whose two labels agree are left out.
    per_class: {class of the shape: {"shape_bias", "coverage", "images"}}.

Raises:
    ValueError: no images, no image with a conflict, or a label that is missing or no whole number.
"""


class ShapeBias(evaluate.Metric):
    """Shape decisions among the decisions for shape or texture."""

    def _info(self) -> evaluate.MetricInfo:
        # As integers, evaluate would round 0.9 down to 0 without a word, and scores would pass for classes.
        kinds = (datasets.Value("string"), datasets.Value("float64"))
        names = ("predictions", "shape_labels", "texture_labels")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features(dict.fromkeys(names, kind)) for kind in kinds],
            reference_urls=["https://arxiv.org/abs/1811.12231"],
            license="apache-2.0",
        )

    def _infer_feature_from_batch(self, batch: dict) -> datasets.Features:
        # evaluate tells names from numbers by the first row, and has nothing but an IndexError where there is none.
        for name, column in batch.items():
            if column is None or not len(column):
                raise ValueError(f"{name} is empty: give the labels of one image or more")
        return super()._infer_feature_from_batch(batch)

    def _compute(
        self,
        *,
        predictions: list,
        shape_labels: list,
        texture_labels: list,
    ) -> dict:
        predicted = _labels("predictions", predictions)
        shapes, textures = _labels("shape_labels", shape_labels), _labels("texture_labels", texture_labels)
        rows = [row for row in zip(predicted, shapes, textures, strict=True) if row[1] != row[2]]
        if not rows:
            raise ValueError(
                f"shape and texture are of the same class in all {len(shapes)} images, so none has a conflict; shape"
                " bias needs images whose shape_labels and texture_labels differ"
            )
        classes = sorted({shape for _, shape, _ in rows})
        return count_decisions(rows) | {
            "per_class": {
                name: {key: metrics[key] for key in ("shape_bias", "coverage", "images")}
                for name in classes
                for metrics in [count_decisions([row for row in rows if row[1] == name])]
            }
        }


def count_decisions(rows: list[tuple]) -> dict[str, float]:
    """The metrics of rows (predicted, shape, texture), one an image with a conflict."""
    shape = sum(predicted == label for predicted, label, _ in rows)
    texture = sum(predicted == label for predicted, _, label in rows)
    return {
        "shape_bias": shape / (shape + texture) if shape + texture else math.nan,
        "coverage": (shape + texture) / len(rows),
        "shape_decisions": shape,
        "texture_decisions": texture,
        "images": len(rows),
    }


def _labels(name: str, labels: list) -> list:
    """Names as they are, whole numbers as int."""
    for index, label in enumerate(labels):
        if label is None or (isinstance(label, float) and not label.is_integer()):
            raise ValueError(f"{name}[{index}] is {label}; a class is a name or a whole number")
    return [int(label) if isinstance(label, float) else label for label in labels]
