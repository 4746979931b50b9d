"""Whether torch has a GPU here, asked without importing torch in vain."""

from __future__ import annotations

import shutil
from functools import lru_cache


@lru_cache
def torch_sees_gpu(*, look: bool = False) -> bool:
    """Torch takes seconds to import: it is asked only where a driver for GPUs is installed, or where one must ``look``."""
    if not look and shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()
