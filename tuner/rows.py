"""Rows of the result tables, made where a network was trained and sent to the driver as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simreg_core.evaluate import CurvePoint
from simreg_core.experiment import TrialResult
from simreg_core.frequency import SpectrumPoint
from simreg_core.references import ReferenceResult, References
from simreg_core.train import EpochRecord


def trial_record(result: TrialResult, number: int) -> dict[str, Any]:
    """All rows of one trial: ``columns`` (its row), curves, spectra, epochs and references."""
    identity = {
        "role": "trial",
        "trial": number,
        "baseline_digest": result.references.digest,
        "seed": result.config.seed,
    }
    return {
        "columns": result.columns,
        "curves": _rows(identity, result.curves),
        "spectra": _rows(identity, result.spectra),
        "epochs": _rows(identity, result.epochs),
        "references": reference_record(result.references),
    }


def reference_record(references: References) -> list[dict[str, Any]]:
    """Every reference network, as :func:`result_record` has them."""
    return [result_record(result, references.digest) for result in references.results]


def result_record(result: ReferenceResult, digest: str) -> dict[str, Any]:
    """One reference network: the name of its part files, its curves, spectra and epochs."""
    identity = {
        "role": result.role,
        "trial": None,
        "baseline_digest": digest,
        "seed": result.seed,
    }
    return {
        "part": f"{result.role}-{digest}-{result.seed}",
        "curves": _rows(identity, result.curves),
        "spectra": _rows(identity, result.spectra),
        "epochs": _rows(identity, result.epochs),
    }


def _rows(
    identity: dict[str, Any], records: Iterable[CurvePoint | SpectrumPoint | EpochRecord]
) -> list[dict[str, Any]]:
    return [{**identity, **record._asdict()} for record in records]
