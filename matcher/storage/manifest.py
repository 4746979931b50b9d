"""What a stage is: its record, the config and inputs that make it, and the shards it is cut into, fixed when it starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matcher import __version__
from matcher.errors import MatcherError, StaleStageError
from matcher.storage.aside import parse_json, write_json
from matcher.storage.records import SCHEMA_VERSION
from matcher.types import Record

MANIFEST_NAME = "manifest.json"
MOST_LINES = 5  # differences told before "and n more"
ABSENT = object()
SHOWN = 60  # signs of a value


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The head of a stage folder. ``config`` and ``inputs`` (name -> fingerprint) decide whether two stages are the same."""

    record: str
    schema_version: int
    package_version: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    items: int
    shards: list[list[int]]  # [start, stop) of every shard

    @property
    def fingerprint(self) -> str:
        """sha256 over what decides the content: record, schema version, config, inputs."""
        told = {"record": self.record, "schema_version": self.schema_version, "config": self.config, "inputs": self.inputs}
        return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def plan(kind: type[Record], *, config: Mapping[str, Any], inputs: Mapping[str, str], items: int, items_per_shard: int) -> Manifest:
    """Config (anything that JSON can hold) and inputs -> manifest with items cut into shards of ``items_per_shard``."""
    if items < 0 or items_per_shard < 1:
        raise ValueError(f"a stage needs items >= 0 and items_per_shard >= 1, got {items} and {items_per_shard}")
    return Manifest(
        record=kind.__name__,
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        config=json.loads(json.dumps(dict(config))),
        inputs=dict(inputs),
        items=items,
        shards=[[start, min(start + items_per_shard, items)] for start in range(0, items, items_per_shard)],
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST_NAME, asdict(manifest))


def read_manifest(folder: Path) -> Manifest | None:
    """Folder -> its manifest, None if it has none. MatcherError if the file there is no stage's."""
    path = folder / MANIFEST_NAME
    try:
        manifest = Manifest(**parse_json(path.read_bytes()))
        check(manifest)
        return manifest
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MatcherError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise MatcherError(f"{path} is damaged or not a stage's: move the folder away, or choose another --output") from error


def check(manifest: Manifest) -> None:
    """ValueError or TypeError if a field is of another kind, or the shards are not all items, each once and in order."""
    texts = (manifest.record, manifest.package_version, *manifest.inputs, *manifest.inputs.values())
    if not isinstance(manifest.config, dict) or not isinstance(manifest.inputs, dict) or not all(isinstance(text, str) for text in texts):
        raise TypeError("record, version, config and inputs must be texts and mappings")
    end = 0
    for start, stop in manifest.shards:
        if type(start) is not int or type(stop) is not int or start != end or stop <= start:
            raise ValueError(f"the shard {start} to {stop} does not follow {end}")
        end = stop
    if type(manifest.items) is not int or end != manifest.items:
        raise ValueError(f"the shards hold {end} items, not {manifest.items}")


def refuse_stale(folder: Path, found: Manifest, wanted: Manifest) -> None:
    """StaleStageError with one line for each difference, if the stage on disk is not the one wanted."""
    lines = list(differences(found, wanted))
    if lines:
        more = [f"  and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
        told = "\n".join(["  " + line for line in lines[:MOST_LINES]] + more)
        sentence = f"{folder} was made by another config or from other inputs (use --fresh to replace it, or another --output):"
        raise StaleStageError(f"{sentence}\n{told}")


def differences(found: Manifest, wanted: Manifest) -> Iterator[str]:
    """Lines "key: was X, now Y", dotted keys; those of the inputs start with "inputs."."""
    was, now = (
        flatten({"record": m.record, "schema_version": m.schema_version}) | flatten(m.config) | flatten({"inputs": m.inputs})
        for m in (found, wanted)
    )
    if was == now:
        was, now = {"items": found.items}, {"items": wanted.items}
    for key in [*was, *(key for key in now if key not in was)]:
        if was.get(key, ABSENT) != now.get(key, ABSENT):
            before, after = told(was.get(key, ABSENT)), told(now.get(key, ABSENT))
            same = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
            yield f"{key}: was {shown(before, same)}, now {shown(after, same)}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> one mapping with dotted keys, in sorted order; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in sorted(tree.items()):
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def told(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    return value if isinstance(value, str) and value else json.dumps(value)


def shown(text: str, same: int) -> str:
    """A text, cut to where it differs from another one if it is long; ``same``: how many signs of both are the same."""
    if len(text) <= SHOWN:
        return text
    start = max(min(same - SHOWN // 2, len(text) - SHOWN), 0)
    return ("..." if start else "") + text[start : start + SHOWN] + ("..." if start + SHOWN < len(text) else "")
