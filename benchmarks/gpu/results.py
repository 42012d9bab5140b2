"""What the stages measure: one JSON line per result, written at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from simreg_core.errors import one_line


@dataclass(frozen=True)
class Settings:
    """Settings of a stage; passed to its process as JSON."""

    data: str
    """Folder with ``cifar10/`` and ``imagenet_sample/``, absolute."""
    out: str
    """Folder of all results, absolute."""
    device: str = "cuda"
    quick: bool = False
    """Tiny sizes: a rehearsal."""
    deadline: float = 0.0
    """When the stage is killed, in seconds since the epoch."""

    @property
    def torch_device(self) -> torch.device:
        """The device of the measurements."""
        return torch.device(self.device)

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def seconds_left(self) -> float:
        """Seconds until the stage is killed."""
        return self.deadline - time.time()


@dataclass(frozen=True)
class Result:
    """A row of a stage's table; a later one with the same stage and name replaces it."""

    stage: str
    name: str
    status: str = "measured"
    """``measured``, ``skipped``, ``failed``, ``stopped`` (by the time limit); of a test ``passed``.
    ``started`` begins a call and replaces what earlier calls could not measure."""
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Repeated measurements by column, whose name has the unit."""
    note: str = ""
    time: float = field(default_factory=time.time)

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The inverse of what :meth:`Recorder.add` writes."""
        return cls(**json.loads(line))


class Recorder:
    """Appends the results of one stage to ``results.jsonl``."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.path = folder / "results.jsonl"
        self.stage = stage

    def add(
        self,
        name: str,
        values: Mapping[str, Sequence[float]] | None = None,
        note: str = "",
        status: str = "measured",
    ) -> None:
        """Write one result to the disk."""
        result = Result(self.stage, name, status, values or {}, note)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"{self.stage}: {name}: {status} {dict(result.values)} {note}", flush=True)

    def has_measured(self, name: str) -> bool:
        """Whether an earlier call has measured this already."""
        results = read_results(self.path.parent)
        own = [r for r in results if (r.stage, r.name) == (self.stage, name)]
        return any(result.status == "measured" for result in own)

    @contextmanager
    def attempt(self, name: str, status: str = "failed") -> Iterator[None]:
        """Record an exception in the block as a result, so that the next measurement can follow."""
        try:
            yield
        except Exception as err:
            self.add(name, note=one_line(err)[:300], status=status)


Run = Callable[[Settings, Recorder], Any]
"""The function of a stage."""


def read_results(folder: Path) -> list[Result]:
    """All results in order of their first appearance; an unfinished last line is left out."""
    path = folder / "results.jsonl"
    found: dict[tuple[str, str], Result] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            result = Result.from_line(line)
        except (ValueError, TypeError):  # the process was killed while it wrote
            continue
        if result.status == "started":
            is_old = [k for k, r in found.items() if k[0] == result.stage and not r.values]
            found = {key: value for key, value in found.items() if key not in is_old}
        else:
            found[result.stage, result.name] = result
    return list(found.values())
