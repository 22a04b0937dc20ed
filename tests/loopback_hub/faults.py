"""Errors on demand: the next requests that match get a status, a late answer, none, or lose their connection."""

from __future__ import annotations

import dataclasses
import threading


@dataclasses.dataclass
class Fault:
    """What happens to requests whose path contains ``pattern``.

    Args:
        pattern: part of "METHOD /path?query".
        times: how many more requests it happens to.
        skip: matching requests that pass first.
        status: answer this instead of doing anything; ``None``: break the connection.
        after_bytes: break it when so much of the body has come; ``None``: do what was asked, then break it without
            an answer.
        silence: seconds before the answer.
    """

    pattern: str
    times: int = 1
    skip: int = 0
    status: int | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    message: str = "on demand"
    after_bytes: int | None = None
    silence: float = 0.0


class Faults:
    """The faults still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def answer(self, pattern: str, status: int, **options: object) -> None:
        """Answer the next ``times`` requests that match with ``status``, and do nothing else."""
        self._faults.append(Fault(pattern, status=status, **options))

    def cut(self, pattern: str, after_bytes: int, **options: object) -> None:
        """Break the connection once ``after_bytes`` of the body have come."""
        self._faults.append(Fault(pattern, after_bytes=after_bytes, **options))

    def lose_answer(self, pattern: str, **options: object) -> None:
        """Do what is asked, and break the connection instead of saying so."""
        self._faults.append(Fault(pattern, **options))

    def stall(self, pattern: str, silence: float, **options: object) -> None:
        """Answer ``silence`` seconds late, without having done anything."""
        self._faults.append(Fault(pattern, status=504, silence=silence, **options))

    def clear(self) -> None:
        self._faults.clear()

    def next(self, line: str) -> Fault | None:
        """The fault that this request meets, if any; counts it."""
        with self._lock:
            for fault in self._faults:
                if fault.pattern in line and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None
