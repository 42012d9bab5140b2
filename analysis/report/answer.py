"""The answer of the report: how sure it is, and what to run next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from analysis.charts.wording import conditions, number, signed
from analysis.findings.front_uncertainty import expected_maximum
from analysis.findings.score_noise import noise_of_score
from analysis.findings.study import Study
from analysis.results.evidence import Confirmed
from simreg_core.cli import program
from simreg_core.errors import counted

CONFIRM_SEEDS = 5
MAX_CONFIRMED = 10  # of a larger front only the best are confirmed


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


def answer(study: Study) -> Answer:
    """Whether a better tradeoff than the baseline was found, how sure that is, what to run."""
    if not len(study.points):
        return _nothing_yet(study)
    scored = [c for c in study.confirmation.candidates if "tradeoff_score" in c.estimates]
    return _confirmed_answer(study, scored) if scored else _screened_answer(study)


def _nothing_yet(study: Study) -> Answer:
    number = len(study.results.trials)
    has = "has" if number == 1 else "have"
    why = f"{counted(number, 'trial')} {has} ended, none of them complete."
    if study.num_unusable:
        why = (
            f"{counted(study.num_unusable, 'complete trial')} without finite "
            f"{' and '.join(study.objectives)}."
        )
    folder = shlex.quote(str(study.folder))
    commands = (
        Command("How far is it?", f"{program('tuner.status')} {folder}"),
        Command("Resume it if it was stopped", f"{program('tuner.run')} --resume {folder}"),
    )
    return Answer("No results yet", (why,), None, commands)


def _confirmed_answer(study: Study, scored: list[Confirmed]) -> Answer:
    scores = [c.estimates["tradeoff_score"] for c in scored]
    lows = [score.low if math.isfinite(score.low) else -math.inf for score in scores]
    best, estimate = scored[int(np.argmax(lows))], scores[int(np.argmax(lows))]
    above = sum(low > 0 for low in lows)
    if above:
        verdict = "Yes, confirmed with fresh seeds"
    elif all(score.high < 0 for score in scores):
        verdict = "No: every confirmed configuration is worse"
    else:
        verdict = "Not shown: the confirmed differences are within their intervals"
    sentences = [
        f"Trial {best.trial}: tradeoff score {_interval(best, 'tradeoff_score')} against the "
        f"baseline of the same seed, cost {_interval(best, 'accuracy_cost')}, gain "
        f"{_interval(best, 'robustness_gain')} (test split, 95 % intervals by Student's t over "
        f"{counted(estimate.n, 'fresh seed')}; the baseline scores 0).",
        f"Score interval above 0: {above} of {counted(len(scored), 'confirmed configuration')}"
        + ("; intervals are not corrected for multiple comparisons." if len(scored) > 1 else "."),
    ]
    more = max(2 * max(len(study.confirmation.seeds), CONFIRM_SEEDS), 10)
    trials = [c.trial for c in scored[:MAX_CONFIRMED]]
    again = _confirm(study, "Narrow the intervals (existing seeds are kept)", trials, more)
    usual = [_export(study, best.trial), *_audit(study, best.trial)]
    commands = [*usual, again] if above else [again, *usual]
    return Answer(verdict, tuple(sentences), best.trial, tuple(commands))


def _interval(candidate: Confirmed, name: str) -> str:
    estimate = candidate.estimates.get(name)
    if estimate is None:
        return "unknown"
    if math.isnan(estimate.half_width):
        return f"{signed(estimate.mean)} (one seed, no interval)"
    return f"{signed(estimate.mean)} ({signed(estimate.low)} to {signed(estimate.high)})"


def _screened_answer(study: Study) -> Answer:
    front = study.front
    if not len(front):
        why = study.delivered.none_feasible()
        return Answer("No trial to recommend", (f"{why}.",), None, ())
    row = study.best
    trial = int(study.numbers[row])
    commands = (_confirm_front(study), _export(study, trial), *_audit(study, trial))
    verdict, sentences = _screening(study, row, trial)
    return Answer(verdict, tuple(sentences), trial, commands)


def _confirm_front(study: Study) -> Command:
    """Confirms the front shown, or for test values what the search itself would choose."""
    why = "with fresh seeds beside the baseline's"
    if study.split == "test":
        return _confirm(study, f"Confirm the best three by validation {why}")
    is_small = len(study.front) <= MAX_CONFIRMED
    shown = study.numbers[study.front if is_small else study.front[:3]]
    return _confirm(study, f"Confirm {'the front' if is_small else 'its best three'} {why}", shown)


def _confirm(
    study: Study, why: str, trials: Iterable[int] | None = None, seeds: int = CONFIRM_SEEDS
) -> Command:
    """Confirms some trials; None: the best three by validation."""
    which = "--top 3" if trials is None else f"--trials {' '.join(map(str, trials))}"
    folder = shlex.quote(str(study.folder))
    return Command(why, f"{program('tuner.confirm')} {folder} {which} --seeds {seeds}")


def _screening(study: Study, row: int, trial: int) -> tuple[str, list[str]]:
    score = study.values("tradeoff_score")
    if not np.isfinite(score[row]):
        return "Screening only", [
            f"Trial {trial} is the best by {study.metrics[study.score_name].title}. "
            "Without a tradeoff score, nothing compares it with the baseline."
        ]
    known, found = score[np.isfinite(score)], study.delivered
    is_rank = study.score_name == "tradeoff_score"
    best = found.rank_value(row) if is_rank else score[row]
    verdict = "Perhaps: screening only" if best > 0 else "Not found: screening only"
    what = f"a tradeoff score of {signed(best)}"
    if is_rank and found.is_rank_modelled:
        what = f"a modelled tradeoff score of {signed(best)} (measured {signed(score[row])})"
    sentences = [
        f"{int((known > 0).sum())} of {counted(len(known), 'complete trial')} measured a score "
        f"above the baseline's 0. The best one is trial {trial} with {what}. "
        f"{conditions(study.pairs[0])}"
    ]
    noise = None if found.is_modelled else noise_of_score(study)
    if noise is not None and noise[row] > 0:
        sentences.append(_noise_sentence(float(score[row]), float(noise[row]), len(known)))
    if study.confirmation.problem:
        sentences.append(f"{study.confirmation.problem}.")
    return verdict, sentences


def _noise_sentence(score: float, noise: float, num_scores: int) -> str:
    """Whether the best of some scores is more than selection and noise can make."""
    if num_scores == 1:
        return (
            f"{signed(score)} is {abs(score) / noise:.1f} standard errors of about "
            f"{number(noise, 2)} from the baseline's 0; one trial proves little."
        )
    chance = expected_maximum(num_scores) * noise
    judged = "beyond" if score > chance + noise else "within"
    return (
        f"The standard error of one score is about {number(noise, 2)}; the largest of "
        f"{num_scores} scores of pure noise would be about "
        f"{signed(chance)}: {signed(score)} is {judged} what selection and noise can make."
    )


def _export(study: Study, trial: int) -> Command:
    folder = shlex.quote(str(study.folder))
    to = shlex.quote(f"{study.folder.name}-trial-{trial}")
    return Command(
        f"Export the network of trial {trial}",
        f"{program('tuner.export')} {folder} --trial {trial} --to {to}",
    )


def _audit(study: Study, trial: int) -> list[Command]:
    """Attacks the network of a trial; nothing if that has been done."""
    if any(audit.trial == trial for audit in study.audits):
        return []
    rows = study.trials[(study.trials["trial"] == trial) & (study.trials["num_seeds"] > 1)]
    network = "/".join([f"{trial:05d}", *(f"seed-{seed}" for seed in rows["seed"])])
    weights = shlex.quote(str(study.folder / "checkpoints" / network / "weights.pt"))
    output = shlex.quote(str(study.folder / f"audit-{trial:05d}.json"))
    command = f"{program('simreg_core.audit')} {weights} --output {output}"
    return [Command(f"Attack the network of trial {trial} as a white box", command)]
