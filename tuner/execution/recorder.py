"""Record what a search measures, before the study learns of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simreg_core.results.objectives import BestTrial, best_trial, total_violation
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from tuner.execution.progress import SearchView
from tuner.execution.searcher import Outcome
from tuner.execution.worker import OPEN_FILES
from tuner.space.search_space import SearchSpace

_NETWORK_TABLES = ("curves", "spectra", "epochs")  # several rows a network


class Recorder:
    """Writes the rows of finished trials; every write replaces, so a repeat does no harm.

    Args:
        space: What is searched.
        store: The tables of the search.
        view: Where the trials are counted and the best one is shown.
        lock: Holds the folder of the tables.
        rows: Of the trials that had ended before.
    """

    def __init__(
        self,
        space: SearchSpace,
        store: ResultStore,
        view: SearchView,
        lock: StudyLock,
        rows: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.space = space
        self.store = store
        self.view = view
        self.lock = lock
        self._best: Mapping[str, Any] | None = None
        self._show_best(rows)

    def started(self, number: int) -> None:
        """Show that a trial begins."""
        self.view.started(number)

    def progressed(self, number: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Say for other processes how far a network is."""
        self.lock.progressed(number, seed, epochs_done, num_epochs)

    def ended(self, outcome: Outcome) -> dict[str, Any]:
        """Write the rows of a trial; returns that of the trials table.

        Raises:
            ConfigError: a file of the tables is damaged.
            OSError: results cannot be written.
        """
        identity = {"study": self.store.folder.name, "trial": outcome.number}
        row = {
            **(outcome.config.flat() if outcome.config is not None else {}),
            **outcome.record.get("columns", {}),
            **identity,
            "status": outcome.status,
            "reason": outcome.reason,
            "num_seeds": self.space.tuning.num_seeds,
        }
        if outcome.status == "complete":
            row["feasible"] = total_violation(row, self.space.constraints) == 0
        write_baselines(self.store, outcome.record.get("baselines", []))
        for table in _NETWORK_TABLES:
            if table in outcome.record:
                self.store.write_trial(table, outcome.number, outcome.record[table])
        if networks := outcome.record.get("seeds"):
            complete = {**identity, "status": "complete", "num_seeds": 1}
            rows = [{**columns, **complete} for columns in networks]
            self.store.write_trial("seeds", outcome.number, rows)
        # Last: a trial that has its row has all its rows.
        self.store.write_trial("trials", outcome.number, [row])
        folder = self.store.folder / "checkpoints" / f"{outcome.number:05d}"
        for name in OPEN_FILES:  # nothing resumes from these any more
            for path in folder.rglob(name):
                path.unlink(missing_ok=True)
        self.lock.ended(outcome.number)
        self._show_best([row])
        self.view.finished(outcome.number, outcome.status, outcome.reason)
        return row

    def _show_best(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Show the best of all trials so far, of which ``rows`` are new."""
        known = [] if self._best is None else [self._best]
        rule = (self.space.objectives, self.space.constraints)
        self._best = best_trial([*known, *rows], *rule)
        self.view.best = None if self._best is None else BestTrial.of(self._best, *rule)


def write_baselines(store: ResultStore, records: list[dict[str, Any]]) -> None:
    """Write the curves and epochs of baseline networks that the tables do not have yet."""
    for record in records:
        for table in _NETWORK_TABLES:
            if not store.has(table, record["part"]):
                store.write(table, record["part"], record[table])
