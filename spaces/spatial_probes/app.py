"""The Space: does a vision model know where things are? All of it is in the package, ``sp_hf.space``."""

import os

os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # visitors name models: never with the owner's token

from sp_hf.space.serve import serve_space  # noqa: E402

if __name__ == "__main__":
    serve_space()
