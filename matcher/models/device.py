"""Whether torch has a GPU here, asked without importing torch in vain."""

from __future__ import annotations

import logging
import shutil
from functools import lru_cache

log = logging.getLogger("matcher")


@lru_cache
def torch_sees_gpu(*, look: bool = False) -> bool:
    """Torch takes seconds to import: it is asked only where a driver for GPUs is installed, or where one must ``look``."""
    if not look and shutil.which("nvidia-smi") is None:
        return False
    try:
        import torch
    except (ImportError, OSError) as error:
        log.warning("torch, which would search on the GPU, cannot be imported: searching on the CPU (%s)", error)
        return False
    return torch.cuda.is_available()
