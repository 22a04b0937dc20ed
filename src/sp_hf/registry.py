"""Classes by name, to which others may add: the package's own, those registered in this process, and those of packages.

A package offers a class by an entry point, which ``pip install`` writes down::

    [project.entry-points."sp_hf.objectives"]
    dcl = "my_dcl:DCL"

What is installed is read when a name is not known yet, or when names are listed; code is imported when its own name is
asked for. Nothing else is ever imported: a configuration, downloaded or not, holds names, and names no modules.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import metadata
from typing import Generic, TypeVar

from .errors import PluginError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Kind = TypeVar("Kind", bound=type)
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # what pip takes for a package's name


class Registry(MutableMapping[str, type[T]], Generic[T]):
    """Classes by name.

    Args:
        noun: what one is called, ``"objective"``.
        group: of the entry points by which packages offer one, ``"sp_hf.objectives"``.
        own: the package's own classes; nobody else may have their names.
        check: of a name and what is to have it; raises ``PluginError`` where it may not.
    """

    def __init__(
        self, noun: str, group: str, own: Mapping[str, type[T]], check: Callable[[str, type[T]], None]
    ) -> None:
        self.noun, self.group, self.own = noun, group, tuple(own)
        self._check = check
        self._classes: dict[str, type[T]] = dict(own)
        self._reported: set[str] = set()

    def __getitem__(self, name: str) -> type[T]:
        """Raises ``KeyError`` for an unknown name, ``PluginError`` for a package's that cannot be had."""
        if name not in self._classes:
            self._load(name)
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._classes or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._classes, *sorted(self._offered().keys() - self._classes.keys())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __setitem__(self, name: str, kind: type[T]) -> None:
        """Register a class; the same definition run again (a notebook's cell) takes the place of the one before.

        Raises:
            PluginError: the name is taken, or the class cannot be what it is to be.
        """
        self._check(name, kind)
        before = self._classes.get(name)
        if before is not None and (name in self.own or _definition(before) != _definition(kind)):
            owner = "sp-hf's own" if name in self.own else f"that of {'.'.join(_definition(before))}"
            raise PluginError(f"there is {self.noun} {name!r} already, {owner}; give yours another name.")
        others = [point for point in self._offered().get(name, []) if _top(point.module) != _top(kind.__module__)]
        if before is None and others:
            raise PluginError(
                f"the installed package {_package(others[0])} offers {self.noun} {name!r} already; give yours another"
                " name, or uninstall it."
            )
        self._classes[name] = kind

    def __delitem__(self, name: str) -> None:
        """Forget a registered class; one that a package offers is loaded again when it is next asked for."""
        if name in self.own:
            raise PluginError(f"{self.noun} {name!r} is sp-hf's own and stays.")
        del self._classes[name]

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """A decorator: ``self[name] = the class``."""

        def add(kind: Kind) -> Kind:
            self[name] = kind
            return kind

        return add

    @property
    def loaded(self) -> dict[str, type[T]]:
        """Those at hand, without a look at what is installed."""
        return dict(self._classes)

    def available(self) -> dict[str, type[T]]:
        """All that can be had, packages' imported; a warning names those that cannot."""
        for name in self._offered().keys() - self._classes.keys():
            try:
                self._load(name)
            except PluginError as error:
                self._warn(name, str(error))
        return self.loaded

    def package_of(self, name: str) -> str | None:
        """The installed package (its distribution's name) that a class came with; ``None``: sp-hf itself, or none."""
        if name in self.own:
            return None
        module = _top(self[name].__module__)
        for point in self._offered().get(name, []):
            if _top(point.module) == module:
                return _package(point)
        return next(iter(metadata.packages_distributions().get(module, [])), None)

    def missing(self, name: object, package: object = None) -> str:
        """Why there is no such name, in a sentence; ``package`` is the one that it was recorded to be of."""
        if not isinstance(package, str) or not _DISTRIBUTION.fullmatch(package):
            return f"known: {', '.join(self)}. One of another package is known once that is installed."
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            return (
                f"it was made with the package {package}, which is not installed: pip install {package}"
                " (its code will run; look who wrote it first)."
            )
        return f"it was made with the package {package}, whose version {version} is installed and does not offer it."

    def _offered(self) -> dict[str, list[metadata.EntryPoint]]:
        """The installed packages' entry points by name."""
        points: dict[str, list[metadata.EntryPoint]] = {}
        for point in metadata.entry_points(group=self.group):
            if point.name in self.own:
                offer = f"the installed package {_package(point)} offers {self.noun} {point.name!r}"
                self._warn(point.name, f"{offer}, a name of sp-hf's own; it is not used until it has another.")
            else:
                points.setdefault(point.name, []).append(point)
        return points

    def _load(self, name: str) -> None:
        points = self._offered()[name]
        if len(points) > 1:
            packages = ", ".join(sorted(map(_package, points)))
            raise PluginError(f"{self.noun} {name!r} is offered by {packages}; uninstall all but one of them.")
        try:
            kind = points[0].load()
            if self._classes.get(name) is not kind:  # its module may have registered it
                self[name] = kind
        except PluginError as error:
            raise PluginError(f"the installed package {_package(points[0])}: {error}") from error
        except Exception as error:  # another's code may raise anything
            raise PluginError(
                f"the installed package {_package(points[0])} offers {self.noun} {name!r}, but {points[0].value} cannot"
                f" be imported: {type(error).__name__}: {error}. Update the package, or uninstall it."
            ) from error

    def _warn(self, name: str, text: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            logger.warning("%s", text)


def _package(point: metadata.EntryPoint) -> str:
    return "(unknown)" if point.dist is None else point.dist.name


def _top(module: str) -> str:
    return module.partition(".")[0]


def _definition(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__
