"""What Tune says of networks, reduced to what is worth logging and handed to every logger."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from ray import tune

from simreg_core.config.yaml_io import get_dotted
from simreg_core.results.schema import METRICS, SPLITS
from tuner.log_channel import Entry, LogChannel, Network
from tuner.log_targets import LogTarget
from tuner.ray_loggers import make_logger

_PATIENCE = 30.0  # seconds that the end of a search waits for its logs
_PATIENCE_INTERRUPTED = 5.0  # the same after Ctrl-C
_NOT_LOGGED = ("role", "trial", "baseline_digest", "seed", "epoch")  # columns of an epoch's row
_LOG_ATTRIBUTE = "log_id"  # of the study


def log_id(study: optuna.Study) -> str:
    """What tells a study's logs from those of any other; kept in it, made when first asked for."""
    if _LOG_ATTRIBUTE not in study.user_attrs:
        study.set_user_attr(_LOG_ATTRIBUTE, secrets.token_hex(4))
    return str(study.user_attrs[_LOG_ATTRIBUTE])


class LogForwarder(tune.Callback):  # type: ignore[misc]
    """Tells loggers what Tune tells it, reduced to what is worth logging; a context of a search.

    Args:
        targets: Where to log.
        folder: ``OUTPUT/NAME``.
        keys: The searched keys of the configuration.
        log_id: Unlike that of any other search.
        say: Prints a line.
    """

    def __init__(
        self,
        targets: Sequence[LogTarget],
        folder: Path,
        keys: Sequence[str],
        log_id: str,
        say: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._log_id = log_id
        self._networks: dict[str, Network] = {}
        """By Tune's id."""
        self._measured: dict[str, dict[int, dict[str, float]]] = {}
        """Metrics of an epoch's network, by Tune's id and epochs done."""
        self._channels = [
            LogChannel(target.kind, functools.partial(make_logger, target, folder), say)
            for target in targets
        ]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune's word that a network begins, maybe again."""
        if trial.trial_id not in self._networks:
            self._networks[trial.trial_id] = self._network(trial.config)
            self._measured[trial.trial_id] = {}
        self._changed(self._networks[trial.trial_id])

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Tune's word that a network has reported."""
        network = self._networks[trial.trial_id]
        note_report(network, self._measured[trial.trial_id], result)
        self._changed(network)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune's word that a network ended."""
        if "full_disk" in (trial.last_result or {}):
            return  # the trial stays open
        self._ended(trial, "failure" in (trial.last_result or {}))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune's word that a network's worker was lost for good."""
        self._ended(trial, True)

    def _ended(self, trial: Any, failed: bool) -> None:
        network = self._networks.pop(trial.trial_id, None)
        if network is not None:  # else it ended before it began
            del self._measured[trial.trial_id]
            network.failed = failed
            network.ended = True
            self._changed(network)

    def _changed(self, network: Network) -> None:
        for channel in self._channels:
            channel.changed(network)

    def _network(self, told: Mapping[str, Any]) -> Network:
        name = told["folder"].replace("/", "-")
        config = told["config"]
        params = {key: readable(get_dotted(config, key)) for key in (*self._keys, "seed")}
        key = f"{self._log_id}-{name}"
        return Network(key, self._folder.name, told["trial"], name, params)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled into Ray's snapshot, which nothing here reads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels:
            channel.close(_PATIENCE if kind is None else _PATIENCE_INTERRUPTED)


def note_report(
    network: Network, measured: dict[int, dict[str, float]], result: Mapping[str, Any]
) -> None:
    """Add to a network what is new in a report (see :func:`tuner.execution.worker.run_trial`).

    A report holds all epochs so far, so that those before a resumption are logged as well.

    Args:
        network: Whose worker has reported.
        measured: Metrics of its epochs, from earlier reports.
        result: The report.
    """
    found = {name: result[name] for name in METRICS if isinstance(result.get(name), float)}
    if found:
        measured[result["epochs_done"]] = found
    record = json.loads(result.get("record", "{}"))
    last = network.entries[-1].step if network.entries else 0
    for row in record.get("epochs", ()):
        step = row["epoch"] + 1
        if step > last:
            metrics = {f"epoch.{name}": value for name, value in measured.get(step, {}).items()}
            network.entries.append(Entry(step, {**_figures(row), **metrics}, is_final=False))
            last = step
    if "columns" in record and not (network.entries and network.entries[-1].is_final):
        columns = record["columns"]
        names = [f"{split}.{name}" for split in SPLITS for name in METRICS]
        values = {name: columns[name] for name in names if columns.get(name) is not None}
        network.entries.append(Entry(last, values, is_final=True))


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch's row; of a list one by one."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in _NOT_LOGGED or value is None:
            continue
        if isinstance(value, list):
            found |= {f"{name}.{index}": part for index, part in enumerate(value)}
        else:
            found[name] = value
    return found


def readable(value: Any) -> Any:
    """A parameter as every logger takes it: a number or text; anything else as JSON text."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
