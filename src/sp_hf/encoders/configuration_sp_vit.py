"""Configuration of :class:`~sp_hf.encoders.modeling_sp_vit.SPViTModel`: a ``ViTConfig`` under a name of its own."""

from __future__ import annotations

from typing import TypeVar

from transformers import AutoConfig, PreTrainedConfig, ViTConfig

Config = TypeVar("Config", bound=ViTConfig)


class SPViTConfig(ViTConfig):
    """Same fields and defaults as ``ViTConfig``, and one more; ``model_type`` is ``"sp_vit"``.

    Args:
        position_field: entries a side of a field of positions of its own (Content-position: 50); ``None``: the table of
            positions is the field.

    Example:
        >>> import sp_hf
        >>> from transformers import ViTConfig
        >>> config = sp_hf.SPViTConfig.from_vit(ViTConfig(image_size=96))
        >>> config.model_type, config.image_size, type(config.to_vit()).__name__
        ('sp_vit', 96, 'ViTConfig')
    """

    model_type = "sp_vit"

    position_field: int | None = None

    @classmethod
    def from_vit(cls, config: PreTrainedConfig) -> SPViTConfig:
        """The configuration with which an ``SPViTModel`` takes the weights of a ``ViTModel``."""
        return convert_config(config, cls)

    def to_vit(self) -> ViTConfig:
        """The configuration of the stock ``ViTModel`` with the same parameters."""
        return convert_config(self, ViTConfig)


def convert_config(config: PreTrainedConfig, config_class: type[Config]) -> Config:
    """Copy a ViT-like configuration into ``config_class``, field by field; fields it does not know are left out.

    What this package records in a configuration (its names begin with ``sp_hf_``) goes along.
    """
    known = config_class().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
    fields = config.to_dict().items()
    return config_class(**{name: value for name, value in fields if name in known or name.startswith("sp_hf_")})


AutoConfig.register(SPViTConfig.model_type, SPViTConfig, exist_ok=True)
