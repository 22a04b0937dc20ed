"""The code in CONTRIBUTING.md, as tests apply it."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def code_blocks(package=None):
    """{path: code} of the blocks that a comment labels with a path, of this repository or of a package of its own."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    label = r"(\S+)" if package is None else rf"(\S+) of {package}"
    return dict(re.findall(rf"<!-- {label} -->\n```\w+\n(.*?)```", page, flags=re.DOTALL))
