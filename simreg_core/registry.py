"""Components that a configuration can name: attacks, datasets, networks, metrics and others.

A component is a function with its properties, such as defaults and a label. A decorator declares
it::

    @attack("stripes", max_epsilon=0.1, reference=0.1, label="stripes")
    def stripes(batch, *, period: int = 4): ...

A configuration names the project's own components by their names. The same holds for components of
an installed package whose entry point of the group ``simreg`` names the module that declares them.
Any other function, declared or not, is named as ``module:function``. Every corruption is an attack,
too, by the name ``corruption:KIND``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, Literal, Self, TypeVar

from simreg_core.errors import ConfigError, one_line
from simreg_core.plugins import is_plugin, load_function

ENTRY_POINTS = "simreg"
CORRUPTION_PREFIX = "corruption:"
"""First part of the names of corruptions among attacks."""
Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A function with the name that configurations, results and messages use."""

    name: str
    function: Function = field(repr=False)
    label: str = ""
    """Name in charts and reports; derived from ``name`` if empty."""
    argument: str = ""
    """``PATH`` if a configuration names it as ``name:PATH``; empty: by its name alone."""

    @classmethod
    def declare(cls, name: str, **properties: Any) -> Callable[[Function], Self]:
        """A decorator that makes a function a component; ``properties`` are further fields."""
        return lambda function: cls(name=name, function=function, **properties)

    @property
    def title(self) -> str:
        """The label, or else the name with spaces for underscores."""
        return self.label or self.name.replace("_", " ")

    @property
    def written(self) -> str:
        """The name as a configuration has it."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def is_foreign(self) -> bool:
        """Whether the function is defined outside of this project."""
        function = self.function
        while isinstance(function, partial):
            function = function.func
        return getattr(function, "__module__", "").partition(".")[0] != "simreg_core"


@dataclass(frozen=True, kw_only=True)
class Attack(Component):
    """``(AttackInput, **options)`` to a ``Perturbation``; see ``robustness/attack.py``."""

    max_epsilon: float | None = None
    """Default of the largest distortion, in pixel units of [0, 1]; of corruptions, a severity."""
    reference: float | None = None
    """Default of the reference epsilon."""
    transfers: bool = False
    """Whether it uses ``batch.surrogate``. It is then run with each of several surrogates."""
    queries: bool = False
    """Whether it uses ``batch.scores``, the logits of the attacked network."""
    is_random: bool = False
    """Whether it is run with several draws from ``batch.rng`` on small splits."""
    precompute: Function | None = field(default=None, repr=False)
    """``(surrogate, images, labels)`` to a tensor with one row per image. The attack gets it from
    ``batch.precomputed``. That of the project's own attacks is cached per surrogate and split."""
    per_epsilon: bool = False
    """Whether ``precompute`` takes ``epsilon`` and the attack's options as further arguments."""


@dataclass(frozen=True, kw_only=True)
class Corruption(Component):
    """``(images, severity, rng)`` to images; see :mod:`simreg_core.robustness.corruptions`."""


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """``(argument, ImageRequest)`` to an ``ImagePool``; see :mod:`simreg_core.data.registry`."""

    classes: int | None = None
    """Number of classes; 0: no labels, None: depends on the files."""
    side: int | None = None
    """Height and width of the stored images in pixels; None: depends on the files."""
    protocol: Mapping[str, Any] | None = None
    """Defaults of a trial on this dataset; None: those of CIFAR-10."""
    download: Function | None = field(default=None, repr=False)
    """Downloads the dataset into the data folder that it gets; None: nothing to download."""


@dataclass(frozen=True, kw_only=True)
class Target(Component):
    """``TargetInput`` to S_target of index pairs; see :mod:`simreg_core.regularizer.targets`."""

    needs_labels: bool = False
    needs: str | None = None
    """Field of ``regularizer`` that this target requires and all others exclude."""
    check: Function | None = field(default=None, repr=False)
    """Called with the value of ``needs`` before training; raises ``ConfigError``."""


@dataclass(frozen=True, kw_only=True)
class Network(Component):
    """``(channels=, num_classes=, **options)`` to a network, from prepared pixels to logits.

    The project's own are ``(ModelConfig, channels=, num_classes=)``.
    """

    layers: Function = field(default=lambda config: (), repr=False)
    """``ModelConfig`` to the names of the layers that the regularizer compares by default; empty if
    ``regularizer.layers`` must name them."""
    input_channels: int | None = None
    """Channels that the network takes; None: those of the images."""


@dataclass(frozen=True, kw_only=True)
class Metric(Component):
    """``Measurements`` of one network on one split to a number or None."""

    direction: Literal["maximize", "minimize"] | None
    """None: recorded, but not available as an objective."""
    worst: float | None = None
    """Value of a useless network, used as reference point of a hypervolume; None: unbounded."""
    description: str = ""
    needs: str | None = None
    """Section of the trial configuration that turns the metric on."""
    undefined: str = ""
    """What None means, for error messages."""
    is_accuracy: bool = False
    """Whether the values are in [0, 1]."""
    against_baseline: bool = False
    """Whether it is a difference from the unregularized baseline, printed with its sign."""


C = TypeVar("C", bound=Component)


class Registry(Generic[C]):
    """All components of one kind.

    Args:
        component: The class of the components.
        homes: Modules, or packages with all of their modules, that declare the project's own.
    """

    def __init__(self, component: type[C], *homes: str) -> None:
        self._component = component
        self._homes = homes
        self.kind = component.__name__.lower()

    @cached_property
    def own(self) -> Mapping[str, C]:
        """The project's own components, by name."""
        return self._collect({}, _declared_in(self._homes))

    @cached_property
    def known(self) -> Mapping[str, C]:
        """The project's own components and those of entry points, by name."""
        return self._collect(dict(self.own), _declared_by_entry_points())

    def get(self, name: str) -> C:
        """The component with a known name, of ``NAME:PATH`` or of a ``module:function``.

        Raises:
            ConfigError: the name is unknown, or the function cannot be imported, is a component of
                another kind, or is not declared although this kind requires properties.
        """
        if self.is_known(name):
            return self.known[name.partition(":")[0]]
        self.require(name)
        found = load_function(name)
        if isinstance(found, self._component):
            return replace(found, name=name)
        if isinstance(found, Component):
            kind = type(found).__name__.lower()
            raise ConfigError(f"{name}: is a component of kind {kind}, not {self.kind}")
        try:
            return self._component(name=name, function=found)
        except TypeError as err:
            raise ConfigError(
                f"{name}: not declared; decorate it with simreg_core.registry.{self.kind}"
            ) from err

    def require(self, name: str, *others: str) -> str:
        """The name; a :class:`ConfigError` if it is not known and no ``module:function``.

        ``others`` are further allowed names, for the message.
        """
        is_declared = name.partition(":")[0] in self.known
        if not self.is_known(name) and (is_declared or not is_plugin(name)):
            allowed = ", ".join((*others, *self.allowed()))
            raise ConfigError(f"unknown {self.kind} {name!r}; allowed: {allowed}")
        return name

    def is_known(self, name: str) -> bool:
        """Whether a known component has this name, with a path if, and only if, it takes one."""
        kind, _, path = name.partition(":")
        found = self.known.get(kind)
        return found is not None and (bool(path) if found.argument else name == kind)

    def allowed(self) -> list[str]:
        """The names that a configuration may have, for messages."""
        return [*(found.written for found in self.known.values()), "MODULE:FUNCTION"]

    def _collect(self, found: dict[str, C], values: Iterable[object]) -> dict[str, C]:
        for value in values:
            if isinstance(value, self._component) and found.setdefault(value.name, value) != value:
                raise ConfigError(f"{self.kind} {value.name!r} is declared twice")
        return found


class _Attacks(Registry[Attack]):
    """Attacks, and every corruption by the name ``corruption:KIND``."""

    def get(self, name: str) -> Attack:
        if not is_corruption(name):
            return super().get(name)
        module = importlib.import_module("simreg_core.robustness.corruptions")
        attack: Attack = module.corruption_attack(name.removeprefix(CORRUPTION_PREFIX))
        return attack

    def require(self, name: str, *others: str) -> str:
        if not is_corruption(name):
            return super().require(name, *others)
        CORRUPTIONS.require(name.removeprefix(CORRUPTION_PREFIX))
        return name

    def allowed(self) -> list[str]:
        return [*super().allowed(), f"{CORRUPTION_PREFIX}KIND"]


def is_corruption(attack: str) -> bool:
    """Whether an attack's name is ``corruption:KIND``; its epsilons are severities."""
    return attack.startswith(CORRUPTION_PREFIX)


def _declared_in(homes: Iterable[str]) -> Iterator[object]:
    for home in homes:
        module = importlib.import_module(home)
        yield from vars(module).values()
        for info in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{home}."):
            if not info.name.endswith(".__main__"):
                yield from vars(importlib.import_module(info.name)).values()


def _declared_by_entry_points() -> Iterator[object]:
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except (Exception, SystemExit) as err:  # whatever the package raises on import
            raise ConfigError(f"entry point {point.value}: {one_line(err)}") from err
        yield from vars(loaded).values() if isinstance(loaded, ModuleType) else (loaded,)


ATTACKS = _Attacks(Attack, "simreg_core.robustness")
CORRUPTIONS = Registry(Corruption, "simreg_core.robustness")
DATASETS = Registry(Dataset, "simreg_core.data")
TARGETS = Registry(Target, "simreg_core.regularizer", "simreg_core.neural")
NETWORKS = Registry(Network, "simreg_core.networks")
METRICS = Registry(Metric, "simreg_core.results.metrics")

attack = Attack.declare
corruption = Corruption.declare
dataset = Dataset.declare
target = Target.declare
network = Network.declare
metric = Metric.declare
