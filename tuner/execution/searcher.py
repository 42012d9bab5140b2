"""Connects Ray Tune to the Optuna study, which is the single source of truth of a search.

Ray Tune only runs networks. :class:`StudySearcher` asks the study for a trial, passes its networks
(one, or one per seed) to Tune, and records the outcome in the study: COMPLETE only at full budget
with finite objectives, PRUNED below it, FAIL with the reason otherwise. A trial's rows are written
before the study is updated, so every trial that is finished in the study has its rows. A trial that
is interrupted (Ctrl-C, a killed process, a full disk) stays RUNNING and continues when the search
is resumed. Ray's snapshots are not used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import optuna
from pydantic import ValidationError
from ray.tune.search import Searcher

from simreg_core.config.messages import explain, problems
from simreg_core.config.trial import TrialConfig
from simreg_core.errors import counted
from simreg_core.results.objectives import objective_values, parse_constraint
from simreg_core.results.schema import Status
from tuner.execution.records import joined_record, mean_record, read_record
from tuner.execution.worker import network_folder
from tuner.space.search_space import SearchSpace
from tuner.study.added_trials import own_trials
from tuner.study.object_journal import batched
from tuner.study.study import resume, tell


class Outcome(NamedTuple):
    """How one trial, or one of its networks, ended."""

    number: int
    status: Status
    reason: str | None
    config: TrialConfig | None
    """None if the sampled values are not a valid configuration."""
    record: Mapping[str, Any]
    """The rows from the workers (see :mod:`tuner.execution.records`); may be empty."""


class Observer(Protocol):
    """Receives the events of trials."""

    def started(self, number: int) -> None:
        """A trial begins."""

    def progressed(self, trial: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """A network has finished an epoch."""

    def ended(self, outcome: Outcome) -> Mapping[str, Any]:
        """Write the rows of a trial, before the study is updated, and return its own row."""


@dataclass
class _Trial:
    """An open trial and the outcomes of its networks."""

    trial: optuna.Trial
    config: TrialConfig
    num_open: int
    ended: dict[int, Outcome] = field(default_factory=dict)
    """By seed, in the order in which the networks ended."""

    @property
    def cause(self) -> tuple[int, Outcome] | None:
        """The first outcome that is not complete, which decides the trial, and its seed."""
        return next((item for item in self.ended.items() if item[1].status != "complete"), None)


class StudySearcher(Searcher):  # type: ignore[misc]
    """Passes the trials of a study to Ray Tune; ``interrupted`` are the trials to resume."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        observer: Observer,
        interrupted: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.error: BaseException | None = None
        """The first error that ends the search. Tune would only log it; the caller raises it."""
        self._observer = observer
        self._interrupted = deque(interrupted)
        self._networks: deque[tuple[_Trial, int]] = deque()
        """Networks of open trials that have not started, with their seeds."""
        self._running: dict[str, tuple[_Trial, int]] = {}
        waiting = optuna.trial.TrialState.WAITING
        states = [trial.state for trial in own_trials(study)]
        self._num_asked = len(states) - states.count(waiting)

    @property
    def num_networks(self) -> int:
        """Largest number of networks that are left to train."""
        left = max(0, self.space.tuning.num_trials - self._num_asked)
        return (left + len(self._interrupted)) * self.space.tuning.num_seeds

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next network for Tune, or FINISHED."""
        try:
            self._open_next()
        except Exception as err:  # for example a lost database
            self.error = self.error or err
        if self.error is not None or not self._networks:
            return Searcher.FINISHED  # type: ignore[no-any-return]
        opened, seed = self._running[trial_id] = self._networks.popleft()
        number = opened.trial.number
        return {
            "trial": number,
            "folder": network_folder(number, seed, self.space.tuning.num_seeds),
            "config": opened.config.model_copy(update={"seed": seed}).to_dict(),
        }

    def is_lost(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether to stop a network: the search or another network of its trial has failed."""
        if self.error is not None:
            return True
        return trial_id in self._running and self._running[trial_id][0].cause is not None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called by Tune when a network has finished an epoch."""
        if trial_id in self._running and result.get("epochs_done"):
            opened, seed = self._running[trial_id]
            num_epochs = opened.config.training.epochs
            self._observer.progressed(opened.trial.number, seed, result["epochs_done"], num_epochs)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called by Tune when a network has ended. :meth:`fail` follows for a lost worker."""
        if error or trial_id not in self._running:
            return
        result = result or {}
        try:
            if "full_disk" in result:
                raise OSError(result["full_disk"])
            record = read_record(result)
        except Exception as err:  # the trial stays open
            self.error = self.error or err
            return
        config = self._running[trial_id][0].config
        self._network_ended(trial_id, *self._judge(record, config, result), record)

    def fail(self, trial_id: str, reason: str) -> None:
        """Record that a network's worker is permanently lost."""
        if trial_id in self._running:
            self._network_ended(trial_id, "failed", reason, {})

    def _open_next(self) -> None:
        """Open trials until there is a network to start, or no trial left."""
        while self.error is None and not self._networks:
            with batched(self.study):
                trial = self._next_trial()
            if trial is None:
                return
            self._observer.started(trial.number)
            self._open(trial)

    def _next_trial(self) -> optuna.Trial | None:
        distributions = self.space.distributions()
        if self._interrupted:
            return resume(self.study, self._interrupted.popleft(), distributions)
        if self._num_asked >= self.space.tuning.num_trials:
            return None
        self._num_asked += 1
        return self.study.ask(distributions)

    def _open(self, trial: optuna.Trial) -> None:
        """Queue the networks of a trial, or record that its configuration is invalid."""
        try:
            config = self.space.trial_config(self.space.decode(trial.params))
        except ValidationError as err:
            reason = f"no valid configuration: {explain(problems(err)[0], TrialConfig)}"
            self._finish(trial, lambda: Outcome(trial.number, "failed", reason, None, {}))
            return
        seeds = self.space.network_seeds(config, trial.number)
        opened = _Trial(trial, config.model_copy(update={"seed": seeds[0]}), len(seeds))
        self._networks.extend((opened, seed) for seed in seeds)

    def _judge(
        self, record: Mapping[str, Any], config: TrialConfig, result: Mapping[str, Any]
    ) -> tuple[Status, str | None]:
        if "failure" in result:
            return "failed", result["failure"]
        num_epochs = len(record.get("epochs", ()))
        if num_epochs < config.training.epochs or "columns" not in record:
            reason = f"stopped after {num_epochs} of {counted(config.training.epochs, 'epoch')}"
            rule = self.space.tuning.early_stopping
            if rule is not None and rule.metric in result:
                reason += f": {rule.type} on {rule.metric}, {result[rule.metric]:.3f}"
            return "pruned", reason
        try:
            objective_values(record["columns"], self.space.objectives)
            for text in self.space.constraints:
                parse_constraint(text).violation(record["columns"])
        except ValueError as err:
            return "failed", str(err)
        return "complete", None

    def _network_ended(
        self, trial_id: str, status: Status, reason: str | None, record: Mapping[str, Any]
    ) -> None:
        """Collect a network's outcome; the last one of a trial ends the trial."""
        opened, seed = self._running.pop(trial_id)
        opened.ended[seed] = Outcome(opened.trial.number, status, reason, opened.config, record)
        opened.num_open -= 1
        if status != "complete":  # networks of the trial that have not started are dropped
            kept = [network for network in self._networks if network[0] is not opened]
            opened.num_open -= len(self._networks) - len(kept)
            self._networks = deque(kept)
        if opened.num_open == 0:
            self._finish(opened.trial, lambda: self._outcome(opened))

    def _outcome(self, opened: _Trial) -> Outcome:
        """The outcome of a trial, combined from those of its networks."""
        outcomes = [opened.ended[seed] for seed in sorted(opened.ended)]
        if self.space.tuning.num_seeds == 1:
            return outcomes[0]
        records = [outcome.record for outcome in outcomes]
        if opened.cause is None:
            return outcomes[0]._replace(record=mean_record(records))
        seed, cause = opened.cause
        return cause._replace(reason=f"seed {seed}: {cause.reason}", record=joined_record(records))

    def _finish(self, trial: optuna.Trial, outcome: Callable[[], Outcome]) -> None:
        """Record how a trial ended; after an error it stays open, and nothing is written."""
        if self.error is not None:
            return
        try:
            row = self._observer.ended(outcome())
            tell(self.study, trial, row, self.space)
        except Exception as err:  # for example a full disk
            self.error = err

    def save(self, checkpoint_path: str) -> None:
        """Write an empty snapshot for Ray: the study is stored already."""
        Path(checkpoint_path).touch()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles searchers into its own snapshot, which nothing here reads.
        return {}
