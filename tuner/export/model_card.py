"""The model card of an exported network: description, results, limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import counted
from simreg_core.networks.network import Classifier
from simreg_core.networks.resnet import ResNet
from simreg_core.registry import DATASETS
from simreg_core.results.metrics import metric_named
from simreg_core.results.schema import SPLITS

_CARD = """\
# {study}, trial {trial}

An image classifier for `{dataset}` ({classes}), {kind}.
It is one network of one seed from a hyperparameter search by simreg-tune.

## Intended use and limits

This network is for research on robustness, with images like its training images (`{dataset}`).
Nothing was measured on other images.

The similarity regularizer is meant to help against noise and black-box attacks, such as FGSM
transferred from another network. The results below show how much it helps this network. It is no
defence against a white-box adversary, who knows the network: do not rely on it if somebody gains by
fooling it.

## Loading

```python
import simreg_core

model = simreg_core.load_exported("PATH/OF/THIS/FOLDER")  # evaluation mode, on the CPU
logits = model(pixels)
```

This needs simreg-tune (version {version} trained this network) and checks both files:
`model.safetensors`, the weights (no pickle, so loading runs no code), and `config.yaml`, the whole
configuration of the trial. `metrics.json` contains the results below.

## Network

{network}

## Data

{data}

## Training

{training}

## Regularizer

{regularizer}

## Results

{results}

## Results over fresh seeds

{confirmation}

## Provenance

{provenance}
"""
_REGULARIZED = """\
trained with a regularizer that makes the similarities of its features follow
similarities of images ([arXiv:2410.03952](https://arxiv.org/abs/2410.03952))"""


def model_card(config: TrialConfig, model: Classifier, metrics: Mapping[str, Any]) -> str:
    """The model card of a trial's network as Markdown.

    ``metrics`` comes from :func:`tuner.export.__main__.exported_metrics`.
    """
    is_regularized = config.regularizer.alpha != 0
    return _CARD.format(
        study=metrics["study"],
        trial=metrics["trial"],
        dataset=config.task.dataset,
        classes=counted(model.num_classes, "class"),
        kind=_REGULARIZED if is_regularized else "trained without regularizer (alpha is 0)",
        version=metrics["provenance"]["simreg_version"],
        network=_network(config, model),
        data=_data(config, metrics),
        training=_settings(config, "training."),
        regularizer=_settings(config, "regularizer.") if is_regularized else "None: alpha is 0.",
        results=f"{_conditions(config, metrics)}\n\n{_results(metrics)}",
        confirmation=_confirmation(metrics["confirmation"]),
        provenance=_provenance(metrics),
    )


def _network(config: TrialConfig, model: Classifier) -> str:
    rows = [("architecture", config.model.architecture)]
    if isinstance(model.network, ResNet):
        depths = [str(len(list(section.children()))) for section in model.network.sections()]
        rows += [
            ("blocks per section", ", ".join(depths)),
            ("stem", f"7x7, stride 1, {config.model.base_channels} channels; no max-pooling"),
        ]
    if config.model.options:
        rows.append(("options", json.dumps(config.model.options)))
    known = DATASETS.known.get(config.task.dataset)
    side = config.task.image_size or (known.side if known else None)
    size = f"{side} x {side} pixels" if side else "images of their stored size"
    colors = "RGB" if model.channels == 3 else "grey"
    if config.model.input_size is not None:
        size += f"; resized to {config.model.input_size} x {config.model.input_size} inside"
    scale = f"{config.model.scale:g} * (pixel - {config.model.shift:g})"
    rows += [
        ("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}"),
        ("input", f"float32 (batch, {model.channels}, height, width), {colors}; trained on {size}"),
        ("values", "pixels in [0, 1]"),
        ("normalisation", f"{scale}, inside the network: do not normalise before"),
        ("output", f"logits (batch, {model.num_classes})"),
    ]
    return _table(("", ""), rows)


def _data(config: TrialConfig, metrics: Mapping[str, Any]) -> str:
    rows = [
        ("dataset", f"`{config.task.dataset}`"),
        ("training images", metrics["training"]["num_train"]),
        *((f"{split} images", metrics[split]["num_images"]) for split in SPLITS),
        ("seed of the splits", config.task.split_seed),
    ]
    return _table(("", ""), rows)


def _settings(config: TrialConfig, prefix: str) -> str:
    values = {k: v for k, v in config.flat().items() if k.startswith(prefix) and v is not None}
    return _table(("setting", "value"), [(f"`{key}`", f"`{v}`") for key, v in values.items()])


def _results(metrics: Mapping[str, Any]) -> str:
    splits = [metrics[split] for split in SPLITS]
    heading = ["", *(f"{name}, n = {metrics[name]['num_images']}" for name in SPLITS)]
    rows: list[Sequence[Any]] = []
    for name in splits[0]["values"]:
        values = [split["values"][name] for split in splits]
        if any(value is not None for value in values):
            rows.append((metric_named(name).title, *(_number(name, value) for value in values)))
    for name in ("clean_accuracy", "robust_accuracy", "boundary_distance"):
        found = [split["baseline"] for split in splits]
        if any(baseline[name] is not None for baseline in found):
            cells = (_number(name, b[name], b.get(f"{name}_std")) for b in found)
            rows.append((f"baseline's {metric_named(name).title}", *cells))
    return _table(heading, rows)


def _conditions(config: TrialConfig, metrics: Mapping[str, Any]) -> str:
    attacks = ", ".join(f"{name} {eps:g}" for name, eps in metrics["reference_epsilons"].items())
    num_baselines = len(metrics["baseline_seeds"])
    seeds = "1 seed" if num_baselines == 1 else f"{num_baselines} seeds ± sample standard deviation"
    text = (
        f"**One network, one seed ({metrics['seed']}): a screening.** n is the number of images. "
        "The search selected on the validation results, so these flatter the network; it did not "
        "select on the test results.\n\n"
        f"Robust accuracy is the mean accuracy under {attacks} (epsilon in pixels of [0, 1]). "
        f"The baseline is the same network without regularizer, mean over {seeds}. Tradeoff score: "
        f"robustness gain - {metrics['tradeoff_weight']:g} * accuracy cost."
    )
    if config.robustness.boundary is not None:
        numbers = ", ".join(f"{metrics[s]['boundary_num_images']} {s}" for s in SPLITS)
        text += f"\n\nThe boundary distance is over the first images only: {numbers}."
    return text


def _confirmation(confirmation: Mapping[str, Any] | None) -> str:
    if confirmation is None:
        return "This trial was not confirmed, so it is unknown how its results vary with the seed."
    failed = confirmation["num_failed"]
    missing = (
        f" {failed} of {counted(len(confirmation['seeds']), 'seed')} failed." if failed else ""
    )
    if not confirmation["estimates"]:
        return f"The trial's configuration was trained again, but without results.{missing}"
    rows = []
    for name, found in confirmation["estimates"].items():
        cells = [found["n"], _number(name, found["mean"], found["half_width"]), "", ""]
        if baseline := confirmation["baseline"].get(name):
            cells[2:] = _number(name, baseline["mean"], baseline["half_width"]), baseline["n"]
        rows.append((metric_named(name).title, *cells))
    heading = ("", "n seeds", "this configuration", "baseline", "n seeds")
    return (
        "The same configuration, trained again with seeds that the search never used: what to "
        "expect of the configuration. The network in this folder is not one of these. Mean ± "
        f"half-width of the interval ({confirmation['interval']}), {confirmation['split']} split; "
        f"cost, gain and score are relative to the baseline of the same seed.{missing}\n\n"
        f"{_table(heading, rows)}"
    )


def _provenance(metrics: Mapping[str, Any]) -> str:
    found = metrics["provenance"]
    rows = [
        ("trained", f"{found['started_at']} to {found['finished_at']} (UTC)"),
        ("search", f"{metrics['study']}, trial {metrics['trial']}"),
        ("configuration", f"`{metrics['config_digest']}`"),
        ("simreg-tune", f"{found['simreg_version']}, commit {found['commit'] or 'unknown'}"),
        ("torch, Python", f"{found['torch_version']}, {found['python_version']}"),
        ("device", f"{found['device']}, {found['num_threads']} CPU threads"),
        ("epoch kept", f"{metrics['training']['kept_epoch']} (from 0)"),
    ]
    return _table(("", ""), rows)


def _number(name: str, value: float | None, spread: float | None = None) -> str:
    metric = metric_named(name)
    spec = "+.4f" if metric.against_baseline else ".4f" if metric.is_accuracy else ".3g"
    text = "-" if value is None else f"{value:{spec}}"
    return text if spread is None else f"{text} ± {spread:.4f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
