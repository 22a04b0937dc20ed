"""Values that are made once: whoever asks first has them made, later ones read them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Values of one kind by key, each made when it is first asked for. Who gets one leaves it as it is."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, which tells all that the value depends on."""
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]

    def drop(self, which: Callable[[K], bool] = lambda _: True) -> None:
        """Forget the values of some keys, or all."""
        for key in [key for key in self._values if which(key)]:
            del self._values[key]

    def __iter__(self) -> Iterator[V]:
        return iter(self._values.values())
