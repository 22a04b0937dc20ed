"""Mean corruption error: how much a classifier suffers from corrupted images, relative to a baseline.

Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv:1903.12261, section 3. With E[s, c] the top-1 error rate under corruption c at severity s,

    CE[c]          = sum over s of E[s, c]              /  sum over s of E_baseline[s, c]
    relative CE[c] = sum over s of (E[s, c] - E_clean)  /  sum over s of (E_baseline[s, c] - E_baseline_clean)

mCE and relative mCE are their means over corruptions. The paper writes them in per cent; here 1 is the baseline's own.

Letters: C corruptions, S severities.
"""

import datasets
import evaluate
import numpy as np

_CITATION = """\
@inproceedings{hendrycks2019benchmarking,
  title     = {Benchmarking Neural Network Robustness to Common Corruptions and Perturbations},
  author    = {Hendrycks, Dan and Dietterich, Thomas},
  booktitle = {International Conference on Learning Representations},
  year      = {2019}
}
"""

_INPUTS = """
Args:
    predictions: error rates of the model, in [0, 1], one for each corruption and severity, in any order.
    references: error rates of the baseline, likewise.
    corruptions: names of the corruptions, likewise.
    severities: whole numbers, likewise; every corruption must come at the same severities, each once.
    clean_error, baseline_clean_error: error rates without corruption; give both to have the relative metrics.

Returns:
    mce: mean corruption error; 1 is the baseline's, lower is better.
    relative_mce: the same of the rise over the clean error; only with the clean errors.
    per_corruption: {corruption: {"ce", and "relative_ce" with the clean errors}}.

Raises:
    ValueError: nothing given, error rates outside [0, 1], a severity that a corruption lacks or has twice, one of the
        two clean errors alone, or a baseline without errors (or, for the relative metrics, without a rise).
"""

_ROUNDING = 1e-9


class MeanCorruptionError(evaluate.Metric):
    """Error rates under corruptions, relative to a baseline's."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")  # severities too: as integers, evaluate would round 1.5 down without a word
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": number,
                    "references": number,
                    "corruptions": datasets.Value("string"),
                    "severities": number,
                }
            ),
            reference_urls=["https://arxiv.org/abs/1903.12261"],
            license="apache-2.0",
        )

    def _compute(
        self,
        *,
        predictions: list,
        references: list,
        corruptions: list,
        severities: list,
        clean_error: float | None = None,
        baseline_clean_error: float | None = None,
    ) -> dict:
        if not len(corruptions):
            raise ValueError("there are no error rates: give one for each corruption and severity")
        if (clean_error is None) != (baseline_clean_error is None):
            raise ValueError("one clean error is missing: give clean_error and baseline_clean_error, or neither")
        cells = _cells(corruptions, severities)
        names = list(dict.fromkeys(corruptions))
        model = _rates("predictions", predictions)[cells]  # [C, S]
        baseline = _rates("references", references)[cells]
        metrics = {"ce": corruption_errors(model, baseline, names)}
        if clean_error is not None:
            rise = model - _rates("clean_error", [clean_error])
            baseline_rise = baseline - _rates("baseline_clean_error", [baseline_clean_error])
            metrics["relative_ce"] = corruption_errors(rise, baseline_rise, names, relative=True)
        means = {key.replace("ce", "mce"): float(values.mean()) for key, values in metrics.items()}
        return means | {
            "per_corruption": {
                name: {key: float(values[row]) for key, values in metrics.items()} for row, name in enumerate(names)
            }
        }


def corruption_errors(
    model: np.ndarray, baseline: np.ndarray, names: list[str], *, relative: bool = False
) -> np.ndarray:
    """Ratios of sums over severities: error rates, or their rises where ``relative``, [C, S] twice to [C]."""
    numerators, denominators = model.sum(1), baseline.sum(1)
    bad = np.flatnonzero(denominators <= _ROUNDING)
    if len(bad):
        name = names[bad[0]]
        what = (
            f"does not rise under {name!r}, so the relative metrics are not defined; leave out both clean errors"
            if relative
            else f"is 0 under {name!r}, so its corruption error is not defined; leave this corruption out"
        )
        raise ValueError(f"the baseline's error {what}, or take another baseline")
    return numerators / denominators


def _cells(corruptions: list, severities: list) -> np.ndarray:
    """Index of the row of each corruption and severity: int64 [C, S]."""
    where: dict[tuple, int] = {}
    for index, cell in enumerate(zip(corruptions, severities, strict=True)):
        name, severity = cell
        if name is None:
            raise ValueError(f"corruptions[{index}] is None; it must be a name")
        if severity is None or not float(severity).is_integer():
            raise ValueError(f"severities[{index}] is {severity}; it must be a whole number")
        if cell in where:
            raise ValueError(f"{name!r} at severity {severity:g} is given twice; give each pair once")
        where[cell] = index
    columns = sorted(set(severities))
    for name in dict.fromkeys(corruptions):
        missing = [f"{severity:g}" for severity in columns if (name, severity) not in where]
        if missing:
            raise ValueError(
                f"{name!r} lacks severity {', '.join(missing)}, which other corruptions have; every corruption must"
                " come at the same severities"
            )
    return np.array([[where[name, severity] for severity in columns] for name in dict.fromkeys(corruptions)])


def _rates(name: str, values: list) -> np.ndarray:
    """Float64 error rates in [0, 1]."""
    rates = np.array(values, dtype=np.float64)
    bad = np.flatnonzero(~((rates >= 0) & (rates <= 1)))
    if len(bad):
        raise ValueError(
            f"{name} has {values[bad[0]]} as an error rate; it must lie in 0 to 1 (per cent: divide by 100)"
        )
    return rates
