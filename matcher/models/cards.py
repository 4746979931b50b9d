"""What a checkpoint says of itself, read without torch: where its files lie, its header, its checksums.

A checkpoint is ``NAME.safetensors``, or ``NAME-00001-of-00003.safetensors`` and so on, which belong together. The header of each
file holds one text, "matcher": JSON with the class and its arguments, the preprocessing, the training config, data, licences,
commit and numbers reached, and what the file's own tensors are checked by. checkpoints/README.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matcher.errors import MatcherError, UsageError
from matcher.faults import suggest
from matcher.shipped import shipped_names, shipped_room
from matcher.storage.aside import parse_json

SUFFIX = ".safetensors"
PRETRAINED = f"model{SUFFIX}"  # in a folder that save_pretrained wrote
PART = re.compile(r"-(\d{5})-of-(\d{5})$")
CARD_KEYS = ("training", "data", "licences", "commit", "numbers")  # what the maker of a checkpoint tells
HEADER: dict[str, type] = {"class": str, "arguments": dict, "preprocessing": dict, "half": bool, "part": dict}  # what must be told
LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format


def checkpoint_name(path: str | Path) -> tuple[Path, str]:
    """Path of a checkpoint or of one of its parts -> folder and bare name. UsageError if it does not end in .safetensors."""
    path = Path(path).expanduser()
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} is no checkpoint: its name must end in {SUFFIX}")
    return path.parent, PART.sub("", path.stem)


def checkpoint_files(path: str | Path) -> list[Path]:
    """Path of a checkpoint or of one of its parts -> its files in order. MatcherError if there is none, or one is missing or too much."""
    folder, name = checkpoint_name(path)
    parts = sorted(found for found in folder.glob(f"*{SUFFIX}") if PART.search(found.stem) and checkpoint_name(found)[1] == name)
    whole = folder / f"{name}{SUFFIX}"
    if whole.is_file():
        if parts:
            raise MatcherError(f"{whole} lies beside {parts[0].name}: is the checkpoint one file or several? Remove the older ones")
        return [whole]
    if not parts:
        raise MatcherError(f"there is no checkpoint {whole}, nor its parts {name}-00001-of-...{SUFFIX}")
    count = int(PART.search(parts[0].stem)[2])  # type: ignore[index]
    expected = part_paths(whole, count)
    if missing := sorted(set(expected) - set(parts)):
        raise MatcherError(f"checkpoint {whole} lacks its part {missing[0].name}")
    if foreign := sorted(set(parts) - set(expected)):
        raise MatcherError(f"{foreign[0]} does not belong to the {count} parts of {whole.name}: remove what another saving left")
    return expected


def part_paths(whole: Path, count: int) -> list[Path]:
    """NAME.safetensors and the number of parts -> their paths; one part has the plain name."""
    return [whole] if count == 1 else [whole.with_name(f"{whole.stem}-{n:05d}-of-{count:05d}{SUFFIX}") for n in range(1, count + 1)]


def find_checkpoint(backbone: str) -> Path | None:
    """What a setting names -> path of the checkpoint; None = something else.

    A checkpoint is a file that ends in .safetensors, a folder that ``save_pretrained`` wrote, or the bare name of one in
    checkpoints/descriptor. UsageError if a bare name (no colon, no slash, no such folder) is none of these.
    """
    if (file := find_file(backbone)) is not None:
        return file
    if not backbone or any(sign in backbone for sign in ":/\\") or Path(backbone).expanduser().is_dir():
        return None
    known = shipped_checkpoints()
    if backbone in known:
        return shipped_room("checkpoints") / "descriptor" / f"{backbone}{SUFFIX}"
    raise UsageError(
        f"backbone {backbone!r} is neither timm:NAME, nor transformers:NAME, nor a folder that exists, nor a file {SUFFIX}, "
        f"nor one of checkpoints/descriptor (there: {', '.join(known) or 'none'}){suggest(backbone, known)}"
    )


def find_model(name: str, rooms: Sequence[str]) -> Path:
    """What a setting names, and rooms of checkpoints/ -> path of the checkpoint.

    It is a file that ends in .safetensors, a folder that ``save_pretrained`` wrote, or NAME or ROOM/NAME of one in these rooms.
    UsageError if it is none of these, or if several rooms have one of that name.
    """
    if (file := find_file(name)) is not None:
        return file
    known = [f"{room}/{bare}" for room in rooms for bare in shipped_checkpoints(room)]
    found = [one for one in known if name in (one, one.partition("/")[2])]
    if len(found) == 1:
        return shipped_room("checkpoints") / f"{found[0]}{SUFFIX}"
    if found:
        raise UsageError(f"model {name!r} may be {' or '.join(found)}: name it with its folder")
    raise UsageError(
        f"model {name!r} is neither a file {SUFFIX}, nor a folder that save_pretrained wrote, "
        f"nor one of {', '.join(f'checkpoints/{room}' for room in rooms)} (there: {', '.join(known) or 'none'}){suggest(name, known)}"
    )


def find_file(name: str) -> Path | None:
    """A file that ends in .safetensors, whether or not it is there, or a folder that ``save_pretrained`` wrote -> the file; else None."""
    path = Path(name).expanduser()
    if path.suffix == SUFFIX:
        return path
    return path / PRETRAINED if name and is_pretrained(path) else None


def is_pretrained(folder: Path) -> bool:
    """Did ``save_pretrained`` write this folder?"""
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("library_name") == "matcher"


def shipped_checkpoints(room: str = "descriptor") -> list[str]:
    """Bare names of the models in checkpoints/ROOM that come with matcher, sorted."""
    files = (Path(name) for name in shipped_names("checkpoints"))
    return sorted({checkpoint_name(file)[1] for file in files if file.suffix == SUFFIX and file.parent.as_posix() == room})


def read_card(path: str | Path) -> dict[str, Any]:
    """Path of a checkpoint -> its JSON header (class, arguments, preprocessing, training, ...). MatcherError if it has none."""
    return read_header(checkpoint_files(path)[0])


def read_header(file: Path) -> dict[str, Any]:
    """One file of a checkpoint -> its JSON header."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= LONGEST_HEADER else b""
        header = parse_json(parse_json(text)["__metadata__"]["matcher"])
    except OSError as error:
        raise MatcherError(f"cannot read checkpoint {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MatcherError(f"{file} is no checkpoint of matcher: it has no readable header named matcher, or it is cut short") from error
    if not isinstance(header, dict):
        raise MatcherError(f"{file} is no checkpoint of matcher: its header holds {header!s:.40}, not keys and values")
    if lacking := [key for key in HEADER if key not in header]:
        raise MatcherError(f"the header of checkpoint {file} lacks {lacking[0]}")
    if wrong := [key for key, kind in HEADER.items() if not isinstance(header[key], kind)]:
        raise MatcherError(f"the header of checkpoint {file} has {wrong[0]} of the wrong kind: {header[wrong[0]]!s:.40}")
    if lacking := [key for key in ("sha256", "whole") if not isinstance(header["part"].get(key), str)]:
        raise MatcherError(f"the header of checkpoint {file} lacks part.{lacking[0]}")
    return header


def digest(content: bytes) -> str:
    """Bytes of a safetensors file -> sha256 of its tensors, with their names, types and shapes, whatever else its header says."""
    end = 8 + int.from_bytes(content[:8], "little")
    tensors = {name: value for name, value in json.loads(content[8:end]).items() if name != "__metadata__"}
    return hashlib.sha256(json.dumps(tensors, sort_keys=True).encode() + content[end:]).hexdigest()


def digest_all(digests: Sequence[str]) -> str:
    """Digests of all parts in order -> the digest of the checkpoint."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
