"""Checkpoints of a training, written in the background."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks import checkpoint
from simreg_core.storage.location import to_path
from simreg_core.training.fit import fit
from simreg_core.training.state import EpochRecord, TrainingState


def fit_with_checkpoints(
    state: TrainingState,
    data: TaskData,
    config: TrialConfig,
    path: str | Path | None,
    *,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> None:
    """Train a state to its last epoch with :func:`~simreg_core.training.fit.fit`, saving it.

    Args:
        state: The training; changed in place.
        data: The task's splits, on the network's device.
        config: The trial.
        path: File of the checkpoint; None to save nothing.
        on_epoch: Called after every epoch.

    Raises:
        NonFiniteLossError: training diverged.
        OSError: a checkpoint cannot be written.
    """
    path = None if path is None else to_path(path)
    training = config.training
    writer = (
        None
        if path is None
        else CheckpointWriter(path, config.digest(), seconds=training.checkpoint_seconds)
    )
    with writer or nullcontext():
        for record in fit(state, data, training, seed=config.seed):
            if writer is not None:
                writer.save(state, is_last=record.epoch == training.epochs - 1)
            if on_epoch is not None:
                on_epoch(record)


class CheckpointWriter:
    """Writes states of a training to one file, in a thread, so that no epoch waits for the disk.

    The file always holds a whole checkpoint, or does not exist. If states come faster than the disk
    takes them, the newest one waits, and those in between are skipped. As a context manager, it
    waits for the last write at the end.

    Args:
        path: The file.
        digest: Identifies the configuration in the file.
        seconds: Shortest time between two checkpoints.
    """

    def __init__(self, path: str | Path, digest: str, *, seconds: float) -> None:
        path = to_path(path)
        self.path = path
        self.digest = digest
        self.seconds = seconds
        self._last = time.monotonic()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writes: list[Future[None]] = []

    def save(self, state: TrainingState, *, is_last: bool = False) -> None:
        """Write a state, unless the last one is too recent; the last state is always written.

        Returns as soon as the state is copied to the CPU.

        Raises:
            OSError: an earlier write failed.
        """
        now = time.monotonic()
        if not is_last and now - self._last < self.seconds:
            return
        self._last = now
        running = []
        for write in self._writes:
            if write.cancel():
                continue
            if write.done():
                write.result()
            else:
                running.append(write)
        self._writes = running
        snapshot = state.snapshot(self.digest)
        self._writes.append(self._thread.submit(checkpoint.save, snapshot, self.path))

    def close(self) -> None:
        """Wait until the newest state is written.

        Raises:
            OSError: a write failed.
        """
        self._thread.shutdown()
        for write in self._writes:
            write.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._thread.shutdown()
