"""Writes the results of finished trials before the study is updated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simreg_core.results.objectives import BestTrial, best_trial, total_violation
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from tuner.execution.progress import SearchView
from tuner.execution.records import write_rows
from tuner.execution.searcher import Outcome
from tuner.execution.worker import OPEN_FILES
from tuner.space.search_space import SearchSpace


class Recorder:
    """Writes the rows of finished trials; ``rows`` are those of the trials that ended before.

    Writing the rows of a trial again replaces them.
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
        self.started = view.started
        self.progressed = lock.progressed
        self._best: Mapping[str, Any] | None = None
        self._show_best(rows)

    def ended(self, outcome: Outcome) -> dict[str, Any]:
        """Write the rows of a trial and return its row in the trials table."""
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
        write_rows(self.store, row, outcome.record)
        folder = self.store.folder / "checkpoints" / f"{outcome.number:05d}"
        for name in OPEN_FILES:
            for path in folder.rglob(name):
                path.unlink(missing_ok=True)
        self.lock.ended(outcome.number)
        self._show_best([row])
        self.view.finished(outcome.number, outcome.status, outcome.reason)
        return row

    def _show_best(self, new: Iterable[Mapping[str, Any]]) -> None:
        known = [] if self._best is None else [self._best]
        rule = (self.space.objectives, self.space.constraints)
        self._best = best_trial([*known, *new], *rule)
        self.view.best = None if self._best is None else BestTrial.measured(self._best, *rule)
