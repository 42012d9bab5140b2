"""The model card of an exported network: what it is, what was measured, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simreg_core.config.trial import TrialConfig
from simreg_core.networks.network import FeatureNetwork
from simreg_core.networks.resnet import ResNet
from simreg_core.registry import DATASETS
from simreg_core.results.metrics import metric_named
from simreg_core.results.schema import SPLITS


def model_card(config: TrialConfig, model: FeatureNetwork, metrics: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        config: Of the trial.
        model: Its network.
        metrics: As :func:`tuner.export.__main__.exported_metrics` makes them.
    """
    sections = (
        _introduction(config, model, metrics),
        "## Intended use and limits\n\n" + _limits(config),
        "## Loading\n\n" + _loading(metrics),
        "## Network\n\n" + _network(config, model),
        "## Data\n\n" + _data(config, metrics),
        "## Training\n\n" + _settings(config, "training."),
        "## Regularizer\n\n" + _regularizer(config),
        "## Figures\n\n" + _figures(config, metrics),
        "## Figures over fresh seeds\n\n" + _confirmed(metrics["confirmation"]),
        "## Provenance\n\n" + _provenance(metrics),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(config: TrialConfig, model: FeatureNetwork, metrics: Mapping[str, Any]) -> str:
    kind = (
        "trained without regularizer (alpha is 0)"
        if config.regularizer.alpha == 0
        else "trained with a regularizer that makes the similarities of its features follow "
        "similarities of images ([arXiv:2410.03952](https://arxiv.org/abs/2410.03952))"
    )
    return (
        f"# {metrics['study']}, trial {metrics['trial']}\n\n"
        f"An image classifier for `{config.task.dataset}` ({model.num_classes} classes), "
        f"{kind}. It is one network of one seed from a search of hyperparameters by simreg-tune."
    )


def _limits(config: TrialConfig) -> str:
    return (
        "For research on robustness, and for images like those it was trained on "
        f"(`{config.task.dataset}`); nothing was measured on any others.\n\n"
        "The similarity regularizer is meant against noise and black-box attacks, such as FGSM "
        "transferred from another network; how far it helps this one, the figures below say. It is "
        "no defence against a white-box adversary, who knows the network: do not rely on it where "
        "somebody gains by fooling it."
    )


def _loading(metrics: Mapping[str, Any]) -> str:
    version = metrics["provenance"]["simreg_version"]
    return (
        "```python\n"
        "import simreg_core\n\n"
        'model = simreg_core.load_exported("PATH/OF/THIS/FOLDER")  # evaluation mode, on the CPU\n'
        "logits = model(pixels)\n"
        "```\n\n"
        f"needs simreg-tune (this network was trained by version {version}) and checks both files: "
        "`model.safetensors`, the weights (no pickle: loading them runs no code), and "
        "`config.yaml`, the whole configuration of the trial. `metrics.json` holds the figures "
        "below."
    )


def _network(config: TrialConfig, model: FeatureNetwork) -> str:
    channels = model.channels
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = [("architecture", config.model.architecture)]
    if isinstance(model, ResNet):
        depths = ", ".join(
            str(len(list(section.children()))) for section in model.sections.values()
        )
        rows += [
            ("blocks per section", depths),
            ("stem", f"7x7, stride 1, {config.model.base_channels} channels; no max-pooling"),
        ]
    rows += [
        ("parameters", f"{num_parameters:,}"),
        (
            "input",
            f"float32 (batch, {channels}, height, width), "
            f"{'RGB' if channels == 3 else 'grey'}; trained on {_side(config)}",
        ),
        ("values", "pixels in [0, 1]"),
        (
            "normalisation",
            f"{config.model.scale:g} * (pixel - {config.model.shift:g}), inside the network: "
            "do not normalise before",
        ),
        ("output", f"logits (batch, {model.num_classes})"),
    ]
    return _table(("", ""), rows)


def _side(config: TrialConfig) -> str:
    known = DATASETS.known.get(config.task.dataset)
    side = config.task.image_size or (known.side if known else None)
    return "images of the size they are stored in" if side is None else f"{side} x {side} pixels"


def _data(config: TrialConfig, metrics: Mapping[str, Any]) -> str:
    return _table(
        ("", ""),
        [
            ("dataset", f"`{config.task.dataset}`"),
            ("training images", metrics["training"]["num_train"]),
            *((f"{split} images", metrics[split]["num_images"]) for split in SPLITS),
            ("seed of the splits", config.task.split_seed),
        ],
    )


def _regularizer(config: TrialConfig) -> str:
    if config.regularizer.alpha == 0:
        return "None: alpha is 0."
    return _settings(config, "regularizer.")


def _settings(config: TrialConfig, prefix: str) -> str:
    values = {k: v for k, v in config.flat().items() if k.startswith(prefix) and v is not None}
    return _table(("setting", "value"), [(f"`{key}`", f"`{v}`") for key, v in values.items()])


def _figures(config: TrialConfig, metrics: Mapping[str, Any]) -> str:
    splits = [metrics[split] for split in SPLITS]
    heading = ["", *(f"{s}, n = {m['num_images']}" for s, m in zip(SPLITS, splits, strict=True))]
    rows: list[Sequence[Any]] = []
    for name in splits[0]["figures"]:
        values = [split["figures"][name] for split in splits]
        if any(value is not None for value in values):
            rows.append((metric_named(name).title, *(_number(name, value) for value in values)))
    for name in ("clean_accuracy", "robust_accuracy", "boundary_distance"):
        found = [split["baseline"] for split in splits]
        if any(baseline[name] is not None for baseline in found):
            cells = (_with(name, b[name], b.get(f"{name}_std")) for b in found)
            rows.append((f"baseline's {metric_named(name).title}", *cells))
    return f"{_conditions(config, metrics)}\n\n{_table(heading, rows)}"


def _conditions(config: TrialConfig, metrics: Mapping[str, Any]) -> str:
    attacks = ", ".join(f"{name} {eps:g}" for name, eps in metrics["reference_epsilons"].items())
    num_baselines = len(metrics["baseline_seeds"])
    plural = "s" if num_baselines > 1 else ""
    lines = [
        f"**One network, one seed ({metrics['seed']}): a screening.** n is the number of images. "
        "The search selected on the validation figures, so these flatter the network; the test "
        "figures were not selected on.",
        f"Robust accuracy is the mean accuracy under {attacks} (epsilon in pixels of [0, 1]). "
        f"The baseline is the same network without regularizer, mean over {num_baselines} "
        f"seed{plural}{' ± sample standard deviation' if plural else ''}. Tradeoff score: "
        f"robustness gain - {metrics['tradeoff_weight']:g} * accuracy cost.",
    ]
    if config.robustness.boundary is not None:
        numbers = ", ".join(f"{metrics[s]['boundary_num_images']} {s}" for s in SPLITS)
        lines.append(f"The boundary distance is over the first images only: {numbers} images.")
    return "\n\n".join(lines)


def _confirmed(confirmation: Mapping[str, Any] | None) -> str:
    if confirmation is None:
        return "This trial was not confirmed: how its figures vary with the seed is not known."
    failed = confirmation["num_failed"]
    missing = f" {failed} of {len(confirmation['seeds'])} seeds failed." if failed else ""
    if not confirmation["estimates"]:
        return f"The trial's configuration was trained again, but gave no figures.{missing}"
    text = (
        "The same configuration, trained again with seeds that the search never saw: what to "
        "expect of the configuration. The network in this folder is not one of these. Mean ± "
        f"half-width of the interval ({confirmation['interval']}), {confirmation['split']} split; "
        f"cost, gain and score are against the baseline of the same seed.{missing}"
    )
    baseline = confirmation["baseline"]
    rows = []
    for name, found in confirmation["estimates"].items():
        beside = baseline.get(name)
        rows.append(
            (
                metric_named(name).title,
                found["n"],
                _with(name, found["mean"], found["half_width"]),
                "" if beside is None else _with(name, beside["mean"], beside["half_width"]),
                "" if beside is None else beside["n"],
            )
        )
    heading = ("", "n seeds", "this configuration", "baseline", "n seeds")
    return f"{text}\n\n{_table(heading, rows)}"


def _provenance(metrics: Mapping[str, Any]) -> str:
    found = metrics["provenance"]
    return _table(
        ("", ""),
        [
            ("trained", f"{found['started_at']} to {found['finished_at']} (UTC)"),
            ("search", f"{metrics['study']}, trial {metrics['trial']}"),
            ("configuration", f"`{metrics['config_digest']}`"),
            ("simreg-tune", f"{found['simreg_version']}, commit {found['commit'] or 'not known'}"),
            ("torch, Python", f"{found['torch_version']}, {found['python_version']}"),
            ("device", f"{found['device']}, {found['num_threads']} CPU threads"),
            ("epoch kept", f"{metrics['training']['kept_epoch']} (from 0)"),
        ],
    )


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    metric = metric_named(name)
    if not metric.is_accuracy and not metric.against_baseline:
        return f"{value:.3g}"
    return f"{value:+.4f}" if metric.against_baseline else f"{value:.4f}"


def _with(name: str, mean: float | None, spread: float | None) -> str:
    return _number(name, mean) + ("" if spread is None else f" ± {spread:.4f}")


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
