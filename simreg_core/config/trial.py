"""The configuration of one trial: its task, network, training, regularizer and attacks.

Values are strictly typed (``"1e-4"`` is not a number, ``1`` is not ``true``) and checked on
construction. Defaults are the published CIFAR-10 protocol (arXiv:2410.03952);
:mod:`simreg_core.config.protocols` has those of other tasks. The symbols alpha, Th, k, N and gamma
are those of the paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from simreg_core.config.base import (
    Config,
    NonEmpty,
    PositiveInt,
    Seed,
    dtype_of,
    require_known,
)
from simreg_core.config.protocols import protocols, with_protocol
from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.yaml_io import get_dotted
from simreg_core.plugins import is_plugin
from simreg_core.registry import DATASETS, NETWORKS


class TaskConfig(Config):
    """The classification task: a dataset and its fixed split."""

    dataset: str
    """A dataset's name, ``NAME:PATH`` or ``module:function``."""
    protocol: str | None = None
    """The task whose defaults apply; the dataset's own if not given, else that of ``cifar10``."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Side in pixels to which images are resized (bilinear); default: not resized."""
    color: bool = False
    """RGB instead of grey-scale."""
    num_train: Annotated[int, Field(ge=2)] | None = None
    """Number of training images; default: all that remain."""
    num_validation: PositiveInt | None = None
    """Images to hold out of the training set; a tenth of it if not given."""
    num_test: PositiveInt | None = None
    """Number of test images; default: the whole test set. Required if there is no test set."""
    split_seed: Seed = 0
    """Seed of the splits, and of the choice of regularization images."""

    @field_validator("dataset")
    @classmethod
    def _known_task(cls, name: str) -> str:
        DATASETS.require(name)
        if name in DATASETS.known and DATASETS.known[name].classes == 0:
            raise ValueError(f"{name!r} has no labels; use it as regularizer.dataset only")
        return name

    @field_validator("protocol")
    @classmethod
    def _known_protocol(cls, name: str | None) -> str | None:
        if name is not None and not is_plugin(name):  # a user's dataset declares its own
            require_known("protocol", [name], tuple(protocols()))
        return name


class ModelConfig(Config):
    """The network; by default a ResNet for small images, without max-pooling (arXiv:2410.03952)."""

    architecture: Annotated[str, AfterValidator(NETWORKS.require)] = "resnet18"
    """``resnet18``, ``resnet34`` or ``resnet50`` for small images (7x7 stride-1 stem, no
    max-pooling), ``torchvision:NAME``, ``timm:NAME`` or ``module:function``."""
    options: dict[str, float | int | str | bool] = {}
    """Keyword arguments for a network of torchvision, timm or your own."""
    input_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Side in pixels to which the network resizes its input (bilinear). Attacks perturb the images
    before this. Default: not resized."""
    base_channels: Annotated[int, Field(ge=1, le=1024)] = 64
    """Of ``resnet18`` to ``resnet50``: width of the stem and of the first section. It doubles with
    each further section."""
    blocks: Annotated[NonEmpty[PositiveInt], Field(max_length=5)] | None = None
    """Of ``resnet18`` to ``resnet50``: blocks per residual section; default: those of the
    architecture."""
    scale: Annotated[float, Field(gt=0)] = 5.0
    """The network sees ``scale * (x - shift)`` for pixels x in [0, 1]."""
    shift: float = 0.5
    """See ``scale``."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> Self:
        is_own = self.architecture in NETWORKS.known and self.architecture in NETWORKS.own
        if is_own and self.options:
            raise ValueError(
                f"options has no effect with architecture {self.architecture}; "
                "its options are base_channels and blocks"
            )
        return self


class ScheduleConfig(Config):
    """Step decay with restarts: rate = learning_rate * factor ** (steps since the restart)."""

    unit: Literal["epochs", "fraction"] = "epochs"
    """Unit of step and restart; with ``fraction``, they are parts of the run."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The learning rate is multiplied by this at every step."""
    step: Annotated[float, Field(gt=0)] = 4.0
    """Distance between steps."""
    restart: Annotated[float, Field(gt=0)] = 20.0
    """Distance between restarts, at which the learning rate is reset."""

    @model_validator(mode="after")
    def _restart_after_step(self) -> Self:
        if self.restart < self.step:
            raise ValueError(f"restart ({self.restart:g}) must not be below step ({self.step:g})")
        return self


class AugmentationConfig(Config):
    """Random crops after reflect padding, and horizontal flips, of the training images."""

    crop_padding: Annotated[int, Field(ge=0)] = 4
    """Pixels of padding on each side; 0 turns cropping off."""
    horizontal_flip: bool = True
    """Flip each training image with probability 1/2."""


Precision = Literal["float32", "bf16"]
"""``bf16``: convolutions and matrix products in bfloat16; weights, updates, similarities and losses
in float32."""


_WITHOUT_EFFECT = {"cuda_graph", "checkpoint_seconds"}
"""Settings of training that do not change its result, and so not its digest."""


class TrainingConfig(Config):
    """SGD on cross-entropy plus the similarity loss."""

    epochs: PositiveInt = 40
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Training images per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate of SGD at the start and after every restart."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of SGD."""
    schedule: ScheduleConfig = ScheduleConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are kept: that of the lowest validation loss, or the last."""
    precision: Precision = "float32"
    """Precision of training passes; networks are always evaluated in float32."""
    cuda_graph: Literal["auto", "off"] = "auto"
    """Replay the training step as a CUDA graph on GPUs; does not change results."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0
    """Shortest time between two checkpoints; the last epoch always writes one."""


class TrialConfig(Config):
    """Everything that one trial depends on, including its seed."""

    task: TaskConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    regularizer: RegularizerConfig = Field(default_factory=RegularizerConfig)
    robustness: RobustnessConfig = Field(default_factory=RobustnessConfig)
    seed: Seed = 0
    """Seed of the initial weights, batches, augmentation and pairs."""

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        layers = self.regularizer.layers
        network = NETWORKS.known.get(self.model.architecture)
        if network is not None and (existing := network.layers(self.model)):
            # Those of other networks are unknown until they are built.
            require_known("layer in regularizer.layers", layers or (), existing)
            layers = layers or existing
        if layers is not None:
            gammas = ("trainable", "uniform", *layers)
            require_known("regularizer.gamma", [self.regularizer.gamma], gammas)
        return self

    @model_validator(mode="after")
    def _padding_fits(self) -> Self:
        size, padding = self.task.image_size, self.training.augmentation.crop_padding
        if size is not None and padding >= size:
            raise ValueError(
                f"training.augmentation.crop_padding ({padding}) must be below "
                f"task.image_size ({size})"
            )
        return self

    @classmethod
    def from_dict(cls, trial: Mapping[str, Any]) -> TrialConfig:
        """Validate a nested dictionary, with the defaults of its protocol filled in.

        Raises:
            pydantic.ValidationError: (a ``ValueError``) a key is unknown or a value not allowed.
        """
        return cls.model_validate(with_protocol(trial))

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionary of JSON types; the inverse of :meth:`from_dict`."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """16 hexadecimal digits that identify this configuration in all processes."""
        return _digest(self.model_dump(mode="json", exclude={"training": _WITHOUT_EFFECT}))

    def unregularized(self, seed: int) -> TrialConfig:
        """This configuration with another seed and without the regularizer."""
        off = RegularizerConfig(alpha=0.0)
        return self.model_copy(update={"regularizer": off, "seed": seed})

    def network_digest(self) -> str:
        """16 hexadecimal digits that identify the trained network, whatever attacks it."""
        content = self.model_dump(mode="json", exclude={"training": _WITHOUT_EFFECT})
        return _digest({k: v for k, v in content.items() if k != "robustness"})

    def flat(self) -> dict[str, Any]:
        """Every leaf field by its dotted name, as the columns of tables hold it."""
        tree = self.to_dict()
        values = {path: get_dotted(tree, path) for path, _ in field_paths()}
        for path, annotation in field_paths():
            value = values[path]
            if dtype_of(annotation) == "string" and not isinstance(value, str | None):
                values[path] = json.dumps(value, sort_keys=True)
        return values


def field_paths(
    model: type[BaseModel] = TrialConfig, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted name and annotation of every leaf field, in order of definition.

    An optional section such as ``robustness.boundary`` is one leaf.
    """
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from field_paths(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.annotation


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
