"""Networks of torchvision and timm, with new weights."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType

import torch
from torch import nn

from simreg_core.config.trial import ModelConfig
from simreg_core.errors import ConfigError
from simreg_core.plugins import foreign_code
from simreg_core.registry import network


@network("torchvision", argument="NAME", input_channels=3)
def torchvision_network(config: ModelConfig, *, channels: int, num_classes: int) -> nn.Module:
    """``torchvision:NAME``, a classifier of ``torchvision.models``; takes RGB images only."""
    models = _import("torchvision.models", config)
    names = [name for name in models.list_models(module=models) if "quantized" not in name]
    name = _known(config, names)
    with foreign_code(f"model.architecture: {config.architecture}"):
        built: nn.Module = models.get_model(name, **{"num_classes": num_classes, **config.options})
    return built


@network("timm", argument="NAME")
def timm_network(config: ModelConfig, *, channels: int, num_classes: int) -> nn.Module:
    """``timm:NAME``, a classifier of the package timm (the extra ``timm``)."""
    timm = _import("timm", config)
    name = _known(config, timm.list_models())
    with foreign_code(f"model.architecture: {config.architecture}"):
        built: nn.Module = timm.create_model(
            name,
            **{
                "in_chans": channels,
                "num_classes": num_classes,
                **config.options,
            },
        )
    return built


def _known(config: ModelConfig, names: list[str]) -> str:
    name = config.architecture.partition(":")[2]
    for option in ("weights", "pretrained"):
        if option in config.options:
            raise ConfigError(f"model.options.{option}: not allowed, networks have new weights")
    if name.partition(".")[0] not in names:  # timm's have tags of weights after a dot
        close = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
        raise ConfigError(
            f"model.architecture: {config.architecture.partition(':')[0]} has no network {name!r}; "
            f"close names: {', '.join(close) or 'none'}"
        )
    return name


def _import(module: str, config: ModelConfig) -> ModuleType:
    try:
        define_missing_operators()
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as err:
        package = module.partition(".")[0]
        raise ConfigError(
            f"model.architecture: {config.architecture} needs the package {package}: {err}"
        ) from err


def define_missing_operators() -> None:
    """Let torchvision be imported where its compiled part is missing or does not fit torch.

    Its import describes operators of that part, which no network here uses.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # lives as long as its operators
