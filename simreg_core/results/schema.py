"""The tables of results: name, type, unit and meaning of every column.

Importable without torch. ``SCHEMA_VERSION`` rises when a column changes meaning, type or name.
Dtypes are ``int64``, ``float64``, ``string``, ``bool`` and ``list<float64>``. A value that does
not exist is null (a failed trial has no accuracy).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel

from simreg_core.config.base import dtype_of
from simreg_core.config.trial import field_paths
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import METRICS, Metric
from simreg_core.results.metrics import metric_named
from simreg_core.storage.json_text import parse_json

SCHEMA_VERSION = 7
VERSION_KEY = b"simreg_schema_version"  # in the metadata of every file
_METRIC_KEY = b"simreg_metric"  # in the metadata of a metric's column

SPLITS = ("validation", "test")
Status = Literal["complete", "pruned", "failed"]
Role = Literal["trial", "baseline", "surrogate"]


class Column(NamedTuple):
    """One column of a result table."""

    name: str
    dtype: str
    description: str
    metric: Metric | None = None
    """The metric whose values it holds."""


def _metric_column(split: str, metric: Metric) -> Column:
    description = f"{metric.description or metric.title} ({split} split)"
    return Column(f"{split}.{metric.name}", "float64", description, metric)


def optional_column(name: str) -> Column | None:
    """The column of a metric that only some studies have; None for any other name.

    These are the accuracies under single attacks, and metrics from outside of this project.
    """
    split, _, metric = name.partition(".")
    if split in SPLITS and metric and metric not in METRICS.own:
        with suppress(ConfigError):
            return _metric_column(split, metric_named(metric))
    return None


PARAMETERS: tuple[Column, ...] = tuple(
    Column(path, dtype_of(annotation), "configuration value; lists and tables as JSON text")
    for path, annotation in field_paths()
)

_METRICS: tuple[Column, ...] = tuple(
    _metric_column(split, metric) for split in SPLITS for metric in METRICS.own.values()
)

_BASELINE: tuple[Column, ...] = tuple(
    Column(f"{split}.baseline_{quantity}", "float64", f"{description} ({split} split)")
    for split in SPLITS
    for quantity, description in (
        ("clean_accuracy", "C_0, mean over the baseline seeds"),
        ("robust_accuracy", "R_0, mean over the baseline seeds"),
        ("clean_accuracy_std", "sample standard deviation of the baselines' clean accuracy"),
        ("robust_accuracy_std", "sample standard deviation of the baselines' robust accuracy"),
        ("boundary_distance", "mean boundary distance over the baseline seeds"),
    )
)

_TRAINING: tuple[Column, ...] = (
    Column("kept_epoch", "int64", "epoch whose weights were kept, from 0"),
    Column("validation_loss", "float64", "cross-entropy of the kept weights, nats"),
    Column("similarity_correlation", "float64", "correlation of S_cnn and S_target, last epoch"),
    Column("positive_share", "float64", "share of +1 targets, last epoch, [0, 1]"),
    Column("negative_share", "float64", "share of -1 targets, last epoch, [0, 1]"),
    Column("num_train", "int64", "training images"),
    Column("num_validation", "int64", "validation images"),
    Column("num_test", "int64", "test images"),
    Column("train_seconds", "float64", "wall-clock seconds of training in this process"),
    Column("evaluate_seconds", "float64", "wall-clock seconds of evaluation"),
)

_PROVENANCE: tuple[Column, ...] = (
    Column("started_at", "string", "UTC, ISO 8601"),
    Column("finished_at", "string", "UTC, ISO 8601"),
    Column("host", "string", "machine that ran the trial"),
    Column("device", "string", "device that trained, with its model name"),
    Column("used_cuda_graph", "bool", "whether training replayed a CUDA graph"),
    Column("num_threads", "int64", "CPU threads of torch; CPU sums depend on them"),
    Column("python_version", "string", "version of Python"),
    Column("torch_version", "string", "version of torch"),
    Column("simreg_version", "string", "version of this project"),
    Column("commit", "string", "git commit of this project, if known"),
)

TRIAL_COLUMNS: tuple[Column, ...] = (
    Column("study", "string", "name of the search"),
    Column("trial", "int64", "number of the trial in the Optuna study"),
    Column("status", "string", "complete, pruned (stopped early) or failed"),
    Column("reason", "string", "why a trial is not complete"),
    Column(
        "feasible",
        "bool",
        "whether it meets the constraints; null if not complete, or one network of several",
    ),
    Column("num_seeds", "int64", "networks averaged over, with consecutive seeds from seed on"),
    Column("config_digest", "string", "digest of the trial's configuration"),
    Column("baseline_digest", "string", "identifies the baselines of the trial"),
    *PARAMETERS,
    *_METRICS,
    *_BASELINE,
    *_TRAINING,
    *_PROVENANCE,
)

_NETWORK: tuple[Column, ...] = (
    Column("role", "string", "trial, baseline or surrogate"),
    Column("trial", "int64", "number of the trial; null for baselines and the surrogate"),
    Column("baseline_digest", "string", "identifies the baselines of the trial"),
    Column("seed", "int64", "seed of the network"),
)

CURVE_COLUMNS: tuple[Column, ...] = (
    *_NETWORK,
    Column("split", "string", "validation or test"),
    Column("attack", "string", "name of the attack"),
    Column("label", "string", "name of the attack in charts"),
    Column("epsilon", "float64", "distortion in pixel units of [0, 1]"),
    Column("is_reference", "bool", "whether epsilon is the attack's reference distortion"),
    Column("accuracy", "float64", "fraction of images classified correctly"),
    Column("num_images", "int64", "images that the accuracy is computed on"),
)

SPECTRUM_COLUMNS: tuple[Column, ...] = (
    *_NETWORK,
    Column("split", "string", "validation or test"),
    Column("kind", "string", "perturbation_power or band_noise_accuracy"),
    Column("frequency_low", "float64", "lower edge of the band, cycles per pixel"),
    Column("frequency_high", "float64", "upper edge of the band, cycles per pixel (excluded)"),
    Column("epsilon", "float64", "standard deviation of the band's noise; null for power"),
    Column("value", "float64", "share of the mean power in the band, or accuracy"),
    Column("num_images", "int64", "images that the value is computed on"),
)

EPOCH_COLUMNS: tuple[Column, ...] = (
    *_NETWORK,
    Column("epoch", "int64", "from 0"),
    Column("learning_rate", "float64", "learning rate of the epoch"),
    Column("task_loss", "float64", "mean cross-entropy over the epoch's training images, nats"),
    Column("similarity_loss", "float64", "mean L_sim over the epoch's steps, before alpha"),
    Column("train_accuracy", "float64", "on the epoch's (augmented) training images"),
    Column("validation_loss", "float64", "cross-entropy on the validation split, nats"),
    Column("validation_accuracy", "float64", "accuracy on the validation split"),
    Column("gamma", "list<float64>", "layer weights after the epoch: stem, section1, ..."),
    Column("similarity_correlation", "float64", "Pearson correlation of S_cnn and S_target"),
    Column("positive_share", "float64", "share of +1 targets among the epoch's pairs"),
    Column("negative_share", "float64", "share of -1 targets among the epoch's pairs"),
    Column("seconds", "float64", "wall-clock seconds of the epoch, validation included"),
)

CONFIRMATION_COLUMNS: tuple[Column, ...] = (
    Column("role", "string", "trial (a confirmed configuration) or baseline"),
    Column("trial", "int64", "number of the confirmed trial; null for baselines"),
    Column("status", "string", "complete or failed"),
    Column("reason", "string", "why a run failed"),
    Column("config_digest", "string", "digest of the network's configuration"),
    *PARAMETERS,
    # Cost, gain, score and ratio compare with the baseline of the same seed (null until that is
    # trained), not with the search's baselines.
    *(column for column in _METRICS if column.name.startswith("test.")),
    Column("num_test", "int64", "test images"),
    *_PROVENANCE,
)

TABLES: dict[str, tuple[Column, ...]] = {
    "trials": TRIAL_COLUMNS,
    "curves": CURVE_COLUMNS,
    "epochs": EPOCH_COLUMNS,
    "spectra": SPECTRUM_COLUMNS,
    "confirmation": CONFIRMATION_COLUMNS,
    "seeds": TRIAL_COLUMNS,  # one row per network of trials with several seeds
}

_ARROW_TYPES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
}


def arrow_schema(table: str, optional: Iterable[str] = ()) -> pa.Schema:
    """The Arrow schema of one of :data:`TABLES`, with the schema version as metadata.

    ``optional`` names further columns; ValueError if :func:`optional_column` does not know one.
    """
    added = {name: optional_column(name) for name in optional}
    if unknown := sorted(name for name, column in added.items() if column is None):
        raise ValueError(f"table {table} has no columns {', '.join(unknown)}")
    fields = [
        pa.field(column.name, _ARROW_TYPES[column.dtype], metadata=_metadata(column))
        for column in (*TABLES[table], *filter(None, added.values()))
    ]
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION)})


def metrics_in(schema: pa.Schema) -> dict[str, Metric]:
    """The metrics in a table of trials, by name, as its file describes them.

    They can be shown but not computed.
    """
    found = {}
    for field in schema:
        split, _, name = field.name.partition(".")
        if split in SPLITS and _METRIC_KEY in (field.metadata or {}):
            found[name] = _described_metric(name, field.metadata[_METRIC_KEY])
    return found


class _MetricText(BaseModel, extra="forbid", strict=True):
    """The JSON text that describes a metric in a file."""

    label: str
    direction: Literal["maximize", "minimize"] | None
    worst: float | None
    description: str
    is_accuracy: bool
    against_baseline: bool


def _described_metric(name: str, text: bytes) -> Metric:
    try:
        described = dict(_MetricText.model_validate(parse_json(text)))
    except ValueError as err:  # ValidationError is one
        reason = f"damaged description of a metric: {one_line(err)}"
        raise ConfigError(f"column {name}: {reason}") from err
    return Metric(name=name, function=_absent, **described)


def is_optional(field: pa.Field) -> bool:
    """Whether a field of a file is an optional column; see :func:`optional_column`."""
    return _METRIC_KEY in (field.metadata or {}) and field.type == pa.float64()


def _metadata(column: Column) -> dict[str, str]:
    metadata = {"description": column.description}
    if metric := column.metric:
        shown = ("direction", "worst", "description", "is_accuracy", "against_baseline")
        described = {name: getattr(metric, name) for name in shown}
        metadata[_METRIC_KEY.decode()] = json.dumps({"label": metric.title, **described})
    return metadata


def _absent(*_: object) -> float:
    raise NotImplementedError("a metric that was read from a file cannot be computed")
