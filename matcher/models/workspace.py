"""Arrays that a thread uses again and again: fresh memory costs as much as the sums that are written to it."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOCAL = threading.local()


def room(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """An array of this shape, holding anything. The thread's next call by the same name and dtype gives the same memory."""
    rooms: dict[tuple[str, Any], NDArray[Any]] = _LOCAL.__dict__.setdefault("rooms", {})
    size = math.prod(shape)
    if (name, dtype) not in rooms or rooms[name, dtype].size < size:
        rooms[name, dtype] = np.empty(size, dtype=dtype)
    return rooms[name, dtype][:size].reshape(shape)
