"""What is costly to make is made once in each process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """What ``make`` gives, made when it is first asked for, by whichever thread asks first.

    It travels to another process unmade: a model or an index is loaded there from its files, not sent. ``make`` must be
    picklable, like a ``functools.partial`` of a module's function.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.make, self.making = make, threading.Lock()
        self.made: list[T] = []

    def __call__(self) -> T:
        with self.making:
            if not self.made:
                self.made.append(self.make())
        return self.made[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.make,)
