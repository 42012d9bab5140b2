"""The unregularized networks that a trial is compared with: the baselines and the surrogate.

Attacks are transferred from all of them. They depend on task, model and training, not on the
regularizer. Each is trained once, cached under a digest of what it depends on (including the
images), and shared by all trials. If several processes need one, one of them trains it and the
others wait for its lock.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.networks import checkpoint
from simreg_core.networks.network import (
    Classifier,
    architecture_of,
    freeze,
)
from simreg_core.plugins import Option, is_plugin, source_digest
from simreg_core.registry import ATTACKS, NETWORKS, Attack
from simreg_core.results.measurements import CurvePoint, Measurements
from simreg_core.results.schema import SPLITS, Role
from simreg_core.results.tradeoff import BaselineAccuracy, baseline_accuracy
from simreg_core.robustness.cifar10c import StoredCorruptions, open_folder
from simreg_core.robustness.evaluate import (
    SplitMeasurements,
    Surrogate,
    check_measurable,
    measure,
    precompute,
)
from simreg_core.robustness.frequency import SpectrumPoint
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import storage_of, to_path
from simreg_core.training import baseline_files as files
from simreg_core.training.baseline_networks import (
    BaselineNetwork,
    baseline_networks,
    surrogates_of,
)
from simreg_core.training.checkpoints import fit_with_checkpoints
from simreg_core.training.start import compared_layers, new_network, start
from simreg_core.training.state import EpochRecord
from simreg_core.version import __version__


@dataclass(frozen=True)
class BaselineResult:
    """Measurements and epochs of one cached network."""

    role: Role
    seed: int
    curves: tuple[CurvePoint, ...]
    epochs: tuple[EpochRecord, ...]
    boundary_distance: Mapping[str, float | None]
    """By split; None if it is not configured or nothing was found."""
    spectra: tuple[SpectrumPoint, ...]

    def measurements(self, split: str) -> Measurements:
        """The measurements on one split."""
        curves = [point for point in self.curves if point.split == split]
        return Measurements(curves, self.boundary_distance[split])


@dataclass(frozen=True)
class Baselines:
    """What trials with one task, model, training and robustness are compared with."""

    digest: str
    surrogates: tuple[Surrogate, ...]
    """What attacks on the trial's network are transferred from; see :func:`surrogates_of`."""
    results: tuple[BaselineResult, ...]
    """Results of the baselines in order of their seeds, then of the surrogate."""

    @property
    def networks(self) -> list[BaselineResult]:
        """Results of the baselines, in order of their seeds."""
        return [result for result in self.results if result.role == "baseline"]

    def accuracy(self, split: str) -> BaselineAccuracy:
        """C_0 and R_0 on a split, with their spread over the baseline seeds."""
        measured = [result.measurements(split) for result in self.networks]
        return baseline_accuracy(
            [m.clean_accuracy for m in measured], [m.robust_accuracy for m in measured]
        )

    def boundary_distance(self, split: str) -> float | None:
        """Mean over the baseline seeds; None if it is not measured or undefined for one."""
        distances = [result.boundary_distance[split] for result in self.networks]
        known = [distance for distance in distances if distance is not None]
        return statistics.fmean(known) if len(known) == len(distances) else None


def measure_splits(
    model: Classifier,
    data: TaskData,
    config: RobustnessConfig,
    surrogates: Sequence[Surrogate],
    stored: StoredCorruptions | None,
) -> dict[str, SplitMeasurements]:
    """All configured measurements of a network, by split; see :func:`measure`."""
    return {
        name: measure(
            model, data.split(name), name, config, surrogates, stored if name == "test" else None
        )
        for name in SPLITS
    }


def check_before_training(config: TrialConfig, data: TaskData, device: torch.device) -> None:
    """Try a network that is not the project's, and foreign attacks, before anything is trained.

    Raises:
        ConfigError: one of them fails, or a configured measurement is not possible.
    """
    images, labels = (values[:2].to(device) for values in data.test)

    def untrained() -> Classifier:
        return freeze(new_network(config.model, data, device, seed=0))

    if config.model.architecture not in NETWORKS.own:
        model = untrained()
        if config.regularizer.alpha > 0:
            compared_layers(config.regularizer, model, images)
    check_measurable(config.robustness, Split(images, labels), untrained)


class BaselineCache:
    """A folder of baselines and surrogates, for trials on one task.

    Args:
        folder: Folder of cached networks; several searches can share it.
        data: The task's splits, on the CPU.
        device: Where to train and evaluate.
    """

    def __init__(self, folder: str | Path, data: TaskData, device: torch.device) -> None:
        folder = to_path(folder)
        self.folder = folder
        self.data = data
        self.device = device

    def digest(self, config: TrialConfig) -> str:
        """Names the baselines of ``config``; equal for trials that can share them."""
        return self._key(config, config.unregularized(0).digest())

    def load(self, config: TrialConfig) -> Baselines:
        """The baselines of a trial; missing ones are trained and measured first.

        Raises:
            ConfigError: a configured measurement is not possible.
            NonFiniteLossError: training diverged.
        """
        check_before_training(config, self.data, self.device)
        results = tuple(self.result(network) for network in baseline_networks(config))
        return Baselines(self.digest(config), self.surrogates(config), results)

    def network(self, network: BaselineNetwork) -> Classifier:
        """The trained network, frozen, in evaluation mode; trained first if it is not cached."""
        path = self._weights_path(network)

        def read() -> Classifier | None:
            return files.read_network(path, network.config.network_digest(), self.device)

        def train() -> Classifier:
            self._train(network, path)
            return checkpoint.load_weights(path, device=self.device)

        return freeze(storage_of(path).build_once(path, read, train))

    def surrogates(self, config: TrialConfig) -> tuple[Surrogate, ...]:
        """:func:`surrogates_of` a configuration; missing networks are trained first."""
        return tuple(self._surrogate(network) for network in surrogates_of(config))

    def _surrogate(self, network: BaselineNetwork) -> Surrogate:
        """The network as a surrogate, with the configured attacks' results on it."""
        model = self.network(network)
        robustness = network.config.robustness
        known: dict[tuple[str, str, float], Tensor] = {}
        for name, settings in robustness.attacks.items():
            attack = ATTACKS.get(name)
            if attack.precompute is not None and not attack.is_foreign:
                for epsilon in robustness.epsilons(name)[1:] if attack.per_epsilon else (0.0,):
                    found = self._precomputed(network, attack, epsilon, settings.options)
                    known |= {(name, split, epsilon): rows for split, rows in found.items()}
        return Surrogate(model, known)

    def weights_file(self, network: BaselineNetwork) -> Path:
        """The network's weights file in the folder; trains the network if it is not there.

        Raises:
            NonFiniteLossError: training diverged.
        """
        path = self._weights_path(network)

        def train() -> Path:
            self._train(network, path)
            return path

        return storage_of(path).build_once(path, lambda: files.whole_weights(path), train)

    def result(self, network: BaselineNetwork) -> BaselineResult:
        """Measurements and epochs of a network; trains and measures it if necessary.

        To measure it, its surrogates are trained, too.

        Raises:
            ConfigError: a configured measurement is not possible; raised before any training.
            NonFiniteLossError: training diverged.
        """
        check_before_training(network.config, self.data, self.device)
        weights = self.weights_file(network)
        path = weights.with_suffix(f".{files.measured_digest(network.config)}.curves.json")

        def build() -> files.Measured | None:
            found = {split: m._asdict() for split, m in self._measure(network).items()}
            write_text(path, json.dumps(found, allow_nan=False))
            return files.read_measured(path)

        measured = storage_of(path).build_once(path, lambda: files.read_measured(path), build)
        epochs = files.read_epochs(files.epochs_file(weights))
        assert measured is not None  # just written
        assert epochs is not None  # read with the weights file
        curves, distance, spectra = measured
        return BaselineResult(network.role, network.seed, curves, epochs, distance, spectra)

    def _train(self, network: BaselineNetwork, path: Path) -> None:
        config = network.config
        state = start(config, self.data, self.device)
        unfinished = path.with_suffix(".state.pt")
        with suppress(checkpoint.CheckpointError):  # missing or damaged: training restarts
            state.restore(unfinished, config.digest())
        fit_with_checkpoints(state, self.data.to(self.device), config, unfinished)
        epochs = json.dumps([list(record) for record in state.records], allow_nan=False)
        write_text(files.epochs_file(path), epochs)
        checkpoint.save_weights(path, config, state.kept_model())
        unfinished.unlink(missing_ok=True)

    def _measure(self, network: BaselineNetwork) -> dict[str, SplitMeasurements]:
        config = network.config
        surrogates = self.surrogates(config)
        model, data = self.network(network), self.data.to(self.device)
        stored = open_folder(config.robustness.corruptions, config.task, self.data.test)
        return measure_splits(model, data, config.robustness, surrogates, stored)

    def _precomputed(
        self,
        network: BaselineNetwork,
        attack: Attack,
        epsilon: float,
        options: Mapping[str, Option],
    ) -> dict[str, Tensor]:
        """Cached results of an attack on a surrogate, by split, on the CPU."""
        name = attack.name
        if attack.per_epsilon:
            content = json.dumps([epsilon, options], sort_keys=True)
            name += f"-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        path = self.weights_file(network).with_suffix(f".{name}.pt")

        def compute() -> dict[str, Tensor]:
            model, data = self.network(network), self.data.to(self.device)
            found = {
                split: precompute(attack, model, data.split(split), epsilon, options).cpu()
                for split in SPLITS
            }
            checkpoint.save(found, path)
            return found

        return storage_of(path).build_once(path, lambda: files.read_tensors(path), compute)

    def _weights_path(self, network: BaselineNetwork) -> Path:
        key = self._key(network.config, network.config.network_digest())
        return self.folder / f"{network.role}-{network.seed}-{key}.pt"

    def _key(self, config: TrialConfig, digest: str) -> str:
        content = f"{digest} {self.data.fingerprint} {__version__}"
        name = architecture_of(config.model).name
        if is_plugin(name):
            content += f" {source_digest(name)}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]
