from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

import simreg_core
from simreg_core.config.trial import TrialConfig
from simreg_core.networks.checkpoint import CheckpointError
from simreg_core.networks.export import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    load_exported,
    write_network,
)
from simreg_core.networks.network import Classifier, build_network
from simreg_core.seeding import generator
from tests.core_tests.trained_networks import MakeConfig, as_resnet


@pytest.fixture
def model(tiny_config: MakeConfig) -> Classifier:
    model = build_network(tiny_config().model, channels=1, num_classes=10, seed=4)
    model(torch.rand(8, 1, 8, 8, generator=generator(0, "pixels")))  # moves the running statistics
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path, tiny_config: MakeConfig, model: Classifier) -> Path:
    write_network(tmp_path / "network", tiny_config(), model)
    return tmp_path / "network"


def _pixels(channels: int = 1) -> Tensor:
    return torch.rand(5, channels, 8, 8, generator=generator(1, "pixels"))


def test_classifier_survives_bit_for_bit(folder: Path, model: Classifier) -> None:
    path = folder / CONFIG_FILE  # comments in it do no harm
    path.write_text("# from a search\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    before = torch.random.get_rng_state()
    found = simreg_core.load_exported(str(folder))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in found.modules())
    weight = found.state_dict()["network.stem.0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(found(_pixels()), model(_pixels()))


def test_shared_weights_survive(tmp_path: Path, tiny_config: MakeConfig, model: Classifier) -> None:
    model = copy.deepcopy(model)
    network = as_resnet(model)
    network.again = network.head
    config = tiny_config()
    write_network(tmp_path, config, model)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    assert torch.equal(weights["again.weight"], weights["head.weight"])


def test_other_architectures_and_colours_survive(tmp_path: Path, tiny_config: MakeConfig) -> None:
    config = tiny_config({"model.architecture": "resnet50", "task.color": True})
    model = build_network(config.model, channels=3, num_classes=7, seed=1).eval()
    write_network(tmp_path, config, model)
    with torch.no_grad():
        assert torch.equal(load_exported(tmp_path)(_pixels(3)), model(_pixels(3)))


# What is refused


@pytest.mark.parametrize(
    ("name", "contents"),
    [(WEIGHTS_FILE, [b"", b"weights", bytes(range(256)) * 4]), (CONFIG_FILE, [b"{"])],
)
def test_missing_file_or_one_of_another_kind_is_refused(
    name: str, contents: list[bytes], folder: Path
) -> None:
    path = folder / name
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            load_exported(folder)
    for replace in (path.unlink, path.mkdir):
        replace()
        with pytest.raises(CheckpointError, match=name):
            load_exported(folder)


def test_file_truncated_anywhere_or_with_a_flipped_bit_is_refused(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    for length in range(0, len(content), 997):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
            load_exported(folder)
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    with pytest.raises(CheckpointError, match="checksum"):
        load_exported(folder)


def test_flipped_bit_anywhere_in_the_header_changes_nothing_unnoticed(
    folder: Path, model: Classifier
) -> None:
    """It is refused, or (in a note that nothing reads) the network is the same."""
    path = folder / WEIGHTS_FILE
    content = path.read_bytes()
    with torch.no_grad():
        expected = model(_pixels())
        for position in range(0, 8 + int.from_bytes(content[:8], "little"), 61):
            changed = bytearray(content)
            changed[position] ^= 1
            path.write_bytes(changed)
            try:
                found = load_exported(folder)(_pixels())
            except CheckpointError:
                continue
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("metadata", "found"), [(None, "None"), ({"simreg_export_version": "2"}, "'2'")]
)
def test_other_version_is_refused(
    metadata: dict[str, str] | None, found: str, folder: Path
) -> None:
    (folder / WEIGHTS_FILE).write_bytes(save({"a": torch.zeros(2)}, metadata))
    with pytest.raises(CheckpointError, match=f"version {found}"):
        load_exported(folder)


def test_changed_configuration_is_refused(folder: Path) -> None:
    path = folder / CONFIG_FILE
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("scale: 1.0", "scale: 2.0"), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        load_exported(folder)


def test_configuration_of_another_version_or_network_is_refused(
    folder: Path, tiny_config: MakeConfig, model: Classifier
) -> None:
    class Later(TrialConfig):
        novelty: int = 1

    later = Later.model_validate({**tiny_config().to_dict(), "novelty": 1})
    for config, message in (
        (later, "another version"),
        (tiny_config({"model.base_channels": 8}), "configuration"),
    ):
        write_network(folder, config, model)
        with pytest.raises(CheckpointError, match=message):
            load_exported(folder)
