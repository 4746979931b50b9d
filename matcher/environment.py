"""Facts about this installation, from metadata and from other processes: nothing that could be broken is imported here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

# What is told about a module once it is imported: an expression whose value JSON can hold.
FACTS = {
    "torch": "{'cuda_build': torch.version.cuda, 'mps': torch.backends.mps.is_available(), 'gpus': [[p.name, p.total_memory] for p in "
    "map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))] if torch.cuda.is_available() else []}",
    "torchvision": "{'nms': str(torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist())}",
    "cv2": "{'version': cv2.__version__, 'sift': hasattr(cv2, 'SIFT_create')}",
    "faiss": "{'gpus': faiss.get_num_gpus() if hasattr(faiss, 'get_num_gpus') else 0}",
    "numpy": "{}",
    "pyarrow": "{}",
    "sklearn": "{}",
    "PIL.Image": "{}",
}
# One process each; a later module of a row is tried once the earlier ones are in.
PROCESSES = (("torch", "torchvision"), ("cv2",), ("faiss",), ("numpy", "pyarrow", "sklearn", "PIL.Image"))


@dataclass(frozen=True)
class Installed:
    """Distributions by normalised name (``opencv-python``)."""

    versions: Mapping[str, str]
    twice: Mapping[str, list[str]] = field(default_factory=dict)  # versions that lie side by side in one folder
    requires: Mapping[str, list[str]] = field(default_factory=dict)  # the requirement lines of each distribution

    def named(self, pattern: str) -> list[str]:
        """Distributions whose whole name matches, sorted."""
        return sorted(name for name in self.versions if re.fullmatch(pattern, name))


@dataclass(frozen=True)
class Import:
    """What importing a module in a process of its own gave: facts, or the complaint."""

    module: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    complaint: str = ""


def installed() -> Installed:
    """Every distribution that this Python finds; those with unreadable metadata are left out."""
    versions: dict[str, str] = {}
    places: dict[tuple[str, str], list[str]] = {}
    requires: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        name, version = normalised(distribution.metadata["Name"] or ""), distribution.metadata["Version"]
        if not name or not version:
            continue
        places.setdefault((name, str(distribution.locate_file(""))), []).append(version)
        if name not in versions:  # the first one found is the one that is imported
            versions[name], requires[name] = version, distribution.requires or []
    twice = {name: sorted(set(found)) for (name, _), found in places.items() if len(set(found)) > 1}
    return Installed(versions, twice, requires)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unmet(requirements: Sequence[str], versions: Mapping[str, str], *, extra: str = "") -> Iterator[tuple[str, str | None]]:
    """Requirement lines -> (requirement, the version that is there or None) of those that do not hold.

    Without ``extra`` the lines that belong to no extra count, with it only its own.
    """
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requirements):
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not asked or (extra and plain):
            continue
        version = versions.get(normalised(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name}{requirement.specifier}", version


def try_imports(present: Sequence[str], *, seconds: float) -> dict[str, Import]:
    """Names of modules -> what importing them gave, each row of PROCESSES in a process of its own, ``seconds`` long at most."""
    rows = [chosen for row in PROCESSES if (chosen := [module for module in row if module in present])]
    with ThreadPoolExecutor(max_workers=len(rows) or 1) as pool:
        results = pool.map(lambda row: try_row(row, seconds), rows)
    return {found.module: found for found in (found for result in results for found in result)}


def try_row(modules: Sequence[str], seconds: float) -> list[Import]:
    lines = ["import json", *(f"import {name}\nprint(json.dumps(['{name}', {FACTS[name]}]), flush=True)" for name in modules)]
    try:
        done = subprocess.run([sys.executable, "-P", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=seconds)
        output, complaint = done.stdout, last_line(done.stderr, done.returncode)
    except subprocess.TimeoutExpired as late:
        output, complaint = as_text(late.stdout), f"did not finish importing within {seconds:g} s"
    told = dict(json.loads(line) for line in output.splitlines() if line.startswith('["'))
    missing = [module for module in modules if module not in told]
    failed = [Import(missing[0], complaint=complaint)] if missing else []
    return [*(Import(module, facts) for module, facts in told.items()), *failed]


def as_text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def last_line(stderr: str, code: int) -> str:
    """The last line of a traceback; where a process died without one, how."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    if code < 0:
        return f"the process died of signal {-code}"
    return lines[-1].strip() if lines else f"the process ended with code {code}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory that this process may use: the machine's, or its container's if that is less; None if unknown."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        container = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup, or "max"
        return machine
    return min(machine, container)
