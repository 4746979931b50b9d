"""What a checkpoint says of itself: how it was trained, on what, under which licences, from which commit, and how good it is."""

from __future__ import annotations

import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from matcher import __version__
from matcher.data.photo_bank import read_sources
from matcher.shipped import PACKAGE

NOT_STATED = "not stated"


def describe_sources(photos: Path, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The folder of photos and those used -> source: {images, licence}, by the CSV (file, source) and README.md there or beside.

    Photos without a known source count as "unknown".
    """
    rooms = [photos.parent, photos]
    sources = {name: source for name, (_, source) in read_sources(photos).items()}
    licences = {name: text for room in rooms for path in sorted(room.glob("README*")) for name, text in read_licences(path)}
    counts = Counter(sources.get(PurePosixPath(name).name, "unknown") for name in ids)
    return {name: {"images": count, "licence": licences.get(name, NOT_STATED)} for name, count in sorted(counts.items())}


def read_licences(path: Path) -> list[tuple[str, str]]:
    """Markdown file -> (source, licence) of every table whose first column is called source and one licence..."""
    found, place = [], -1
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
        if cells and cells[0].lower() == "source":
            place = next((i for i, cell in enumerate(cells) if cell.lower().startswith("licen")), -1)
        elif not cells:
            place = -1
        elif 0 < place < len(cells) and not re.fullmatch(r"[-: ]+", cells[0]):
            found.append((cells[0], cells[place]))
    return found


def read_commit() -> str:
    """The commit of the checkout that matcher runs from, with "+changes" if files differ; the version if there is no git."""
    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return f"matcher {__version__}"


def git(*words: str) -> str:
    """A git command in the folder of the package -> what it prints."""
    done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def describe_device(device: torch.device) -> str:
    """The device's name, as far as it is known."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
