"""Changed pictures -> what models and strategies say of them, as files, numbers and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from targets import Attacked, Target
from torch import Tensor
from torch.nn.functional import interpolate

from matcher import calibrate, fuse, read_strategy, score
from matcher.errors import MatcherError
from matcher.images.decode import load
from matcher.images.table import read_images
from matcher.metrics.csv_file import write_rows
from matcher.settings import ImageSettings
from matcher.stages.ablation_table import markdown
from matcher.storage.records import read_record
from matcher.types import Predictions

Said = dict[str, dict[str, list[bool]]]  # attack -> who judges -> whether it calls each picture a copy


def read(folder: Path, ids: Sequence[str], side: int) -> list[Tensor]:
    """Folder of pictures, and ids -> these pictures, the shorter side at most ``side`` pixels, (3, H, W), 0 to 1."""
    images, _ = read_images(folder, folder.name)
    paths = dict(zip(images.id.tolist(), images.path.tolist(), strict=True))
    if unknown := [id_ for id_ in ids if id_ not in paths]:
        raise MatcherError(f"{folder} has no picture {unknown[0]}")
    return [shrink(torch.from_numpy(load(paths[id_], settings=ImageSettings())).permute(2, 0, 1).float() / 255, side) for id_ in ids]


def shrink(picture: Tensor, side: int) -> Tensor:
    """(3, H, W) -> the same shape of picture with ``side`` pixels along its shorter side; smaller ones stay."""
    scale = side / min(picture.shape[1:])
    if scale >= 1:
        return picture
    size = [max(1, round(scale * length)) for length in picture.shape[1:]]
    return interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def write(made: Mapping[str, Sequence[Tensor]], references: Sequence[Tensor], folder: Path) -> None:
    """Pictures of every attack, and the references -> PNG files, and pairs.csv: copies with their references, strangers likewise."""
    for room, pictures in {**made, "references": references}.items():
        (folder / "pictures" / room).mkdir(parents=True, exist_ok=True)
        for n, picture in enumerate(pictures):
            pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / "pictures" / room / f"{n:03d}.png")
    rows = [[f"{attack}/{n:03d}", f"{n % len(references):03d}"] for attack, pictures in made.items() for n in range(len(pictures))]
    write_rows(folder / "pairs.csv", [["query_id", "reference_id"], *rows])


def judge_all(attacks: Sequence[str], folder: Path, models: Mapping[Target, Attacked], strategies: Sequence[str]) -> Said:
    """Names of attacks whose pictures lie in a folder -> what the attacked models alone, and whole strategies, say of them."""
    said: Said = {attack: {} for attack in attacks}
    for attack in attacks:
        ids = sorted(path.stem for path in (folder / "pictures" / attack).iterdir())
        saved = read(folder / "pictures" / attack, ids, side=10_000)
        with torch.no_grad():
            said[attack] = {name: (model(saved) >= model.threshold).tolist() for name, model in models.items()}
    for name in strategies:
        for attack, copies in judge(name, folder).items():
            said[attack][Path(name).stem] = copies
    return said


def judge(name: str, folder: Path) -> dict[str, list[bool]]:
    """Name of a run file, and the folder -> by attack, whether each picture is a copy with a probability of at least a half."""
    strategy, room = read_strategy([name]), folder / Path(name).stem
    scores = score(folder / "pairs.csv", folder / "pictures", folder / "pictures" / "references", room / "scores", strategy=strategy)
    fused = fuse(scores, room / "fused.parquet", strategy=strategy)
    found = read_record(calibrate(fused, room / "predictions.parquet", strategy=strategy), Predictions)
    said: dict[str, list[bool]] = {}
    probability = dict(zip(found.query_id.tolist(), found.probability.tolist(), strict=True))
    for query in sorted(probability):
        said.setdefault(query.rpartition("/")[0], []).append(probability[query] >= 0.5)
    return said


def tabulate(said: Said, count: int) -> str:
    """What everybody says, of ``count`` copies and then of the strangers -> a table: copies found, and strangers taken for copies."""
    judges = list(next(iter(said.values())))
    rows = []
    for attack, verdicts in said.items():
        found = [np.array(verdicts[judge]) for judge in judges]
        rows.append([attack, *(f"{one[:count].sum()}" for one in found), *(f"{one[count:].sum()}" for one in found)])
    header = ["attacked", *(f"found by {judge}" for judge in judges), *(f"matched by {judge}" for judge in judges)]
    return markdown(header, rows) + f"\nOf {count} copies, and of {count} strangers, each with one reference.\n"
