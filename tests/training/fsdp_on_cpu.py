"""``sp-hf pretrain`` where accelerate also shards on CPUs; by itself it ignores ``--fsdp`` there."""

from __future__ import annotations

import sys
from typing import Any

import accelerate
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from sp_hf.cli import main

_initialise = AcceleratorState.__init__


def _keep_plugin(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _initialise(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin


def _shards(state: AcceleratorState) -> bool:
    return getattr(state, "fsdp_plugin", None) is not None


AcceleratorState.__init__ = _keep_plugin
AcceleratorState.is_fsdp2 = property(_shards)
accelerate.Accelerator.distributed_type = property(
    lambda self: DistributedType.FSDP if _shards(self.state) else self.state.__dict__["distributed_type"]
)

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
