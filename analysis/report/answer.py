"""What the report says in words: conditions, the answer with how sure it is, what to run next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.charts.wording import conditions, list_trials, number, one_line, seeds_words, signed
from analysis.findings.front_uncertainty import expected_maximum
from analysis.findings.hypervolume_growth import device_hours, hours_unit
from analysis.findings.modelled_front import NoiseAwareFront
from analysis.findings.study import Study, noise_of_score, numbers
from analysis.results.evidence import Confirmed
from analysis.results.parameters import format_value
from simreg_core.results.schema import METRICS

CONFIRM_SEEDS = 5
MAX_CONFIRMED = 10  # a front of more is confirmed by its best


class Command(NamedTuple):
    """Something to run next."""

    why: str
    command: str


class Answer(NamedTuple):
    """Is there a better tradeoff than the baseline?"""

    verdict: str
    """In a few words."""
    sentences: tuple[str, ...]
    recommended: int | None
    """Number of the trial; None if there is none to recommend."""
    commands: tuple[Command, ...]


class TextTable(NamedTuple):
    """A small table of the report."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def header(study: Study) -> list[tuple[str, str]]:
    """The conditions of everything in the report: name and text."""
    trials = study.results.trials
    counts = trials["status"].value_counts()
    running = study.heartbeat.get("running")
    phase = study.heartbeat.get("phase")
    under_way = len(running) if isinstance(running, dict) and phase not in (None, "done") else 0
    as_of = study.heartbeat.get("updated_at")
    parts = [f"{int(counts.get(name, 0))} {name}" for name in ("complete", "pruned", "failed")]
    parts.append(f"{under_way} running" + (f" (as of {as_of})" if under_way and as_of else ""))
    tuning = study.space.get("tuning")
    asked = tuning.get("num_trials") if isinstance(tuning, dict) else None
    return [
        ("Search", study.results.study),
        ("Trials", ", ".join(parts) + (f"; {asked} asked for" if asked else "")),
        ("Split", f"{study.split}, {_images(study)}"),
        ("Objectives", _objectives(study)),
        ("Seeds", f"{seeds_words(study)} ({_distinct(trials['seed'])})"),
        ("Baseline", _baseline_seeds(study)),
        *([("Audits", _audits(study))] if study.audits else []),
        ("Device", _distinct(trials["device"])),
        ("Versions", _versions(trials)),
        ("Run", f"{_first(trials['started_at'], 'min')} to {_first(trials['finished_at'], 'max')}"),
    ]


def _images(study: Study) -> str:
    n = study.results.trials[f"num_{study.split}"].dropna().astype(int)
    if n.empty:
        return "no images recorded yet"
    return f"n = {n.min()} images" if n.min() == n.max() else f"n = {n.min()} to {n.max()} images"


def _objectives(study: Study) -> str:
    names = ", ".join(f"{METRICS[n].label} ({METRICS[n].direction})" for n in study.objectives)
    if len(study.searched) == 1:
        return f"{METRICS[study.searched[0]].label} was searched; the front is of {names}"
    return names if study.searched else f"{names} (no space file says what was searched)"


def _baseline_seeds(study: Study) -> str:
    rows = study.results.curves
    seeds = sorted(rows.loc[rows["role"] == "baseline", "seed"].dropna().astype(int).unique())
    if not seeds:
        return "none recorded"
    more = f"; {study.num_baselines} different baselines" if study.num_baselines > 1 else ""
    return f"unregularized networks of seeds {', '.join(map(str, seeds))}{more}"


def _audits(study: Study) -> str:
    """What audits of networks that lie in the folder found, the search's own first."""
    texts = []
    for audit in sorted(study.audits, key=lambda a: (a.trial is None, a.trial or 0, a.file)):
        whose = "another search's network" if audit.trial is None else f"trial {audit.trial}"
        signs = len(audit.warnings)
        found = f"{signs} sign{'s' if signs > 1 else ''}" if signs else "no signs"
        texts.append(
            f"{audit.file} is damaged"
            if audit.problem
            else f"{whose}: {found} of masked gradients (n = {audit.num_images} images)"
        )
    return "; ".join(texts)


def _versions(trials: pd.DataFrame) -> str:
    names = ("simreg_version", "commit", "torch_version", "python_version")
    labels = ("simreg-tune", "commit", "torch", "Python")
    return (
        ", ".join(
            f"{label} {_distinct(trials[name])}"
            for name, label in zip(names, labels, strict=True)
            if trials[name].notna().any()
        )
        or "none recorded"
    )


def _distinct(column: pd.Series, limit: int = 3) -> str:
    values = [format_value(value) for value in column.dropna().unique()]
    if len(values) > limit:
        return f"{', '.join(values[:limit])} and {len(values) - limit} more"
    return ", ".join(values) or "none recorded"


def _first(column: pd.Series, which: str) -> str:
    known = column.dropna()
    return "?" if known.empty else str(known.min() if which == "min" else known.max())


def answer(study: Study, model: NoiseAwareFront | None = None) -> Answer:
    """Whether a better tradeoff than the baseline was found, how sure that is, what to run.

    Args:
        study: The search.
        model: Its noise-aware front, which may choose other trials to confirm.
    """
    if not len(study.points):
        return _nothing_yet(study)
    scored = [c for c in study.confirmation.candidates if "score" in c.estimates]
    return _confirmed_answer(study, scored) if scored else _screened_answer(study, model)


def _nothing_yet(study: Study) -> Answer:
    num = len(study.results.trials)
    why = (
        f"{study.num_unusable} complete trials lack finite {' and '.join(study.objectives)}."
        if study.num_unusable
        else f"{num} trial{'s have' if num != 1 else ' has'} ended, none of them complete."
    )
    folder = shlex.quote(str(study.folder))
    commands = (
        Command("How far is it?", f"python -m tuner.status {folder}"),
        Command("Go on if it was stopped", f"python -m tuner.run --resume {folder}"),
    )
    return Answer("No figures yet", (why,), None, commands)


def _confirmed_answer(study: Study, scored: list[Confirmed]) -> Answer:
    best = max(scored, key=lambda c: _low(c) if math.isfinite(_low(c)) else -math.inf)
    estimate = best.estimates["score"]
    above = [c.trial for c in scored if _low(c) > 0]
    if above:
        verdict = "Yes, confirmed with fresh seeds"
    elif all(c.estimates["score"].high < 0 for c in scored):
        verdict = "No: every confirmed configuration is worse"
    else:
        verdict = "Not shown: the confirmed differences are within their intervals"
    sentences = [
        f"Trial {best.trial}: tradeoff score {_interval(best, 'score')} against the baseline of "
        f"the same seed, cost {_interval(best, 'accuracy_cost')}, gain "
        f"{_interval(best, 'robustness_gain')} (test split, 95 % intervals by Student's t over "
        f"{estimate.n} fresh seeds; the baseline scores 0).",
        f"Score interval above 0: {len(above)} of {len(scored)} confirmed configuration"
        f"{'s' if len(scored) > 1 else ''}"
        + ("; intervals are not widened for comparing several." if len(scored) > 1 else "."),
    ]
    more = max(2 * max(len(study.confirmation.seeds), CONFIRM_SEEDS), 10)
    again = Command(
        "Narrow the intervals: seeds that are there are not trained again",
        _confirm(study, f"--trials {_listed(c.trial for c in scored[:MAX_CONFIRMED])}", more),
    )
    usual = [_export(study, best.trial), *_audit(study, best.trial)]
    commands = [*usual, again] if above else [again, *usual]
    return Answer(verdict, tuple(sentences), best.trial, tuple(commands))


def _low(candidate: Confirmed) -> float:
    return candidate.estimates["score"].low


def _interval(candidate: Confirmed, name: str) -> str:
    estimate = candidate.estimates.get(name)
    if estimate is None:
        return "unknown"
    if math.isnan(estimate.half_width):
        return f"{signed(estimate.mean)} (one seed, no interval)"
    return f"{signed(estimate.mean)} ({signed(estimate.low)} to {signed(estimate.high)})"


def _screened_answer(study: Study, model: NoiseAwareFront | None) -> Answer:
    front = study.front
    if not len(front):
        why = f"None of {len(study.points)} complete trials meets the search's constraints."
        return Answer("No trial to recommend", (why,), None, ())
    row = int(front[0])
    trial = int(study.trials["trial"].iloc[row])
    commands = [_confirm_front(study), _export(study, trial), *_audit(study, trial)]
    if model is not None and model.is_trustworthy and (model.on_front != model.on_raw_front).any():
        is_small = model.on_front.sum() <= MAX_CONFIRMED
        surest = np.argsort(-model.probability[model.on_front], kind="stable")
        trials = model.trials[model.on_front][surest if is_small else surest[:3]]
        which = "the modelled front" if is_small else "its three surest trials by the model"
        why = f"Or confirm {which}, which averages the luck of single seeds out"
        commands.insert(
            1, Command(why, _confirm(study, f"--trials {_listed(trials)}", CONFIRM_SEEDS))
        )
    verdict, sentences = _screening(study, row, trial)
    return Answer(verdict, tuple(sentences), trial, tuple(commands))


def _confirm_front(study: Study) -> Command:
    """What confirms the front shown, or of test figures what the search itself would choose."""
    why = "with fresh seeds beside the baseline's"
    if study.split == "test":
        return Command(
            f"Confirm the best three by validation figures {why}",
            _confirm(study, "--top 3", CONFIRM_SEEDS),
        )
    is_small = len(study.front) <= MAX_CONFIRMED
    shown = study.trials["trial"].iloc[study.front if is_small else study.front[:3]]
    return Command(
        f"Confirm {'the front' if is_small else 'its best three'} {why}",
        _confirm(study, f"--trials {_listed(shown)}", CONFIRM_SEEDS),
    )


def _confirm(study: Study, which: str, seeds: int) -> str:
    folder = shlex.quote(str(study.folder))
    return f"python -m tuner.confirm {folder} {which} --seeds {seeds}"


def _listed(trials: Iterable[int]) -> str:
    return " ".join(map(str, trials))


def _screening(study: Study, row: int, trial: int) -> tuple[str, list[str]]:
    score = numbers(study.trials, f"{study.split}.tradeoff_score")
    if not np.isfinite(score[row]):
        return "Screening only", [
            f"Trial {trial} is the best of the front by {METRICS[study.score_name].label}; without "
            "a tradeoff score nothing compares it with the baseline."
        ]
    known = score[np.isfinite(score)]
    positive = int((known > 0).sum())
    verdict = "Perhaps: screening only" if score[row] > 0 else "Not found: screening only"
    sentences = [
        f"Above the baseline's 0: {positive} of {len(known)} complete trial"
        f"{'s' if len(known) > 1 else ''}; the best one of the front is trial {trial} with a "
        f"tradeoff score of {signed(score[row])}. "
        f"{conditions(study)}"
    ]
    noise = noise_of_score(study)
    if noise is not None and noise[row] > 0:
        chance = expected_maximum(len(known)) * float(noise[row])
        judged = "beyond" if score[row] > chance + noise[row] else "within"
        largest = (
            f"; the largest of {len(known)} scores that were noise alone would be about "
            f"{signed(chance)}"
            if len(known) > 1
            else ""
        )
        sentences.append(
            f"The standard error of one such score is about {number(noise[row], 2)}{largest}: "
            f"{signed(score[row])} is {judged} what {'selection and ' if largest else ''}noise "
            "can make."
        )
    if study.confirmation.problem:
        sentences.append(f"{study.confirmation.problem}.")
    return verdict, sentences


def _export(study: Study, trial: int) -> Command:
    folder = shlex.quote(str(study.folder))
    to = shlex.quote(f"{study.folder.name}-trial-{trial}")
    return Command(
        f"Hand on the network of trial {trial}",
        f"python -m tuner.export {folder} --trial {trial} --to {to}",
    )


def _audit(study: Study, trial: int) -> list[Command]:
    """How to attack the network of a trial; nothing where that has been done."""
    if any(audit.trial == trial for audit in study.audits):
        return []
    rows = study.trials[study.trials["trial"] == trial]
    seed = ""
    if len(rows) and (rows["num_seeds"].fillna(1) > 1).any():
        seed = f"/seed-{rows['seed'].iloc[0]}"
    folder = study.folder
    weights = shlex.quote(str(folder / "checkpoints" / f"{trial:05d}{seed}" / "weights.pt"))
    output = shlex.quote(str(folder / f"audit-{trial:05d}.json"))
    return [
        Command(
            f"Attack the network of trial {trial} with full knowledge of it",
            f"python -m simreg_core.audit {weights} --output {output}",
        )
    ]


def failures(study: Study) -> TextTable | None:
    """Trials that are not complete, by status and reason; None if there are none."""
    ended = study.results.trials
    ended = ended[ended["status"] != "complete"]
    if ended.empty:
        return None
    reasons = ended["reason"].map(one_line, na_action=None)
    groups = ended.groupby([ended["status"], reasons])["trial"]
    rows = sorted(
        ((str(s), str(r), len(t), list_trials(map(int, t))) for (s, r), t in groups),
        key=lambda row: (row[0], -row[2], row[1]),
    )
    return TextTable(
        f"{len(ended)} of {len(study.results.trials)} trials are not complete.",
        ("status", "reason", "number", "which"),
        tuple((s, r, str(n), which) for s, r, n, which in rows[:50]),
    )


def cost(study: Study) -> TextTable:
    """Seconds of training and evaluation, over the trials that recorded them."""
    trials = study.results.trials
    rows = []
    for column, label in (("train_seconds", "training"), ("evaluate_seconds", "evaluation")):
        values = numbers(trials, column)
        values = values[np.isfinite(values)]
        figures = (
            (values.mean(), np.median(values), values.max()) if len(values) else [math.nan] * 3
        )
        rows.append(
            (label, str(len(values)), *(number(v, 3) for v in figures), number(values.sum(), 4))
        )
    unit = hours_unit(trials)
    hours = float(device_hours(trials).sum())
    return TextTable(
        f"Wall-clock seconds per trial (of several networks, their sum), on "
        f"{_distinct(trials['device'])}. In all {number(hours, 3)} {unit}; reference networks, "
        "confirmation and trials that recorded no time are not in it.",
        ("what", "trials", "mean, s", "median, s", "longest, s", "total, s"),
        tuple(rows),
    )


def confirmed_table(study: Study) -> TextTable | None:
    """What confirmation found, best score first; None if nothing was confirmed."""
    candidates = study.confirmation.candidates
    if not candidates:
        return None
    names = ("clean_accuracy", "robust_accuracy", "accuracy_cost", "robustness_gain", "score")
    rows = []
    for candidate in candidates:
        estimates = candidate.estimates
        n = str(estimates["score"].n) if "score" in estimates else "0"
        cells = [
            "-"
            if name not in estimates
            else f"{estimates[name].mean:.4f}"
            + (
                ""
                if math.isnan(estimates[name].half_width)
                else f" ± {estimates[name].half_width:.4f}"
            )
            for name in names
        ]
        rows.append((str(candidate.trial), n, *cells, str(candidate.num_failed)))
    seeds = ", ".join(map(str, study.confirmation.seeds[:10]))
    return TextTable(
        "Confirmed on the test split: mean ± half the 95 % interval (Student's t) over fresh seeds "
        f"({seeds}); cost, gain and score against the baseline of the same seed.",
        ("trial", "seeds", "clean", "robust", "cost", "gain", "score", "failed"),
        tuple(rows),
    )
