"""Stage ``published``: the networks of the published protocol, side by side in processes.

Two unregularized networks, the surrogate, two networks regularized with CIFAR-10 images and one
with ImageNet's. Rows are written as a search writes them, so ``analysis`` reads the folders
``published/datasets`` and ``published/curves``. Every network has a checkpoint to go on from.
"""

from __future__ import annotations

import json
import multiprocessing
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.mps import MpsUnavailableError, mps
from benchmarks.gpu.networks import (
    STUDIES,
    TRIALS,
    Trial,
    baselines_folder,
    make_config,
    measure_baseline,
    measure_trial,
    open_cache,
    state_file,
    study_folder,
    trials_of,
    unregularized,
)
from benchmarks.gpu.results import Recorder, Settings
from simreg_core.networks import checkpoint
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text
from simreg_core.training.state import EpochRecord
from tuner.execution.records import write_rows

Job = Callable[[], dict[str, Any] | None]
_MARGIN = 15.0  # seconds before the deadline, to read checkpoints and pack the tables


def run(settings: Settings, recorder: Recorder) -> None:
    """Train and attack all networks, first with the four attacks, then with the boundary attack."""
    open_cache(settings, make_config(settings, TRIALS[0], STUDIES[0]))  # decodes the images once
    try:
        for study in STUDIES:
            store = _open_store(settings, study)
            jobs = _jobs(settings, study, store)
            failures = _with_mps(settings, recorder, jobs, partial(_finished, settings, store))
            for name, reason in failures.items():
                recorder.add(f"{study}: {name}", note=reason[:300], status="failed")
            _summarise(recorder, study, store)
            if settings.seconds_left() < _MARGIN:
                recorder.add(f"{study}: time limit", note="call again to go on", status="stopped")
                break
    finally:
        _record_progress(settings, recorder)
        _pack(settings)


def _open_store(settings: Settings, study: str) -> ResultStore:
    """The result folder of a study, with its space file."""
    store = ResultStore(study_folder(settings, study))
    if not (store.folder / SPACE_FILE).exists():
        store.folder.mkdir(parents=True, exist_ok=True)
        store.create()
        own = [make_config(settings, trial, study) for trial in trials_of(study)]
        varied: dict[str, list[Any]] = {
            "regularizer.dataset": [config.regularizer.dataset for config in own],
            "seed": [config.seed for config in own],
        }
        space = {
            "name": study,
            "trial": own[0].to_dict(),
            "search": {
                name: {"type": "categorical", "choices": list(dict.fromkeys(values))}
                for name, values in varied.items()
            },
            "objectives": ["clean_accuracy", "robust_accuracy"],
            "tuning": {"num_trials": len(own), "sampler": "grid"},
        }
        write_text(store.folder / SPACE_FILE, json.dumps(space, indent=1))
    return store


def _jobs(settings: Settings, study: str, store: ResultStore) -> dict[str, Job]:
    """What is left of a study, by the name of the network."""
    done = {row["trial"] for row in store.read("trials")}
    trials = [trial for trial in trials_of(study) if trial.number not in done]
    if not trials:
        return {}
    jobs: dict[str, Job] = {
        f"{network.role} {network.seed}": partial(measure_baseline, settings, study, index)
        for index, network in enumerate(unregularized(settings, study))
    }
    return jobs | {_name(trial): partial(measure_trial, settings, study, trial) for trial in trials}


def _with_mps(
    settings: Settings,
    recorder: Recorder,
    jobs: dict[str, Job],
    finished: Callable[[dict[str, Any]], None],
) -> dict[str, str]:
    """Run jobs under MPS if that is possible, and what fails there without it; their failures."""
    with ExitStack() as stack:
        try:
            if jobs:
                stack.enter_context(mps(settings.out))
        except MpsUnavailableError as err:
            recorder.add("MPS", note=f"not used: {err}", status="skipped")
            return _run_jobs(settings, jobs, finished)
        failures = _run_jobs(settings, jobs, finished)
    if failures:
        recorder.add("MPS", note=f"jobs failed under it: {', '.join(failures)}", status="failed")
        return _run_jobs(settings, {name: jobs[name] for name in failures}, finished)
    return {}


def _run_jobs(
    settings: Settings, jobs: Mapping[str, Job], finished: Callable[[dict[str, Any]], None]
) -> dict[str, str]:
    """Run jobs in processes until the deadline; the reasons of those that failed."""
    failures: dict[str, str] = {}
    if not jobs:
        return failures
    context = multiprocessing.get_context("spawn")
    with context.Pool(2 if settings.quick else len(jobs)) as pool:  # its end kills what still runs
        waiting = {name: pool.apply_async(job) for name, job in jobs.items()}
        while waiting and settings.seconds_left() > _MARGIN:
            for name in [name for name, result in waiting.items() if result.ready()]:
                try:
                    record = waiting.pop(name).get()
                except Exception as err:
                    failures[name] = f"{type(err).__name__}: {err}"
                    continue
                if record is not None:
                    finished(record)
            time.sleep(0.1)
    return failures


def _finished(settings: Settings, store: ResultStore, record: dict[str, Any]) -> None:
    """Write the rows of a trial."""
    number = record["epochs"][0]["trial"]
    row = {
        **record["columns"],
        "study": store.folder.name,
        "trial": number,
        "status": "complete",
        "reason": None,
        "num_seeds": 1,
        "feasible": True,
    }
    write_rows(store, row, record)


def _summarise(recorder: Recorder, study: str, store: ResultStore) -> None:
    """Record the test accuracies of every group of seeds, from the tables."""
    groups = {trial.number: trial.group for trial in trials_of(study)}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in store.read("curves"):
        if row["split"] != "test" or row["role"] == "surrogate":
            continue
        values = found.setdefault(groups.get(row["trial"], "unregularized"), {})
        if row["epsilon"] == 0:
            values.setdefault("clean", {})[row["seed"]] = row["accuracy"]
        elif row["is_reference"]:
            name = f"{row['label']}, {row['epsilon']:g}"
            values.setdefault(name, {})[row["seed"]] = row["accuracy"]
    for group in sorted(found, key=["unregularized", *groups.values()].index):
        values_by_seed = {name: list(own.values()) for name, own in found[group].items()}
        recorder.add(f"{study}: {group}", values_by_seed, "test accuracy; one value per seed")
    rows = store.read("trials")
    for group in dict.fromkeys(groups[row["trial"]] for row in rows):
        own = [row for row in rows if groups[row["trial"]] == group]
        columns = ["train_seconds", "evaluate_seconds"]
        columns += ["test.boundary_distance"] * (study == "curves")
        costs = {name: [row[name] for row in own if row[name] is not None] for name in columns}
        kept = {name: values for name, values in costs.items() if values}
        recorder.add(f"{study}: {group}, costs", kept, "side by side with the other networks")


def _record_progress(settings: Settings, recorder: Recorder) -> None:
    """Record how far every network has been trained, from the checkpoints."""
    for trial in TRIALS:
        with suppress(checkpoint.CheckpointError):
            _add_progress(recorder, _name(trial), checkpoint.load(state_file(settings, trial)))
    for path in sorted(baselines_folder(settings).glob("*.state.pt")):
        with suppress(checkpoint.CheckpointError):
            _add_progress(recorder, path.name.rpartition("-")[0], checkpoint.load(path))
    for path in sorted(baselines_folder(settings).glob("*.epochs.json")):
        records = json.loads(path.read_text(encoding="utf-8"))
        _add_progress(recorder, path.name.rpartition("-")[0], {"records": records})


def _name(trial: Trial) -> str:
    return f"{trial.group}, seed {trial.seed}"


def _add_progress(recorder: Recorder, name: str, payload: Mapping[str, Any]) -> None:
    records = [EpochRecord(*record) for record in payload["records"]]
    if not records:
        return
    values = {
        "epochs": [float(len(records))],
        "validation accuracy": [records[-1].validation_accuracy],
        "s of an epoch": [record.seconds for record in records],
    }
    recorder.add(f"training: {name}", values, "side by side with the other networks")


def _pack(settings: Settings) -> None:
    """``tables.tar.gz``: the result folders and the unregularized networks' files, no weights."""
    root = Path(settings.out)
    paths = [study_folder(settings, study) for study in STUDIES]
    paths += baselines_folder(settings).glob("*.json")
    with tarfile.open(root / "tables.tar.gz", "w:gz") as archive:
        for path in filter(Path.exists, paths):
            archive.add(path, path.relative_to(root), filter=_without_checkpoints)


def _without_checkpoints(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "checkpoints" in Path(member.name).parts else member
