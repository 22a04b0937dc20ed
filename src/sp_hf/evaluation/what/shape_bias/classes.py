"""The sixteen classes of the cue-conflict images of Geirhos et al. 2019, and what stands for them in other datasets.

From a dataset's own class names to the sixteen (arXiv:1811.12231, appendix A.1, after Geirhos et al. 2018,
arXiv:1808.08750). Names that are not listed stand for none of them.

CIFAR-10 is unambiguous. Caltech-101 has counterparts of nine of the sixteen; everyday meaning decides, and drawings
(garfield, snoopy), body parts that do not show the kind, and other big cats (Leopards) are left out. It has no clocks,
for which its watches stand in.

ImageNet-1k is not here: the published table goes by WordNet, and a table from memory would be worse than none. Give it
as a JSON file.
"""

from __future__ import annotations

SIXTEEN: tuple[str, ...] = (
    "airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "clock", "dog", "elephant",
    "keyboard", "knife", "oven", "truck",
)  # fmt: skip

CALTECH_101: dict[str, str] = {
    "airplanes": "airplane",
    "emu": "bird",
    "flamingo": "bird",
    "flamingo_head": "bird",
    "ibis": "bird",
    "pigeon": "bird",
    "rooster": "bird",
    "ferry": "boat",
    "ketch": "boat",
    "schooner": "boat",
    "car_side": "car",
    "cougar_body": "cat",
    "cougar_face": "cat",
    "wild_cat": "cat",
    "chair": "chair",
    "windsor_chair": "chair",
    "watch": "clock",
    "dalmatian": "dog",
    "elephant": "elephant",
}

CIFAR_10: dict[str, str] = {
    "airplane": "airplane",
    "automobile": "car",
    "bird": "bird",
    "cat": "cat",
    "dog": "dog",
    "ship": "boat",
    "truck": "truck",
}

TABLES: dict[str, dict[str, str]] = {"Caltech-101": CALTECH_101, "CIFAR-10": CIFAR_10}
