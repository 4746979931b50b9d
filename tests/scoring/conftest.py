"""What the tests of this room share: real photographs that come with scikit-image."""

import cv2
import numpy as np
import pytest
from skimage import data

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "coins")
LONGER_SIDE = 360


@pytest.fixture(scope="session")
def pictures():
    """Name -> RGB picture (H, W, 3) uint8 whose longer side has 360 pixels."""
    found = {}
    for name in NAMES:
        image = getattr(data, name)()
        image = np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        scale = LONGER_SIDE / max(image.shape[:2])
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        found[name] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found[name].flags.writeable = False
    return found
