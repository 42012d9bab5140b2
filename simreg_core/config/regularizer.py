"""The configuration of :mod:`simreg_core.regularizer`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from simreg_core.config.base import Config, Names, PositiveInt, require_pair
from simreg_core.registry import DATASETS, TARGETS


class RegularizerConfig(Config):
    """The similarity regularizer, L = L_task + alpha * L_sim."""

    alpha: Annotated[float, Field(ge=0)] = 10.0
    """Weight of L_sim, for z = 2 arctanh as published; 0 turns the regularizer off."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Th: the target is +1 above Th, -1 below -Th, and 0 between."""
    batch_size: PositiveInt = 16
    """k, image pairs per step. Each step forwards 2k regularization images."""
    dataset: str = "task"
    """``task`` (the training images of the task), ``natural``, or a value as ``task.dataset``."""
    num_images: Annotated[int, Field(ge=2)] = 5000
    """N, number of regularization images."""
    target: Annotated[str, AfterValidator(TARGETS.require)] = "pixel"
    """Target of the features' similarities: ``pixel`` (thresholded pixel similarities),
    ``pixel_raw``, ``label`` (1 within a class, 0 across), ``neural`` (predicted responses),
    ``v1_gabor``, ``features:PATH`` (rows of a feature matrix), or ``module:function``."""
    neural_model: str | None = None
    """File of the predictive model for the ``neural`` target."""
    pairs: Literal["all", "high", "low", "positive", "negative", "double"] = "all"
    """Pairs that are used, by their pixel similarity S: ``high`` |S| > Th, ``low`` |S| < Th,
    ``positive`` S > Th or |S| < Th, ``negative`` S < -Th or |S| < Th, ``double`` |S| > Th or
    |S| < ``threshold_low`` (poster, section 6)."""
    threshold_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Second threshold, below the first; required by ``pairs: double``."""
    layers: Names | None = None
    """Layers whose features are compared: ``stem``, ``section1``, ...; default: all. Of other
    networks, the names of modules as ``model.named_modules()`` gives them."""
    gamma: str = "trainable"
    """Weights of the layers: ``trainable``, ``uniform``, or the name of a single layer."""
    transform: Literal["arctanh", "identity"] = "arctanh"
    """Transform of similarities before they are compared."""
    mean_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Weight of the old value in the running mean of the features."""
    shuffle_targets: bool = False
    """Control: compute the targets from images other than those that the network sees."""

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != "task":
            DATASETS.require(name, "task")
        return name

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        for target in TARGETS.known.values():
            if target.needs is not None:
                given = getattr(self, target.needs)
                require_pair("target", self.target, target.name, target.needs, given)
        require_pair("pairs", self.pairs, "double", "threshold_low", self.threshold_low)
        if self.threshold_low is not None and self.threshold_low >= self.threshold:
            raise ValueError(
                f"threshold_low ({self.threshold_low:g}) must be below "
                f"threshold ({self.threshold:g})"
            )
        return self
