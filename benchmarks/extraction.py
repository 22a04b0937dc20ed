"""Feature extraction beside the bare encoder: how much of its throughput is left when images must be decoded and kept.

    python benchmarks/extraction.py                                        # ViT-S/16 at 224 px, PartScenes, one thread
    python benchmarks/extraction.py --encoder vit-micro-8 --size 64 --images 2000
    python benchmarks/extraction.py --dataset FOLDER_OR_PARQUET --device cuda --workers 8 --images 4096

*Bare* is the encoder alone, again and again on one batch that is already on the device as uint8. *Extraction* is all
of ``EvaluationData.features``: rows read, decoded and preprocessed in worker processes, encoded, checked and written to
the memory-mapped cache. Both on the same number of images, batch and threads, in turns; the ratio is of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch

from sp_hf.evaluation.cache import FeatureCache
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, open_model
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.whole_images import encode_pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit-small-16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--dataset", default="part-scenes?num_images=512&size=224")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the encoder, on the CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(options.encoder, size=options.size, device=options.device)
    source = DataSource(options.dataset, max_images=options.images)
    _ = EvaluationData(source).train  # PartScenes is drawn here, once
    bare, whole = [], []
    for _ in range(options.rounds):
        bare.append(bare_encoder(model, source, options))
        whole.append(extraction(model, source, options))
    print(f"{model.describe()}, {options.size} px, {options.images} images, batches of {options.batch}")
    print(f"bare encoder {statistics.median(bare):8.1f} images/s   {_all(bare)}")
    print(f"extraction   {statistics.median(whole):8.1f} images/s   {_all(whole)}")
    print(f"ratio        {statistics.median(whole) / statistics.median(bare):8.2f}")


def bare_encoder(model: EvaluatedModel, source: DataSource, options: argparse.Namespace) -> float:
    """Images a second."""
    data = EvaluationData(source, batch_size=options.batch)
    batch = data.pixels(model, data.train, options.batch).pixels.to(model.device)
    encode_pixels(model, batch)
    _wait(model)
    started = time.perf_counter()
    for _ in range(options.images // options.batch):
        encode_pixels(model, batch)
    _wait(model)
    return options.images // options.batch * options.batch / (time.perf_counter() - started)


def extraction(model: EvaluatedModel, source: DataSource, options: argparse.Namespace) -> float:
    """Images a second."""
    with tempfile.TemporaryDirectory() as folder:
        data = EvaluationData(source, cache=FeatureCache(folder), batch_size=options.batch, num_workers=options.workers)
        sample, _ = data.train, model.identity
        started = time.perf_counter()
        features = data.features(model, sample)
        _wait(model)
        return len(features.cls) / (time.perf_counter() - started)


def _wait(model: EvaluatedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def _all(rates: list[float]) -> str:
    return "(" + ", ".join(f"{rate:.1f}" for rate in rates) + ")"


if __name__ == "__main__":
    main()
