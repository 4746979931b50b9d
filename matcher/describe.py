"""Pictures -> descriptors of their views: planned ones (views.plan), what an overlay detector finds pasted, and regions that stand out."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from matcher.errors import ImageError, MatcherError, UsageError
from matcher.faults import suggest
from matcher.geometry import Array, compose
from matcher.images.decode import load
from matcher.models.cards import find_checkpoint, read_card
from matcher.settings import DescriptorSettings, ImageSettings
from matcher.shipped import shipped, shipped_names
from matcher.types import Descriptors, Errors, Views
from matcher.views.choose import FOUND, OVERLAYS, PROPOSALS
from matcher.views.overlays import find_overlays
from matcher.views.plan import expand, plan
from matcher.views.proposals import proposal_views
from matcher.views.render import Pixels, render_many

if TYPE_CHECKING:  # torch comes with the models, not with this module
    from matcher.images.table import ImageSet
    from matcher.models.descriptor import Descriptor
    from matcher.models.ensemble import Ensemble, ManySizes
    from matcher.models.gist import Gist
    from matcher.models.overlay_yolo import OverlayDetector
    from matcher.models.vlad import Vlad

    Member = Descriptor | ManySizes | Gist | Vlad
    Describer = Member | Ensemble

GIST = "gist"  # the descriptor without weights
GREY = "grey:"  # before the name of a descriptor that is shown pictures without colours
Item = TypeVar("Item")
Result = TypeVar("Result")


def describe_views(
    images: ImageSet,
    settings: DescriptorSettings,
    *,
    image_settings: ImageSettings,
    names: Sequence[str],
    model: Describer,
    detector: OverlayDetector | None = None,
    workers: int = 1,
) -> tuple[Descriptors, Errors]:
    """Pictures (N,) and names of views -> a unit vector for every view of every good picture, and a row for every bad one.

    Views keep the order of the pictures; within one picture the planned ones come first, then overlays, then proposals.
    The views of several pictures go through the model together, ``settings.batch_size`` at a time; ``workers`` threads
    decode and cut, two pictures ahead each. UsageError if the names want a detector and there is none.
    """
    looks = Looks.named(names, settings, detector=detector)
    seen: list[Views] = []
    errors: list[tuple[str, str, str, str, str]] = []

    def look(item: tuple[str, str]) -> tuple[Views, Pixels] | ImageError:
        try:
            return looks.at(*item, side=model.size, image_settings=image_settings)
        except ImageError as error:
            return error

    def cut() -> Iterator[Pixels]:
        items = list(zip(images.id.tolist(), images.path.tolist(), strict=True))
        for (image_id, path), found in zip(items, in_order(look, items, workers=workers), strict=True):
            if isinstance(found, ImageError):
                errors.append((image_id, path, "describe", found.code, str(found)))
            else:
                seen.append(found[0])
                yield from found[1]

    rows = [model.describe(np.stack(batch)) for batch in batches(cut(), settings.batch_size)]
    return gather(Views.concat(seen), np.concatenate(rows) if rows else np.empty((0, model.dim), np.float32)), Errors.of(errors)


@dataclass(frozen=True)
class Looks:
    """How the pictures of one side are looked at: names of planned views, and of views inside each of those that are found."""

    planned: list[str]
    inside: Mapping[str, Mapping[str, Array]]  # "overlays" or "proposals" -> name and frame of every view inside what is found
    settings: DescriptorSettings
    detector: OverlayDetector | None

    @classmethod
    def named(cls, names: Sequence[str], settings: DescriptorSettings, *, detector: OverlayDetector | None = None) -> Looks:
        """Names as in views.plan, "overlays" and "proposals" -> looks. UsageError if a name is unknown or a detector is missing."""
        if isinstance(names, str) or not names:
            expand(names)  # says what is wrong
        if wants(names, OVERLAYS) and detector is None:
            raise UsageError(f"the view {OVERLAYS!r} needs a detector: set descriptor.detector, or leave the view out")
        inside = {found: [name.partition("+")[2] or "whole" for name in names if wants([name], found)] for found in FOUND}
        planned = [name for name in names if not any(wants([name], found) for found in FOUND)]
        if planned:
            expand(planned)
        return cls(planned, {found: expand(parts) for found, parts in inside.items() if parts}, settings, detector)

    def at(self, image_id: str, path: str, *, side: int, image_settings: ImageSettings) -> tuple[Views, Pixels]:
        """A picture -> its views (V,) and their pixels (V, side, side, 3). ImageError."""
        image = load(path, settings=image_settings, at_least=self.detail(side))
        planned = [plan([image_id], self.planned)] if self.planned else []
        views = Views.concat([*planned, *(nested(self.find(found, image_id, image), frames) for found, frames in self.inside.items())])
        return views, render_many(image, views.frame, (side, side))

    def find(self, found: str, image_id: str, image: Pixels) -> Views:
        """The name "overlays" or "proposals", and a picture (H, W, 3) of full size -> what is found there (K,)."""
        if found == PROPOSALS:
            return proposal_views(image_id, image, rules=self.settings.proposals)
        assert self.detector is not None
        return find_overlays(image_id, image, detector=self.detector, rules=self.settings.boxes)

    def detail(self, side: int) -> int | None:
        """Pixels that the shorter side of a picture must keep for every planned view; None = all, for views that are found may be small."""
        if self.inside:
            return None
        frames = np.stack(list(expand(self.planned).values()))
        return math.ceil(2 * side / float(np.linalg.norm(frames[:, :2, :2], axis=1).min()))


def nested(found: Views, inside: Mapping[str, Array]) -> Views:
    """Views that were found (K,), names and frames of views -> each of these inside each of those, (K x inside,)."""
    ends = np.array([f"+{name}" if name != "whole" else "" for name in inside] * len(found), dtype=np.str_)
    frames = [compose(outer, inner) for outer in found.frame for inner in inside.values()]
    return Views(
        image_id=np.repeat(found.image_id, len(inside)),
        frame=np.array(frames).reshape(-1, 3, 3),
        kind=np.strings.add(np.repeat(found.kind, len(inside)), ends),
        confidence=np.repeat(found.confidence, len(inside)),
    )


def wants(names: Sequence[str], found: str) -> bool:
    """Whether one of the names is a view that is found: "overlays" or "proposals"."""
    return any(name.split("+")[0] == found for name in names)


def in_order(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Items -> the function's result for each, in their order, computed on ``workers`` threads that run a little ahead."""
    if workers <= 1:
        yield from map(function, items)
        return
    flying: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="views") as pool:
        for item in items:
            flying.append(pool.submit(function, item))
            if len(flying) > 2 * workers:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items -> lists of ``size`` of them, the last one shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def gather(views: Views, rows: NDArray[np.float32]) -> Descriptors:
    """Views (V,) and their vectors (V, D) -> one record."""
    return Descriptors(image_id=views.image_id, frame=views.frame, kind=views.kind, confidence=views.confidence, rows=rows)


def load_model(settings: DescriptorSettings) -> Describer:
    """Settings -> the descriptor, at one size or several, or the ensemble, on the GPU if there is one."""
    from matcher.models.ensemble import Ensemble

    grey = [name.startswith(GREY) for name in settings.members]
    models = [load_member(name.removeprefix(GREY), settings) for name in settings.members]
    return Ensemble(models, grey) if len(models) > 1 or grey[0] else models[0]


def load_member(name: str, settings: DescriptorSettings) -> Member:
    """Name of one descriptor -> it, at one size or several."""
    from matcher.models import checkpoint
    from matcher.models.descriptor import Descriptor
    from matcher.models.ensemble import ManySizes
    from matcher.models.gist import Gist
    from matcher.models.inference import make_ready
    from matcher.models.vlad import Vlad

    path = None if name == GIST else find_checkpoint(name)
    is_vlad = path is not None and read_card(path)["class"] == Vlad.__name__
    if settings.sizes is not None and (name == GIST or is_vlad):
        raise UsageError(f"descriptor {name} has one size: make descriptor.sizes null")
    if name == GIST:
        return Gist()
    if path is not None and is_vlad:
        vlad = checkpoint.load(path, kind=Vlad.__name__)
        assert isinstance(vlad, Vlad)
        return vlad
    model = Descriptor.from_settings(replace(settings, backbone=name))
    if settings.sizes is None:
        return make_ready(model, model)
    many = ManySizes(model, settings.sizes)
    for member in many.members:
        make_ready(member, member)
    return many


def load_detector(settings: DescriptorSettings, names: Sequence[str]) -> OverlayDetector | None:
    """Settings and names of views -> the detector that the names want, on the GPU if there is one; None if they want none."""
    return find_detector(settings.detector) if wants(names, OVERLAYS) and settings.detector is not None else None


def find_detector(name: str) -> OverlayDetector:
    """A checkpoint file, or the bare name of one in checkpoints/overlay -> the detector, on the GPU if there is one."""
    from matcher.models import checkpoint
    from matcher.models.inference import make_ready
    from matcher.models.overlay_yolo import OverlayDetector

    detector = checkpoint.load(weights_path(name, "overlay"), kind=OverlayDetector.__name__)
    assert isinstance(detector, OverlayDetector)
    return make_ready(detector, detector)


def made_by(settings: DescriptorSettings) -> str:
    """Settings -> what names the numbers that the descriptor gives: a digest where its weights lie in files, else its name and seed."""
    sizes = f", mean of sizes {' '.join(map(str, settings.sizes))}" if settings.sizes else ""
    return " beside ".join(member_made_by(name, settings) for name in settings.members) + sizes


def member_made_by(name: str, settings: DescriptorSettings) -> str:
    """Name of one descriptor -> likewise."""
    if name.startswith(GREY):
        return f"grey pictures by {member_made_by(name.removeprefix(GREY), settings)}"
    if name == GIST:
        return GIST
    if (path := find_checkpoint(name)) is not None:
        return f"checkpoint {card_digest(path)}"
    weights = "trained weights" if settings.weights else f"random weights of seed {settings.seed}"
    folder = Path(name.removeprefix("transformers:").removeprefix("timm:local-dir:")).expanduser()
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
        return f"folder {digest(b''.join(file.read_bytes() for file in files))}, {weights}, size {settings.size}"
    return f"{name}, {weights}, size {settings.size}"


def card_digest(path: Path) -> str:
    """Checkpoint -> a short name for what it computes: its class, arguments, preprocessing and tensors."""
    card = read_card(path)
    told = [card["class"], card["arguments"], card["preprocessing"], card["part"]["whole"]]
    return digest(json.dumps(told, sort_keys=True).encode())


def weights_path(name: str, room: str) -> Path:
    """A safetensors file, whether or not it is there, or the bare name of one in checkpoints/ROOM -> its path.

    MatcherError if there is none of that bare name.
    """
    path = Path(name).expanduser()
    if path.suffix == ".safetensors":
        return path
    known = [Path(file).stem for file in shipped_names("checkpoints") if file.startswith(f"{room}/")]
    if name not in known:
        there = f"one of checkpoints/{room} (there: {', '.join(known) or 'none'})"
        raise MatcherError(f"{room} {name!r} is neither a file that ends in .safetensors nor {there}{suggest(name, known)}")
    return shipped("checkpoints", f"{room}/{name}.safetensors")


def digest(content: bytes) -> str:
    """Bytes -> a short name for them."""
    return hashlib.sha256(content).hexdigest()[:16]
