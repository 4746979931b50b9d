"""What is installed, what clashes and what to do about it, and which device would be used."""

from __future__ import annotations

import logging
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from matcher.environment import FACTS, Import, Installed, cores, installed, memory_bytes, try_imports, unmet

log = logging.getLogger("matcher")

OPENCV, FAISS = "opencv(-contrib)?-python(-headless)?", "faiss-.+"
TOLD = ["matcher", "torch", "torchvision", "timm", "transformers", "lightning", OPENCV, FAISS, "kornia", "ultralytics"]
TOLD += ["numpy", "pyarrow", "pillow", "scikit-learn", "jsonargparse", "ray"]
DISTRIBUTION = {"cv2": OPENCV, "faiss": FAISS, "PIL.Image": "pillow", "sklearn": "scikit-learn"}
STOLEN = {"lightning": ("2.6.2", "2.6.3")}  # GHSA-w37p-236h-pfx3: these releases on PyPI stole credentials

# (what the complaint of an import says, what to do)
REMEDIES = (
    (
        r"libGL|libgthread|libSM|libXext|libXrender",
        "apt-get install libgl1 libglib2.0-0, or without a display: pip uninstall -y {name}; pip install opencv-python-headless",
    ),
    (
        r"torchvision::|undefined symbol.*(torch|c10)",
        "torch and torchvision do not belong together: pip install --upgrade --force-reinstall 'torch>=2.14' torchvision",
    ),
    (r"_ARRAY_API|NumPy 1\.|dtype size changed|multiarray", "built for another NumPy: pip install --upgrade --force-reinstall {name}"),
    (
        r"libcudart|libcublas|libcuda",
        "the CUDA libraries are missing: install the CUDA runtime, or: pip uninstall -y {name}; pip install faiss-cpu",
    ),
    (r"did not finish", "try again when the machine is idle, or give it longer with --seconds"),
    (r"", "pip install --force-reinstall {name}"),
)


@dataclass(frozen=True)
class Problem:
    """Something that does not work, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """What ``matcher doctor`` found. ``exit_code`` is 1 if there is a problem."""

    versions: dict[str, str]
    extras: dict[str, bool]
    device: dict[str, Any]
    problems: list[Problem]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": not self.problems}

    def __str__(self) -> str:
        lines = [f"{name:<16}{version}" for name, version in self.versions.items()]
        there = [f"{name} {'yes' if complete else 'no'}" for name, complete in self.extras.items()]
        lines += [f"{'extras':<16}{', '.join(there) or 'unknown'}"]
        lines += [f"{'device':<16}{device_text(self.device)}", ""]
        for problem in self.problems:
            lines += [f"problem: {problem.what}", f"     do: {problem.remedy}"]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}" if self.problems else "nothing clashes"])


def doctor(*, seconds: float = 120) -> Diagnosis:
    """What is installed here, what clashes and what to do about it, and which device would be used.

    Args:
        seconds: how long the import of a library may take; each is tried in a process of its own
    """
    found = installed()
    modules = [module for module in FACTS if found.named(DISTRIBUTION.get(module, module))]
    log.info("importing %s", ", ".join(modules))
    imports = try_imports(modules, seconds=seconds)
    return diagnose(found, imports, driver=shutil.which("nvidia-smi") is not None)


def diagnose(found: Installed, imports: Mapping[str, Import], *, driver: bool) -> Diagnosis:
    """Distributions, tried imports and whether an NVIDIA driver is there -> the diagnosis."""
    versions = {"python": platform.python_version()}
    for pattern in TOLD:
        versions |= {name: found.versions[name] for name in found.named(pattern)}
    device = chosen_device(imports)
    problems = [*clashes(found), *unmet_requirements(found), *failed_imports(found, imports)]
    return Diagnosis(versions, extras(found), device, problems, list(notes(found, device, driver)))


def clashes(found: Installed) -> Iterator[Problem]:
    for name, versions in found.twice.items():
        yield Problem(f"{name} is installed {len(versions)} times ({', '.join(versions)})", f"pip uninstall -y {name}; pip install {name}")
    for label, names in (("OpenCV", found.named(OPENCV)), ("faiss", found.named(FAISS))):
        if len(names) > 1:
            what = f"{len(names)} builds of {label} write into the same folder: {', '.join(names)}"
            yield Problem(what, f"pip uninstall -y {' '.join(names)}; pip install {names[0]}")
    for name, bad in STOLEN.items():
        if found.versions.get(name) in bad:
            what = f"{name} {found.versions[name]} is a malicious release that steals credentials"
            yield Problem(
                what, f"pip uninstall -y {name}; pip install '{name}>=2.6.4,<2.7'; renew every password and token of this machine"
            )


def unmet_requirements(found: Installed) -> Iterator[Problem]:
    """What matcher and the libraries that it tells about ask for and do not get."""
    if "packaging" not in found.versions:
        yield Problem("packaging is not installed, so versions cannot be compared", "pip install packaging")
        return
    if not found.named(FAISS):
        yield Problem("faiss is not installed", "pip install faiss-cpu (or faiss-gpu where there is an NVIDIA GPU)")
    for name in (name for pattern in TOLD for name in found.named(pattern)):
        for requirement, version in unmet(found.requires.get(name, []), found.versions):
            if version is None and re.match(OPENCV, requirement) and found.named(OPENCV):
                continue  # any build of OpenCV serves
            have = "is not installed" if version is None else f"is {version}"
            what = re.split(r"[<>=!~]", requirement)[0]
            yield Problem(f"{name} asks for {requirement}, and {what} {have}", f"pip install '{requirement}'")


def failed_imports(found: Installed, imports: Mapping[str, Import]) -> Iterator[Problem]:
    for module, tried in imports.items():
        name = (found.named(DISTRIBUTION.get(module, module)) or [module])[0]
        if tried.complaint:
            remedy = next(text for pattern, text in REMEDIES if re.search(pattern, tried.complaint))
            yield Problem(f"import {module} fails: {tried.complaint}", remedy.format(name=name))
        elif module == "cv2" and not tried.facts.get("sift", True):
            yield Problem(f"OpenCV {tried.facts.get('version')} has no SIFT", f"pip install --upgrade --force-reinstall {name}")


def extras(found: Installed) -> dict[str, bool]:
    """The extras of matcher -> whether everything that they ask for is there."""
    lines = found.requires.get("matcher", [])
    if "packaging" not in found.versions:
        return {}
    named = (re.search(r"""extra\s*==\s*["']([^"']+)""", line) for line in lines)
    return {name: not list(unmet(lines, found.versions, extra=name)) for name in dict.fromkeys(match[1] for match in named if match)}


def chosen_device(imports: Mapping[str, Import]) -> dict[str, Any]:
    """Where torch would compute, and what the machine has."""
    torch = imports["torch"].facts if "torch" in imports else {}
    gpus = [{"name": name, "memory_bytes": memory} for name, memory in torch.get("gpus", [])]
    known = "torch" in imports and not imports["torch"].complaint
    return {
        "kind": "cuda" if gpus else "mps" if torch.get("mps") else "cpu" if known else "unknown",
        "gpus": gpus,
        "faiss_gpus": imports["faiss"].facts.get("gpus", 0) if "faiss" in imports else 0,
        "cores": cores(),
        "memory_bytes": memory_bytes(),
    }


def device_text(device: Mapping[str, Any]) -> str:
    gpus = [f"{gpu['name']} ({gibibytes(gpu['memory_bytes'])})" for gpu in device["gpus"]]
    machine = [f"{device['cores']} cores", f"{gibibytes(device['memory_bytes'])} memory"]
    return ", ".join([device["kind"], *gpus, *machine, f"faiss on {'a' if device['faiss_gpus'] else 'no'} GPU"])


def gibibytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def notes(found: Installed, device: Mapping[str, Any], driver: bool) -> Iterator[str]:
    if driver and not device["gpus"] and "torch" in found.versions:
        yield "an NVIDIA driver is here, but torch finds no GPU: it may be too old for this torch, or torch a build without CUDA"
    if device["gpus"] and not device["faiss_gpus"]:
        yield "torch searches indexes of kind flat and fp16 on the GPU: faiss-gpu instead of faiss-cpu would search ivf and ivfpq there too"
    if "ultralytics" in found.versions:
        yield "ultralytics is installed: its licence is AGPL-3.0"
