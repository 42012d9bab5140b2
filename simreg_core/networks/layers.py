"""Outputs of the inner layers of any network, found by forward hooks on named modules."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from simreg_core.errors import ConfigError

_MOST_SHOWN = 20
Hook = Callable[[str, object], None]


class _AllFound(Exception):
    """Ends a forward pass, because nothing above the last wanted layer is needed."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of ``torch.compile`` and parallel wrappers, or the model itself."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def layer_outputs(model: nn.Module, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of layers, by name and in order, from one forward pass that ends with the last one.

    The pass runs uncompiled, because compiled code skips hooks that are added later.

    Args:
        model: Any network.
        pixels: Its input.
        layers: Names of modules, as in ``model.named_modules()``. Each must pass
            :func:`check_layers`.

    Raises:
        ValueError: no layer is named.
        RuntimeError: the pass skips one.
    """
    if not layers:
        raise ValueError("name one or more layers")
    found: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        assert isinstance(output, Tensor)
        found[name] = output
        if len(found) == len(layers):
            raise _AllFound

    try:
        _run(model, pixels, layers, keep)
    except _AllFound:
        return {name: found[name] for name in layers}
    missing = ", ".join(name for name in layers if name not in found)
    raise RuntimeError(f"layers that a forward pass may skip cannot be compared: {missing}")


def channel_dimension(feature: Tensor, *, is_square: bool) -> int:
    """Dimension of the channels of a layer's output.

    It is 1 of maps (B, C, H, W) and vectors (B, C), 2 of tokens (B, T, C), and 3 of maps
    (B, H, W, C), as which those with H = W are recognised if the images are square.
    """
    if feature.ndim == 4 and is_square and feature.shape[1] == feature.shape[2]:
        return 1 if feature.shape[2] == feature.shape[3] else 3
    return 2 if feature.ndim == 3 else 1


def check_layers(model: nn.Module, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of the layers, after a check that they can be compared.

    Runs the whole network once on ``pixels`` (B >= 2 images), without gradient.

    Raises:
        ConfigError: none is given, there is no such layer, it is not called exactly once per pass,
            its output is no tensor (B, C, H, W), (B, T, C) or (B, C), or a later layer changes it
            in place; lists the layers that can be compared.
    """
    outputs, problems = _probe(model, pixels)
    found = [problems.get(name, f"the network has no layer {name!r}") for name in layers]
    if problem := next(filter(None, found or ["name one or more layers"]), ""):
        raise ConfigError(f"{problem}; layers that can be compared: {_listed(problems)}")
    return {name: outputs[name] for name in layers}


def _listed(problems: Mapping[str, str]) -> str:
    """Accepted layers, the outer ones first."""
    accepted = [name for name, problem in problems.items() if not problem]
    names = sorted(accepted, key=lambda name: name.count("."))
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _probe(model: nn.Module, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Outputs of all layers that are tensors, and what is wrong with each layer, if anything."""
    modules = unwrapped(model).named_modules(remove_duplicate=False)
    names = [name for name, _ in modules if name]
    calls: Counter[str] = Counter()
    found: dict[str, object] = {}
    versions: dict[str, int] = {}

    def keep(name: str, output: object) -> None:
        calls[name] += 1
        found[name] = output
        if isinstance(output, Tensor):
            versions[name] = output._version

    with torch.no_grad():
        _run(model, pixels, names, keep)
    outputs = {name: output for name, output in found.items() if isinstance(output, Tensor)}
    problems = {}
    for name in names:
        problem, output = "", found.get(name)
        if calls[name] != 1:
            problem = f"layer {name!r} is called {calls[name]} times in a pass, expected once"
        elif not isinstance(output, Tensor):
            problem = f"layer {name!r} returns {type(output).__name__}, expected a tensor"
        elif not 2 <= output.ndim <= 4 or len(output) != len(pixels):
            problem = (
                f"layer {name!r} returns a tensor {tuple(output.shape)}, expected (B, C, H, W), "
                f"(B, T, C) or (B, C) with B = {len(pixels)}"
            )
        elif output._version != versions[name]:
            problem = f"the output of layer {name!r} is changed in place by a later layer"
        problems[name] = problem
    return outputs, problems


def _run(model: nn.Module, pixels: Tensor, layers: Iterable[str], keep: Hook) -> None:
    """Call ``keep`` with name and output of every layer that a forward pass calls."""
    network = unwrapped(model)
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: keep(name, output)
        )
        for name in layers
    ]
    try:
        with _uncompiled():
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _uncompiled() -> Iterator[None]:
    # Where nothing imported the compiler, nothing is compiled; importing it takes seconds.
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
