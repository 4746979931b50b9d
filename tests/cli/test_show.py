import json
from pathlib import Path

import numpy as np

from matcher.cli.show import as_text


def test_numbers_and_arrays_become_json():
    content = {
        "a": np.float32(0.5),
        "b": np.array([1.0, np.nan]),
        "c": (np.int64(3), True),
        4: Path("x"),
        "inf": float("inf"),
        "none": None,
    }
    assert json.loads(as_text(content, as_json=True)) == {"a": 0.5, "b": [1.0, None], "c": [3, True], "4": "x", "inf": None, "none": None}


def test_nothing_prints_nothing():
    assert as_text(None, as_json=False) == ""
    assert as_text(None, as_json=True) == "null"


def test_letters_stay_readable():
    assert "é" in as_text({"name": "é"}, as_json=True)
