"""JSON files that carry the checksum of what they say, so that a changed byte is refused and not believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from matcher.errors import MatcherError
from matcher.storage.aside import read_json, write_json

SEAL = "seal"  # the key of the checksum


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """What JSON can hold -> the file, with its checksum."""
    write_json(path, {**content, SEAL: seal(content)})


def read_sealed(path: Path) -> Any:
    """File -> what it says, without the checksum. One without a checksum was written by an older matcher, or by hand: it is believed.

    MatcherError if it is missing, no JSON, or not what was written.
    """
    content = read_json(path)
    if isinstance(content, dict) and content.pop(SEAL, digest := seal(content)) != digest:
        raise MatcherError(
            f"{path} is damaged: it is not what was written; make it again, or take {SEAL!r} out if it was changed on purpose"
        )
    return content


def seal(content: dict[str, Any]) -> str:
    """What a file says -> SHA-256, whatever the order of the keys."""
    told = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
