"""The components that a configuration names: attacks, datasets, networks, metrics and so on.

A component is a function together with everything the project needs to know about it: its defaults,
its label, what it needs. A decorator declares it::

    @attack("stripes", max_epsilon=0.1, reference=0.1, label="stripes")
    def stripes(batch, *, period: int = 4): ...

The project's own components are those declared in the modules of their wing. An installed package
adds components with an entry point of the group ``simreg`` that names one of its modules. Both are
known by their names. A configuration names any other function, declared or not, as
``module:function``.
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

from simreg_core.errors import ConfigError, reason_of
from simreg_core.plugins import is_plugin, load_function

ENTRY_POINTS = "simreg"
Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A function and its name in configurations, results and messages."""

    name: str
    function: Function = field(repr=False)
    label: str = ""
    """Name in charts and texts; the name itself if not given."""

    @classmethod
    def declare(cls, name: str, **properties: Any) -> Callable[[Function], Self]:
        """A decorator that makes a function this kind of component.

        Args:
            name: The component's name.
            **properties: Fields of the class.
        """
        return lambda function: cls(name=name, function=function, **properties)

    @property
    def title(self) -> str:
        """The label, or else the name in words."""
        return self.label or self.name.replace("_", " ")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def is_foreign(self) -> bool:
        """Whether the function comes from outside of this project."""
        function = self.function
        while isinstance(function, partial):
            function = function.func
        return getattr(function, "__module__", "").partition(".")[0] != "simreg_core"


@dataclass(frozen=True, kw_only=True)
class Attack(Component):
    """Called with an ``AttackInput`` and its options; see :mod:`simreg_core.robustness.attack`."""

    max_epsilon: float | None = None
    """Largest distortion where the configuration gives none, in pixel units of [0, 1]."""
    reference: float | None = None
    """Reference epsilon where the configuration gives none."""
    precompute: Function | None = field(default=None, repr=False)
    """``(surrogate, images, labels)`` to a tensor with one row per image, which the attack gets as
    ``batch.precomputed``. That of the project's own attacks is cached per surrogate and split."""


@dataclass(frozen=True, kw_only=True)
class Corruption(Component):
    """``(images, severity, rng)`` to images; see :mod:`simreg_core.robustness.corruptions`."""


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """``(argument, ImageRequest)`` to an ``ImagePool``; see :mod:`simreg_core.data.registry`."""

    classes: int | None = None
    """Number of classes; 0 without labels, None if the files decide."""
    side: int | None = None
    """Height and width of the stored images in pixels; None if the files decide."""
    takes_path: bool = False
    """Whether the configuration names it as ``name:PATH``."""
    protocol: Mapping[str, Any] | None = None
    """Defaults of a trial on this dataset, beneath the user's values; None: those of CIFAR-10."""
    download: Function | None = field(default=None, repr=False)
    """Download into a data folder; None if there is nothing to download."""


@dataclass(frozen=True, kw_only=True)
class Target(Component):
    """``TargetInput`` to S_target of index pairs; see :mod:`simreg_core.regularizer.targets`."""

    needs_labels: bool = False
    needs: str | None = None
    """Field of ``regularizer`` that must be given with this target, and with no other."""
    check: Function | None = field(default=None, repr=False)
    """Called with the value of ``needs`` before anything is trained; raises ``ConfigError``."""


@dataclass(frozen=True, kw_only=True)
class Network(Component):
    """``(ModelConfig, channels=, num_classes=)`` to a network; see ``networks/network.py``."""

    layers: Function = field(repr=False)
    """``ModelConfig`` to the names of the layers whose features can be compared, in order."""


@dataclass(frozen=True, kw_only=True)
class Metric(Component):
    """``Measurements`` of one network on one split to a number or None."""

    direction: Literal["maximize", "minimize"] | None
    """None: recorded, but no objective."""
    worst: float | None = None
    """Value of a useless network, the reference point of a hypervolume; None: unbounded."""
    description: str = ""
    needs: str | None = None
    """Section of the trial configuration without which the metric is not measured."""
    is_accuracy: bool = False
    """Whether the values are in [0, 1]."""
    against_baseline: bool = False
    """Whether it compares the network with the unregularized baseline; shown with its sign."""


C = TypeVar("C", bound=Component)


class Registry(Generic[C]):
    """All components of one kind.

    Args:
        component: The class of the components.
        homes: Packages (all of their modules) or modules that declare the project's own.
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
        """The project's own components and those of entry points, by name.

        Raises:
            ConfigError: an entry point cannot be imported, or a name is declared twice.
        """
        return self._collect(dict(self.own), _declared_by_entry_points())

    def get(self, name: str) -> C:
        """The component of a name.

        Raises:
            ConfigError: the name is unknown, or its ``module:function`` cannot be imported.
        """
        if name in self.known:
            return self.known[name]
        self.require(name)
        found = load_function(name)
        if isinstance(found, self._component):
            return replace(found, name=name)
        if isinstance(found, Component):
            kind = type(found).__name__.lower()
            raise ConfigError(f"{name}: is a component of kind {kind}, not {self.kind}")
        return self.bare(name, found)

    def bare(self, name: str, function: Function) -> C:
        """A component for a function that no decorator declares.

        Raises:
            ConfigError: the kind has properties without a default.
        """
        try:
            return self._component(name=name, function=function)
        except TypeError as err:
            raise ConfigError(
                f"{name}: not declared; decorate it with simreg_core.registry.{self.kind}"
            ) from err

    def require(self, name: str) -> None:
        """Refuse a name that is neither known nor of the form ``module:function``.

        Raises:
            ConfigError: lists the known names.
        """
        if name not in self.known and not is_plugin(name):
            allowed = ", ".join((*self.known, "MODULE:FUNCTION"))
            raise ConfigError(f"unknown {self.kind} {name!r}; allowed: {allowed}")

    def _collect(self, found: dict[str, C], values: Iterable[object]) -> dict[str, C]:
        for value in values:
            if isinstance(value, self._component) and found.setdefault(value.name, value) != value:
                raise ConfigError(f"{self.kind} {value.name!r} is declared twice")
        return found


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
            raise ConfigError(f"entry point {point.value}: {reason_of(err)}") from err
        yield from vars(loaded).values() if isinstance(loaded, ModuleType) else (loaded,)


ATTACKS = Registry(Attack, "simreg_core.robustness")
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
