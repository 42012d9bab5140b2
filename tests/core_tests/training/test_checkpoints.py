"""Checkpoints are written in the background, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks import checkpoint
from simreg_core.storage.atomic import atomic_file
from simreg_core.training.checkpoints import CheckpointWriter, fit_with_checkpoints
from simreg_core.training.start import start
from simreg_core.training.state import EpochRecord, TrainingState
from tests.core_tests.trained_networks import CPU, MakeConfig, epochs_of, snapshot_of

SECONDS = 10  # until a test that waits for a thread fails


class Disk:
    """Takes the place of ``checkpoint.save``: counts writes, and may be slow or full."""

    def __init__(self) -> None:
        self.starts = threading.Semaphore(0)
        self.is_free = threading.Event()
        self.is_free.set()
        self.errors: list[OSError] = []
        self.epochs: list[int] = []
        self.save = checkpoint.save

    def __call__(self, payload: dict[str, Any], path: Path) -> None:
        self.epochs.append(len(payload["records"]))
        self.starts.release()
        assert self.is_free.wait(SECONDS)
        if self.errors:
            raise self.errors.pop()
        self.save(payload, path)

    def wait_for_start(self) -> None:
        assert self.starts.acquire(timeout=SECONDS)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    slow = Disk()
    monkeypatch.setattr(checkpoint, "save", slow)
    yield slow
    slow.is_free.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that writers see; tests set its only element."""
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("simreg_core.training.checkpoints.time", clock)
    return now


@pytest.fixture
def config(tiny_config: MakeConfig) -> TrialConfig:
    return tiny_config({"training.epochs": 6, "regularizer.alpha": 1})


@pytest.fixture
def state(config: TrialConfig, tiny_data: TaskData) -> TrainingState:
    return start(config, tiny_data, CPU)


@pytest.fixture
def writer(config: TrialConfig, tmp_path: Path) -> CheckpointWriter:
    return CheckpointWriter(tmp_path / "state.pt", config.digest(), seconds=0)


Resumed = Callable[[], TrainingState]


@pytest.fixture
def resumed(config: TrialConfig, tiny_data: TaskData, tmp_path: Path) -> Resumed:
    """Restores a new state from the file."""

    def restore() -> TrainingState:
        found = start(config, tiny_data, CPU)
        found.restore(tmp_path / "state.pt", config.digest())
        return found

    return restore


def test_epochs_do_not_wait_for_a_slow_disk(
    config: TrialConfig, state: TrainingState, tiny_data: TaskData, disk: Disk, tmp_path: Path
) -> None:
    disk.is_free.clear()
    epochs: list[int] = []

    def note(record: EpochRecord) -> None:
        epochs.append(record.epoch)
        if record.epoch == 0:
            disk.wait_for_start()
        if record.epoch == config.training.epochs - 1:
            assert disk.epochs == [1]
            assert not (tmp_path / "state.pt").exists()
            disk.is_free.set()

    fit_with_checkpoints(state, tiny_data, config, tmp_path / "state.pt", on_epoch=note)
    assert epochs == list(range(6))
    assert disk.epochs == [1, 6]


def test_newest_state_waits_and_those_between_are_skipped(
    config: TrialConfig,
    state: TrainingState,
    tiny_data: TaskData,
    writer: CheckpointWriter,
    disk: Disk,
    resumed: Resumed,
) -> None:
    disk.is_free.clear()
    with writer:
        for record in epochs_of(config, state, tiny_data):
            writer.save(state)
            if record.epoch == 0:
                disk.wait_for_start()
            if record.epoch == 3:
                break
        disk.is_free.set()
    assert disk.epochs == [1, 4]
    assert snapshot_of(resumed()) == snapshot_of(state)


def test_snapshot_is_not_changed_by_training_that_goes_on(
    config: TrialConfig,
    state: TrainingState,
    tiny_data: TaskData,
    writer: CheckpointWriter,
    disk: Disk,
    resumed: Resumed,
) -> None:
    disk.is_free.clear()
    epochs = epochs_of(config, state, tiny_data)
    with writer:
        next(epochs)
        expected = snapshot_of(state)
        writer.save(state)
        disk.wait_for_start()
        for _ in epochs:
            pass
        disk.is_free.set()
    assert snapshot_of(state) != expected
    assert snapshot_of(resumed()) == expected


def test_seconds_between_checkpoints_and_the_last_one(
    config: TrialConfig, state: TrainingState, tmp_path: Path, disk: Disk, clock: list[float]
) -> None:
    with CheckpointWriter(tmp_path / "state.pt", config.digest(), seconds=30) as writer:
        written = []
        for now in (100.0, 129.9, 130.0, 159.0, 161.0, 188.9, 189.0):
            clock[0] = now
            before = len(disk.epochs)
            writer.save(state, is_last=now == 159.0)
            _settle(writer)
            written += [now] * (len(disk.epochs) - before)
    # The one at 159 is forced, and the next interval starts there.
    assert written == [130.0, 159.0, 189.0]


def _settle(writer: CheckpointWriter) -> None:
    for write in writer._writes:
        write.result(SECONDS)


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_last_epoch_is_always_written(
    seconds: float,
    tiny_config: MakeConfig,
    tiny_data: TaskData,
    disk: Disk,
    tmp_path: Path,
) -> None:
    config = tiny_config({"training.epochs": 3, "training.checkpoint_seconds": seconds})
    state, again = (start(config, tiny_data, CPU) for _ in range(2))
    fit_with_checkpoints(state, tiny_data, config, tmp_path / "state.pt")
    assert disk.epochs[-1] == 3
    assert len(disk.epochs) == 1 or not seconds
    again.restore(tmp_path / "state.pt", config.digest())
    assert snapshot_of(again) == snapshot_of(state)


def test_error_of_the_disk_is_raised_by_the_next_save(
    state: TrainingState, writer: CheckpointWriter, disk: Disk
) -> None:
    disk.errors.append(OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"), writer:  # noqa: PT012
        writer.save(state)
        for write in writer._writes:
            assert write.exception(SECONDS)
        writer.save(state)
        pytest.fail("the second save did not raise")


def test_error_of_the_last_write_is_raised_at_the_end(
    config: TrialConfig, state: TrainingState, tiny_data: TaskData, disk: Disk, tmp_path: Path
) -> None:
    done = []

    def note(record: EpochRecord) -> None:
        done.append(record.epoch)
        if record.epoch == 4:
            disk.errors.append(OSError(28, "No space left on device"))

    slow = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_seconds": 1e6})}
    )
    with pytest.raises(OSError, match="No space left"):
        fit_with_checkpoints(state, tiny_data, slow, tmp_path / "state.pt", on_epoch=note)
    assert done == list(range(6))
    assert not (tmp_path / "state.pt").exists()


def test_exception_in_training_finishes_the_write_and_is_the_one_that_is_raised(
    config: TrialConfig,
    state: TrainingState,
    tiny_data: TaskData,
    disk: Disk,
    tmp_path: Path,
    resumed: Resumed,
) -> None:
    disk.is_free.clear()

    def stop(record: EpochRecord) -> None:
        if record.epoch == 1:
            threading.Timer(0.1, disk.is_free.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_with_checkpoints(state, tiny_data, config, tmp_path / "state.pt", on_epoch=stop)
    assert snapshot_of(resumed()) == snapshot_of(state)


def test_exception_in_training_hides_that_of_the_disk(
    state: TrainingState, writer: CheckpointWriter, disk: Disk
) -> None:
    disk.errors.append(OSError(28, "No space left on device"))
    with pytest.raises(ValueError, match=r"^diverged$"), writer:  # noqa: PT012
        writer.save(state)
        raise ValueError("diverged")


class _HalfWritten:
    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, data: memoryview) -> int:
        self.stream.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("is_first", [True, False])
def test_file_is_whole_or_absent(
    is_first: bool,
    state: TrainingState,
    writer: CheckpointWriter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    resumed: Resumed,
) -> None:
    """A write that fails halfway leaves the file before it, and nothing else in the folder."""
    path = tmp_path / "state.pt"
    if not is_first:
        state.save(path, writer.digest)
    expected = snapshot_of(state)
    with torch.no_grad():
        next(state.model.parameters()).zero_()

    @contextmanager
    def fills_up(path: Path) -> Iterator[BinaryIO]:
        with atomic_file(path) as stream:
            yield cast(BinaryIO, _HalfWritten(stream))

    monkeypatch.setattr(checkpoint, "atomic_file", fills_up)
    with pytest.raises(OSError, match="No space left"), writer:
        writer.save(state)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ([] if is_first else ["state.pt"])
    if not is_first:
        assert snapshot_of(resumed()) == expected


def test_nothing_is_written_without_a_path(
    config: TrialConfig, state: TrainingState, tiny_data: TaskData, disk: Disk
) -> None:
    fit_with_checkpoints(state, tiny_data, config, None)
    assert disk.epochs == []
    assert len(state.records) == 6
