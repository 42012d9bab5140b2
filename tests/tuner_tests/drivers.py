"""Drives a searcher as Tune does, without Ray and without training."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from tuner.execution.searcher import Outcome, StudySearcher
from tuner.space.search_space import SearchSpace
from tuner.study.study import open_study, reconcile

_RECORDS = tempfile.TemporaryDirectory()


class Driver:
    def __init__(self, folder: Path, space: SearchSpace) -> None:
        self.space = space
        self.study = open_study(folder, space)
        self.outcomes: list[Outcome] = []
        self.rows: list[Mapping[str, Any]] = []
        """What a table would have: rows of the trials that ended."""
        self.states: list[TrialState] = []
        """State of the trial in the study while its outcome was recorded."""
        self.begun: list[int] = []
        self.epochs: list[tuple[int, int, int, int]] = []
        interrupted = reconcile(self.study, self.rows, space)
        self.searcher = StudySearcher(self.study, space, self, interrupted)

    def started(self, number: int) -> None:
        self.begun.append(number)

    def progressed(self, number: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        self.epochs.append((number, seed, epochs_done, num_epochs))

    def ended(self, outcome: Outcome) -> Mapping[str, Any]:
        self.outcomes.append(outcome)
        self.states.append(self.study.trials[outcome.number].state)
        self.rows.append(row_of(outcome))
        return self.rows[-1]

    def ask(self, name: str = "a") -> dict[str, Any]:
        """The trial that Tune would run next, under a name of Tune's."""
        suggestion = self.searcher.suggest(name)
        assert isinstance(suggestion, dict)
        return suggestion

    def run(self, *results: Mapping[str, Any]) -> None:
        """Trials one after another, each ending with one of the results."""
        for number, result in enumerate(results):
            self.ask(f"run-{number}")
            self.searcher.on_trial_complete(f"run-{number}", dict(result))

    def trial(self, number: int = 0) -> optuna.trial.FrozenTrial:
        return self.study.trials[number]


def row_of(outcome: Outcome) -> dict[str, Any]:
    identity = {"trial": outcome.number, "status": outcome.status, "reason": outcome.reason}
    return {**outcome.record.get("columns", {}), **identity}


def report(*, num_epochs: int = 2, **metrics: float | None) -> dict[str, Any]:
    """The last report of a trial: by default of the full budget and with good values."""
    figures = {"clean_accuracy": 0.9, "robust_accuracy": 0.5, "tradeoff_score": 0.1, **metrics}
    record = {
        "columns": {f"validation.{name}": value for name, value in figures.items()},
        "epochs": [{"epoch": epoch} for epoch in range(num_epochs)],
        "curves": [],
        "spectra": [],
        "baselines": [],
    }
    return {"record": write_record(record), "epochs_done": num_epochs}


def write_record(record: Mapping[str, Any]) -> str:
    with tempfile.NamedTemporaryFile("w", dir=_RECORDS.name, delete=False) as stream:
        json.dump(record, stream)
    return stream.name
