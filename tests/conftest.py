"""Small sets of real pictures (those inside scikit-image's wheel) and edited copies of them, and a finished run on them."""

import csv
import io
import logging
import runpy
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

LONGEST = 320  # pixels
REFERENCES = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "moon", "page", "retina", "rocket", "text")
STRANGERS = ("ihc", "motorcycle_left", "horse", "cell")
COPIES = {  # query -> the reference that it is an edited copy of
    "cropped": "astronaut",
    "flipped": "chelsea",
    "turned": "coffee",
    "rotated": "camera",
    "pasted": "rocket",
    "darker": "coins",
    "same bytes": "brick",
    "re-saved": "retina",
    "half": "page",
}


@dataclass(frozen=True)
class Library:
    """Folders of pictures, and which query is a copy of which reference."""

    references: Path
    queries: Path
    truth: dict[str, str]

    def write_truth(self, path):
        """CSV of the ground truth; the strangers have an empty reference_id."""
        ids = sorted(file.stem for file in self.queries.iterdir())
        path.write_text("query_id,reference_id\n" + "".join(f"{id_},{self.truth.get(id_, '')}\n" for id_ in ids))
        return path


def read_photo(path):
    """Picture file -> RGB (H, W, 3), at most LONGEST pixels on a side."""
    picture = Image.open(path).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    return np.asarray(picture)


def edited_copies(photos):
    """Photos by name -> the queries of COPIES that need pixels made."""
    height, width = photos["astronaut"].shape[:2]
    side = photos["camera"].shape[0]
    rotation = cv2.getRotationMatrix2D((side / 2, side / 2), 15, 0.9)
    canvas = photos["hubble_deep_field"].copy()
    small = cv2.resize(photos["rocket"], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    canvas[40 : 40 + small.shape[0], 60 : 60 + small.shape[1]] = small
    return {
        "cropped": photos["astronaut"][: height * 2 // 3, width // 5 : width * 4 // 5],
        "flipped": photos["chelsea"][:, ::-1],
        "turned": np.rot90(photos["coffee"]),
        "rotated": cv2.warpAffine(photos["camera"], rotation, (side, side)),
        "pasted": canvas,
        "darker": (photos["coins"] * 0.6).astype(np.uint8),
    }


@pytest.fixture(scope="session")
def photos():
    """Name -> RGB (H, W, 3): photographs, scans and drawings."""
    room = Path(skimage.__file__).parent / "data"
    files = {file.stem: file for file in sorted(room.iterdir()) if file.suffix in (".png", ".jpg")}
    return {name: read_photo(file) for name, file in files.items() if name not in ("chessboard_RGB", "motorcycle_right")}


@pytest.fixture(scope="session")
def pictures():
    """Name -> RGB picture (H, W, 3) uint8 whose longer side has 360 pixels, read-only: photographs with much to hold on to."""
    found = {}
    for name in ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "coins"):
        image = getattr(skimage.data, name)()
        image = np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        scale = 360 / max(image.shape[:2])
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        found[name] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found[name].flags.writeable = False
    return found


@pytest.fixture(scope="session")
def library(photos, tmp_path_factory):
    """Twelve references, and thirteen queries of which nine are copies."""
    folder = tmp_path_factory.mktemp("library")
    references, queries = folder / "references", folder / "queries"
    references.mkdir()
    queries.mkdir()
    for name in REFERENCES:
        Image.fromarray(photos[name]).save(references / f"{name}.png")
    for name, pixels in {**edited_copies(photos), **{name: photos[name] for name in STRANGERS}}.items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(queries / f"{name}.jpg", quality=88)
    (queries / "same bytes.png").write_bytes((references / "brick.png").read_bytes())
    Image.fromarray(photos["retina"]).save(queries / "re-saved.jpg", quality=60)
    page = Image.fromarray(photos["page"])
    page.resize((page.width // 2, page.height // 2)).save(queries / "half.png")
    return Library(references, queries, COPIES)


@pytest.fixture(scope="session")
def small_shards():
    """A context in which stages are cut into so few items that a small set has several parts."""
    from matcher.stages import describing, scoring, shortlisting

    @contextmanager
    def patched():
        with pytest.MonkeyPatch.context() as patch:
            for module, items in ((describing, 3), (shortlisting, 3), (scoring, 8)):
                patch.setattr(module, "SHARD", items)
            yield

    return patched


@pytest.fixture(scope="session")
def finished(library, small_shards, tmp_path_factory):
    """The output folder of an undisturbed run on the library, on one thread, and its summary. Not to be changed."""
    from matcher.pipeline import run
    from matcher.stages.job import Job

    output = tmp_path_factory.mktemp("finished") / "out"
    truth = library.write_truth(output.parent / "truth.csv")
    with small_shards():
        summary = run(library.queries, library.references, output, job=Job(workers=1), ground_truth=truth)
    return output, summary


@pytest.fixture(scope="session")
def prediction_of(finished):
    """(query id, reference id) -> that row of the finished run's predictions."""
    from matcher.storage.records import read_record
    from matcher.types import Predictions

    found = read_record(finished[0] / "predictions.parquet", Predictions)
    pairs = list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True))
    return lambda query, reference: found.take([pairs.index((query, reference))])


@pytest.fixture(scope="session")
def make_hostile():
    """The functions of tests/images/hostile.py by name."""
    return runpy.run_path(str(Path(__file__).parent / "images" / "hostile.py"))


@pytest.fixture
def logger_as_before():
    """Undoes what the command line does to the logger of the package."""
    logger = logging.getLogger("matcher")
    before = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])


@pytest.fixture
def command(capsys, monkeypatch, logger_as_before):
    """Words -> (exit code, stdout, stderr) of the command line in this process."""
    from matcher.cli.main import main

    monkeypatch.delenv("MATCHER_DEBUG", raising=False)

    def run_words(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run_words


@pytest.fixture(scope="session")
def read_rows():
    """CSV file -> its rows as dicts of text."""
    return lambda path: list(csv.DictReader(io.StringIO(Path(path).read_text("utf-8"), newline="")))
