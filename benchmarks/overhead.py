"""Cost of a search beyond the training: milliseconds per trial, and seconds to read its results.

``python -m benchmarks.overhead`` measures the work of the driver on a trial (ask the study, write
the rows, tell the study) with 100, 1,000 and 10,000 finished trials in the study, the overhead of
Ray with trials that do nothing, and the time to read 10,000 trials. It prints medians and, in
brackets, quartiles.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from rich.console import Console

from analysis.results.load import load_results, load_table
from simreg_core.config.trial import TrialConfig
from simreg_core.results.schema import TABLES
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import BLOCK_SIZE, ResultStore, block_of
from tuner.execution.progress import SearchView
from tuner.execution.ray_session import Resources, ray_session, set_environment
from tuner.execution.searcher import Outcome
from tuner.execution.worker import WorkerSettings
from tuner.space.loading import load_space
from tuner.space.search_space import SearchSpace

SPACE = Path(__file__).parents[1] / "search_spaces" / "smoke.yaml"
_SAMPLERS = ("nehvi", "tpe", "random", "nsgaii")
EPOCHS, CURVE_POINTS = 20, 88  # rows of a network in the tables epochs and curves
TRIAL_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> None:
    """Print the requested tables."""
    parts = {"driver": measure_driver, "ray": measure_ray, "reading": measure_reading}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--trials", type=int, default=25, help="measured trials per size")
    parser.add_argument("--ray-trials", type=int, default=200, help="trials per run with Ray")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of reading and of Ray")
    args = parser.parse_args(argv)
    set_environment()
    for part in args.parts:
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            parts[part](Path(folder), args)


def measure_driver(folder: Path, args: argparse.Namespace) -> None:
    """Time the work of the driver on a trial, by sampler and number of finished trials."""
    from tuner.execution.recorder import Recorder
    from tuner.execution.searcher import StudySearcher
    from tuner.space.samplers import SAMPLERS
    from tuner.study.study import open_study

    space = make_space(max(args.sizes) + args.trials)
    print(f"the driver's work, ms per trial (n = {args.trials})")
    print(f"{'sampler':10}{'trials':>8}{'all':>22}{'ratio':>7}{'ask':>22}{'rows':>20}{'tell':>18}")
    for size in args.sizes:
        write_study(folder / str(size), space, size)
    for sampler in _SAMPLERS:
        smallest = None
        for size in args.sizes:
            home = Path(shutil.copytree(folder / str(size), folder / f"{sampler}-{size}"))
            study = open_study(home, space)
            study.sampler = SAMPLERS.get(sampler).make(0, {})
            view = SearchView(Console(file=io.StringIO()), "trial", size)
            with StudyLock(home) as lock:
                recorder = Timed(Recorder(space, ResultStore(home), view, lock))
                searcher = StudySearcher(study, space, recorder)
                asked, told = [], []
                for number in range(size, size + args.trials):
                    clock = time.perf_counter()
                    searcher.suggest(str(number))
                    asked.append(time.perf_counter() - clock)
                    last = report(number, home)
                    clock = time.perf_counter()
                    searcher.on_trial_complete(str(number), last)
                    told.append(time.perf_counter() - clock)
                if searcher.error is not None:
                    raise searcher.error
            rows = recorder.seconds
            tell = [both - own for both, own in zip(told, rows, strict=True)]
            total = [sum(pair) for pair in zip(asked, told, strict=True)]
            smallest = smallest or statistics.median(total)
            cells = f"{milliseconds(total):>22}{statistics.median(total) / smallest:7.2f}"
            cells += f"{milliseconds(asked):>22}{milliseconds(rows):>20}{milliseconds(tell):>18}"
            print(f"{sampler:10}{size:8}{cells}", flush=True)
            shutil.rmtree(home)


def measure_ray(folder: Path, args: argparse.Namespace) -> None:
    """Time between the ends of two trials that do nothing, with one and two at once."""
    from tuner.execution.recorder import Recorder
    from tuner.execution.searcher import StudySearcher
    from tuner.execution.tune_runner import run_networks
    from tuner.study.study import open_study

    space = make_space(args.ray_trials)
    print(f"trials of 0 s under Ray, ms per trial ({args.repeats} runs of {args.ray_trials})")
    with ray_session(None):
        for num_slots in (1, 2):
            spans, own = [], []
            for run in range(args.repeats):
                home = folder / f"{num_slots}-{run}"
                home.mkdir()
                store = ResultStore(home)
                store.create()
                view = SearchView(Console(file=io.StringIO()), "trial", args.ray_trials)
                settings = WorkerSettings(home, home, "cpu", 1)
                with StudyLock(home) as lock:
                    recorder = Timed(Recorder(space, store, view, lock))
                    searcher = StudySearcher(open_study(home, space), space, recorder)
                    run_networks(
                        searcher, settings, Resources(1, 0, num_slots), view, (), do_nothing
                    )
                if searcher.error is not None:
                    raise searcher.error
                begin, *_, end = recorder.ends
                spans.append((end - begin) / (len(recorder.ends) - 1))
                own.append(statistics.median(recorder.seconds))
            # Each of the slots is idle while all of them get a new trial.
            idle = statistics.median(spans) * num_slots
            share = idle / (TRIAL_SECONDS + idle)
            print(
                f"{num_slots} at once: {milliseconds(spans)}, of which rows {milliseconds(own)}; "
                f"of trials of {TRIAL_SECONDS:.0f} s: {share:.1%}",
                flush=True,
            )


def measure_reading(folder: Path, args: argparse.Namespace) -> None:
    """Time reading the largest result."""
    size = max(args.sizes)
    write_tables(folder, size)
    calls: dict[str, Callable[[], Any]] = {
        "pandas, trials": functools.partial(pd.read_parquet, folder / "trials"),
        "analysis, trials": functools.partial(load_table, folder, "trials"),
        "pandas, curves": functools.partial(pd.read_parquet, folder / "curves"),
        "analysis, trials and curves": functools.partial(load_results, folder),
        "tuner, rows of trials": functools.partial(ResultStore(folder).read, "trials"),
    }
    print(f"to read {size} trials ({CURVE_POINTS} rows of curves each), s (n = {args.repeats})")
    for name, call in calls.items():
        times = []
        for _ in range(args.repeats):
            clock = time.perf_counter()
            call()
            times.append(time.perf_counter() - clock)
        print(f"{name:30}{spread(times, 2)}", flush=True)


class Timed:
    """Wraps an observer of trials and records when they end and how long it takes."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.seconds: list[float] = []
        self.ends: list[float] = []

    def started(self, number: int) -> None:
        """Forward the call."""
        self.observer.started(number)

    def progressed(self, number: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Forward the call."""
        self.observer.progressed(number, seed, epochs_done, num_epochs)

    def ended(self, outcome: Outcome) -> Mapping[str, Any]:
        """Forward the call and record its time."""
        clock = time.perf_counter()
        row: Mapping[str, Any] = self.observer.ended(outcome)
        self.ends.append(time.perf_counter())
        self.seconds.append(self.ends[-1] - clock)
        return row


def make_space(num_trials: int) -> SearchSpace:
    """A space of three parameters with two objectives."""
    flags = [f"tuning.num_trials={num_trials}", f"training.epochs={EPOCHS}"]
    search = "search.regularizer.batch_size={type: int, low: 2, high: 64}"
    return load_space(SPACE, [*flags, search])


def do_nothing(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Report a network without training one, in a worker."""
    from ray import tune

    tune.report(report(config["trial"], settings.folder))


def report(number: int, folder: Path) -> dict[str, Any]:
    """The last report of a network; its rows are in a file."""
    path = folder / f"record-{number}.json"
    path.write_text(json.dumps(make_record(number)))
    return {"record": str(path), "epochs_done": EPOCHS}


def make_record(number: int) -> dict[str, Any]:
    """Random rows of a network, as many as a real network has."""
    rng = random.Random(number)
    identity = {"role": "trial", "trial": number, "baseline_digest": "0" * 16, "seed": 0}
    names = [c.name for c in TABLES["trials"] if c.dtype == "float64" and "." in c.name]
    metrics = [name for name in names if name.startswith(("validation.", "test."))]
    curve = {"split": "test", "attack": "gaussian", "is_reference": False, "num_images": 100}
    return {
        "columns": {name: rng.random() for name in metrics}
        | {"started_at": "2026-01-01T00:00:00", "host": "node", "baseline_digest": "0" * 16},
        "curves": [
            {**identity, **curve, "epsilon": point / CURVE_POINTS, "accuracy": rng.random()}
            for point in range(CURVE_POINTS)
        ],
        "spectra": [],
        "epochs": [
            {**identity, "epoch": epoch, "task_loss": rng.random(), "gamma": [rng.random()] * 3}
            for epoch in range(EPOCHS)
        ],
        "references": [],
    }


def write_study(folder: Path, space: SearchSpace, size: int) -> None:
    """Write a study and tables with ``size`` complete trials."""
    from tuner.study.study import open_study

    write_tables(folder, size)
    study = open_study(folder, space)
    rng = random.Random(0)
    distributions = space.distributions()
    sampler = optuna.samplers.RandomSampler(seed=0)
    study.add_trials(
        optuna.trial.create_trial(
            params={
                key: sampler.sample_independent(study, None, key, distribution)  # type: ignore[arg-type]
                for key, distribution in distributions.items()
            },
            distributions=distributions,
            values=[rng.random() for _ in space.objectives],
        )
        for _ in range(size)
    )


def write_tables(folder: Path, size: int) -> None:
    """Write the tables of a search of ``size`` trials."""
    folder.mkdir(exist_ok=True)
    store = ResultStore(folder)
    store.create()
    base = make_space(1).trial_config({})
    for first in range(0, size, BLOCK_SIZE):
        numbers = range(first, min(first + BLOCK_SIZE, size))
        records = {number: make_record(number) for number in numbers}
        rows = [
            {**base.flat(), **record["columns"], **_identity(number, base)}
            for number, record in records.items()
        ]
        store.write("trials", block_of(first), rows)
        for table in ("curves", "epochs"):
            joined = [row for record in records.values() for row in record[table]]
            store.write(table, block_of(first), joined)


def _identity(number: int, base: TrialConfig) -> dict[str, Any]:
    digest = base.model_copy(update={"seed": number}).digest()
    return {"trial": number, "study": "many", "status": "complete", "config_digest": digest}


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and quartiles in milliseconds."""
    return spread([1000 * value for value in seconds], 1)


def spread(values: Sequence[float], digits: int) -> str:
    """Median and, in brackets, quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
