"""The networks that a trial is compared with: unregularized baselines, and FGSM's surrogate.

They belong to (task, model, training), not to a trial: each is trained once, cached under the
digest of what it depends on (the images' content included), and shared by all trials. Several
processes may ask at once; one trains, the others wait for its lock.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks import checkpoint
from simreg_core.networks.resnet import ResNet
from simreg_core.registry import is_plugin, source_digest
from simreg_core.results.schema import SPLITS, Role
from simreg_core.robustness.attack import freeze
from simreg_core.robustness.cifar10c import stored_digest
from simreg_core.robustness.evaluate import (
    CurvePoint,
    SplitFigures,
    accuracies,
    check_measurable,
    fgsm_directions,
    measure,
)
from simreg_core.robustness.frequency import SpectrumPoint
from simreg_core.robustness.tradeoff import BaselineAccuracy, baseline_accuracy
from simreg_core.seeding import derive_seed
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import storage_of
from simreg_core.training.fit import EpochRecord, fit, start
from simreg_core.version import __version__


@dataclass(frozen=True)
class ReferenceNetwork:
    """One cached network: what it is, and how to name it in results."""

    role: Role
    seed: int
    config: TrialConfig


@dataclass(frozen=True)
class ReferenceResult:
    """Figures and epochs of one reference network."""

    role: Role
    seed: int
    curves: tuple[CurvePoint, ...]
    epochs: tuple[EpochRecord, ...]
    boundary_distance: Mapping[str, float | None]
    """By split; None where it is not configured or nothing was found."""
    spectra: tuple[SpectrumPoint, ...]

    def accuracies(self, split: str) -> dict[str, float]:
        """Clean and robust accuracy on a split, as :func:`evaluate.accuracies` names them."""
        return accuracies([point for point in self.curves if point.split == split])


@dataclass(frozen=True)
class References:
    """What trials of one (task, model, training, robustness) are compared with."""

    digest: str
    surrogate: ResNet
    directions: Mapping[str, Tensor]
    """By split, where FGSM is among the attacks: see :func:`evaluate.fgsm_directions`."""
    results: tuple[ReferenceResult, ...]
    """The baselines' in order of their seeds, then the surrogate's own."""

    @property
    def baselines(self) -> list[ReferenceResult]:
        """Those of the baselines, in order of their seeds."""
        return [result for result in self.results if result.role == "baseline"]

    def baseline(self, split: str) -> BaselineAccuracy:
        """C_0 and R_0 on a split, with their spread over the baseline seeds."""
        return baseline_accuracy([result.accuracies(split) for result in self.baselines])

    def baseline_boundary_distance(self, split: str) -> float | None:
        """Mean over the baseline seeds; None if it is not measured or undefined for one."""
        distances = [result.boundary_distance[split] for result in self.baselines]
        known = [distance for distance in distances if distance is not None]
        return statistics.fmean(known) if len(known) == len(distances) else None


def reference_networks(config: TrialConfig) -> list[ReferenceNetwork]:
    """The baselines and the surrogate that ``config`` is compared with."""
    robustness = config.robustness
    baselines = [
        ReferenceNetwork("baseline", seed, config.unregularized(seed))
        for seed in robustness.baseline_seeds
    ]
    surrogate = config.unregularized(_surrogate_root(robustness))
    return [*baselines, ReferenceNetwork("surrogate", robustness.surrogate_seed, surrogate)]


def _surrogate_root(config: RobustnessConfig) -> int:
    """A seed by which no choice of seeds makes the surrogate one of the baselines attacked."""
    for number in itertools.count():
        counters = [number] if number else []
        root = derive_seed(config.surrogate_seed, "surrogate", *counters) % 2**32
        if root not in config.baseline_seeds:
            break
    return root


def references_digest(config: TrialConfig, data: TaskData) -> str:
    """Names the references of ``config``; equal for trials that can share them."""
    return _key(config.unregularized(0).digest(), data)


def load_references(
    config: TrialConfig, data: TaskData, cache: Path, device: torch.device
) -> References:
    """The references of ``config`` from the cache; whatever is missing is trained first.

    Args:
        config: A trial's configuration; its regularizer and seed do not matter.
        data: The task's splits, on the CPU.
        cache: Folder of cached networks, shared by searches.
        device: Where to train, evaluate and keep the surrogate.
    """
    networks = reference_networks(config)
    surrogate = networks[-1]
    # Before the surrogate: they check that everything can be measured.
    results = tuple(reference_result(n, surrogate, data, cache, device) for n in networks)
    return References(
        digest=references_digest(config, data),
        surrogate=load_network(surrogate, data, cache, device),
        directions=_directions(surrogate, config, data, cache, device),
        results=results,
    )


def load_network(
    network: ReferenceNetwork, data: TaskData, cache: Path, device: torch.device
) -> ResNet:
    """The trained network, frozen, in evaluation mode; trained first if it is not cached."""
    path = ensure_network(network, data, cache, device)
    model = checkpoint.load_weights(path, device=device)
    freeze(model)
    return model


def ensure_network(
    network: ReferenceNetwork, data: TaskData, cache: Path, device: torch.device
) -> Path:
    """Path of the network's weights file in the cache; trains it if it is not there.

    Raises:
        NonFiniteLossError: training diverged.
    """
    path = _network_path(network, data, cache)

    def train() -> Path:
        state = start(network.config, data, device)
        unfinished = path.with_suffix(".state.pt")
        with suppress(checkpoint.CheckpointError):  # absent or damaged: from the beginning
            state.restore(unfinished, network.config)
        for _ in fit(network.config, state, data.to(device)):
            state.save(unfinished, network.config)
        epochs = json.dumps([list(record) for record in state.records], allow_nan=False)
        write_text(path.with_suffix(".epochs.json"), epochs)
        checkpoint.save_weights(path, network.config, state.kept_model())
        unfinished.unlink(missing_ok=True)
        return path

    # What exists is whole, as it is written last.
    return storage_of(path).build_once(path, lambda: path if path.exists() else None, train)


def reference_result(
    network: ReferenceNetwork,
    surrogate: ReferenceNetwork,
    data: TaskData,
    cache: Path,
    device: torch.device,
) -> ReferenceResult:
    """Figures and epochs of a reference network from the cache; measured first if not there.

    Raises:
        ConfigError: something cannot be measured; raised before any training.
        NonFiniteLossError: training diverged.
    """
    check_measurable(network.config, data, device)
    weights = ensure_network(network, data, cache, device)
    path = weights.with_suffix(f".{_measured_digest(network.config)}.curves.json")

    def read() -> str | None:
        return path.read_text() if path.exists() else None

    def measure_splits() -> str:
        model = load_network(network, data, cache, device)
        source = load_network(surrogate, data, cache, device)
        known = _directions(surrogate, network.config, data, cache, device)
        on_device = data.to(device)
        measured = {
            name: measure(
                model, on_device.split(name), name, network.config, source, known.get(name)
            )
            for name in SPLITS
        }
        write_text(path, text := _as_json(measured))
        return text

    figures = _from_json(storage_of(path).build_once(path, read, measure_splits))
    epochs = json.loads(weights.with_suffix(".epochs.json").read_text())
    return ReferenceResult(
        network.role,
        network.seed,
        tuple(point for split in SPLITS for point in figures[split].curves),
        tuple(EpochRecord(*epoch) for epoch in epochs),
        {split: figures[split].boundary_distance for split in SPLITS},
        tuple(point for split in SPLITS for point in figures[split].spectra),
    )


def _directions(
    surrogate: ReferenceNetwork,
    config: TrialConfig,
    data: TaskData,
    cache: Path,
    device: torch.device,
) -> dict[str, Tensor]:
    """The surrogate's FGSM directions from the cache; computed if they are not there."""
    if "transfer_fgsm" not in config.robustness.attacks:
        return {}
    path = ensure_network(surrogate, data, cache, device).with_suffix(".fgsm.pt")

    def read() -> dict[str, Tensor] | None:
        with suppress(checkpoint.CheckpointError):  # absent or damaged
            found = checkpoint.load(path, device=device)
            return {name: found[name] for name in SPLITS}
        return None

    def compute() -> dict[str, Tensor]:
        model = load_network(surrogate, data, cache, device)
        splits = {name: data.split(name).to(device) for name in SPLITS}
        found = {name: fgsm_directions(model, split) for name, split in splits.items()}
        checkpoint.save(found, path)
        return found

    return storage_of(path).build_once(path, read, compute)


def _measured_digest(config: TrialConfig) -> str:
    """Names what is measured: the configuration, and the files that it names."""
    robustness = config.robustness
    files = [source_digest(name) for name in robustness.attacks if is_plugin(name)]
    if robustness.corruptions is not None:
        files += filter(None, [stored_digest(robustness.corruptions)])
    return "-".join([config.digest(), *files])


def _as_json(figures: Mapping[str, SplitFigures]) -> str:
    return json.dumps({split: f._asdict() for split, f in figures.items()}, allow_nan=False)


def _from_json(text: str) -> dict[str, SplitFigures]:
    return {
        split: SplitFigures(
            [CurvePoint(*point) for point in figures["curves"]],
            figures["boundary_distance"],
            [SpectrumPoint(*point) for point in figures["spectra"]],
        )
        for split, figures in json.loads(text).items()
    }


def _network_path(network: ReferenceNetwork, data: TaskData, cache: Path) -> Path:
    key = _key(network.config.network_digest(), data)
    return cache / f"{network.role}-{network.seed}-{key}.pt"


def _key(digest: str, data: TaskData) -> str:
    content = f"{digest} {data.fingerprint} {__version__}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]
