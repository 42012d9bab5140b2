from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.networks.checkpoint import CheckpointError, load, load_weights, save, save_weights
from simreg_core.networks.network import build_network
from simreg_core.seeding import generator
from tests.core_tests.trained_networks import MakeConfig


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state.pt"


def _payload() -> dict[str, Any]:
    return {"weights": torch.arange(50.0), "records": [[1, None, 0.5, "x"]], "nested": {"a": True}}


def test_what_is_saved_is_loaded(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\.pt does not exist"):
        load(path)
    save({}, path)
    save(_payload(), path)
    assert list(path.parent.iterdir()) == [path]
    loaded = load(path)
    assert torch.equal(loaded["weights"], torch.arange(50.0))
    assert loaded["records"] == [[1, None, 0.5, "x"]]
    assert loaded["nested"] == {"a": True}


def test_failed_save_keeps_the_old_file_and_cleans_up(path: Path) -> None:
    save(_payload(), path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        save({"weights": torch.arange(3.0), "unpicklable": lambda: None}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_file_truncated_anywhere_or_with_a_flipped_bit_is_refused(path: Path) -> None:
    save(_payload(), path)
    content = bytearray(path.read_bytes())
    for length in range(0, len(content), 23):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load(path)
    content[content.index(torch.arange(50.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"training: 3\n" * 20, bytes(range(256)) * 4, b"PK\x05\x06" + bytes(18)),
        pickle.dumps({"checkpoint_version": 1}),
        *("folder", "pipe"),
    ],
    ids=["empty", "text", "noise", "empty-archive", "bare-pickle", "folder", "pipe"],
)
def test_file_of_another_kind_is_refused(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.mkdir() if content == "folder" else os.mkfifo(path)
    message = "is .*: no regular file$" if content == "pipe" else "is damaged"
    with pytest.raises(CheckpointError, match=rf"state\.pt {message}"):
        load(path)


@pytest.mark.parametrize(
    ("payload", "found"),
    [({"checkpoint_version": 2}, "2"), ({"weights": torch.zeros(2)}, "None"), ([1, 2], "None")],
    ids=["later", "none", "no-mapping"],
)
def test_other_version_is_refused(payload: object, found: str, tmp_path: Path) -> None:
    torch.save(payload, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=f"version {found}"):
        load(tmp_path / "state.pt")


class _Intruder:
    """What it pickles to would create a file when unpickled carelessly."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("kind", ["archive", "bare"])
def test_malicious_pickle_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    path, target = tmp_path / "state.pt", tmp_path / "intruded"
    payload = {"checkpoint_version": 1, "x": _Intruder(target)}
    if kind == "archive":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(payload))
    assert target.exists(), "the test's pickle is harmless, so it proves nothing"


# Weights files


def test_classifier_survives_bit_for_bit(path: Path, tiny_config: MakeConfig) -> None:
    model = build_network(tiny_config().model, channels=1, num_classes=10, seed=4)
    model(torch.rand(8, 1, 8, 8, generator=generator(0, "pixels")))  # moves the running statistics
    save_weights(path, tiny_config(), model)
    before = torch.random.get_rng_state()
    found = load_weights(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in found.modules())
    pixels = torch.rand(5, 1, 8, 8, generator=generator(1, "pixels"))
    with torch.no_grad():
        assert torch.equal(found(pixels), model.eval()(pixels))


def test_file_without_weights_is_refused(path: Path) -> None:
    save(_payload(), path)
    with pytest.raises(CheckpointError, match=r"lacks channels, config, num_classes$"):
        load_weights(path)
