"""The kinds of files that strangers may send: real ones to begin with, and what reads them in the product."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import as_json, mend_png, mutate, mutate_json
from PIL import Image

EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # turned by a quarter
PIXELS = 4_000_000  # the limit that pictures are held to here, so that a minute has many of them


@dataclass(frozen=True)
class Kind:
    """A name, what makes hostile bytes of a drawing of random numbers, and what reads them (a folder of its own to write them into)."""

    name: str
    make: Callable[[random.Random], bytes]
    read: Callable[[bytes, Path], None]


def scene(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC)


def mutated(originals: list[bytes]) -> Callable[[random.Random], bytes]:
    return lambda draw: mutate(draw.choice(originals), originals, draw)


def pictures() -> Iterator[Kind]:
    """The decoder, with files of every format that it knows."""
    from matcher.images.decode import decode
    from matcher.settings import ImageSettings

    modes = {
        "JPEG": [("RGB", {}), ("RGB", {"progressive": True}), ("CMYK", {}), ("L", {"exif": EXIF})],
        "PNG": [("RGB", {}), ("P", {}), ("RGBA", {}), ("I;16", {}), ("1", {})],
        "GIF": [("P", {}), ("P", {"save_all": True, "append_images": [scene(1).convert("P")]})],
        "WEBP": [("RGB", {}), ("RGBA", {"lossless": True})],
        "BMP": [("RGB", {}), ("P", {}), ("1", {})],
        "TIFF": [("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("L", {"compression": "jpeg"}), ("1", {"compression": "group4"}),
            ("F", {}), ("RGB", {"compression": "tiff_deflate"})],
        "PPM": [("RGB", {}), ("L", {})],
        "AVIF": [("RGB", {}), ("RGBA", {})],
        "JPEG2000": [("RGB", {}), ("L", {"no_jp2": True})],
    }  # fmt: skip
    for name, kinds in modes.items():
        originals = []
        for mode, options in kinds:
            buffer = io.BytesIO()
            scene().convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, name, **options)
            originals.append(buffer.getvalue())

        def make(draw: random.Random, originals: list[bytes] = originals, name: str = name) -> bytes:
            data = mutate(draw.choice(originals), originals, draw)
            return mend_png(data) if name == "PNG" and draw.random() < 0.8 else data

        yield Kind(f"picture {name}", make, lambda data, _: ignore(decode(data, settings=ImageSettings(max_pixels=PIXELS))))


def ignore(_: object) -> None:
    """What was read is not looked at here."""


def tables() -> Iterator[Kind]:
    """Tables of pictures, lists of paths, tables of pairs, records."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from matcher.images.table import read_images
    from matcher.metrics.predicted import ScoredPairs
    from matcher.metrics.truth import GroundTruth
    from matcher.storage.records import read_record
    from matcher.types import Predictions

    rows = {"id": ["a", "b", "007"], "path": ["a.png", "b.png", "../c.png"], "year": ["1", "", "3"], "note": ['x"y', "l\nm", ""]}
    pairs = {"query_id": ["a", "b", "c"], "reference_id": ["r", "", "s"], "score": ["0.5", "1", "0"]}
    for name, columns, readers in (
        ("pictures", rows, [lambda file: read_images(file, "queries")]),
        ("pairs", pairs, [ScoredPairs.read, GroundTruth.read]),
    ):
        text = "\n".join(
            [",".join(columns), *(",".join('"' + v.replace('"', '""') + '"' for v in row) for row in zip(*columns.values(), strict=True))]
        )
        buffer = io.BytesIO()
        pq.write_table(
            pa.table(
                {**columns, **({"score": [0.5, 1.0, 0.0]} if "score" in columns else {"when": [1, 2, None], "tags": [["a"], [], None]})}
            ),
            buffer,
        )
        for suffix, data in ((".csv", text.encode()), (".parquet", buffer.getvalue())):
            originals = [data, b"\xef\xbb\xbf" + data] if suffix == ".csv" else [data]
            yield Kind(f"table of {name} {suffix}", mutated(originals), in_file(f"table{suffix}", *readers))
    yield Kind(
        "list .txt",
        mutated([b"a.png\n../b.png\n# c\n\n/etc/passwd\n", "ü.png\r\nx".encode()]),
        in_file("list.txt", lambda file: read_images(file, "references")),
    )
    yield Kind(
        "record .parquet",
        mutated([record()]),
        in_file("predictions.parquet", lambda file: read_record(file, Predictions), ScoredPairs.read),
    )


def in_file(name: str, *readers: Callable[[Path], Any]) -> Callable[[bytes, Path], None]:
    """A file name and what reads such a file -> the same, given bytes and a folder. Every reader has its turn, errors or not."""

    def read(data: bytes, folder: Path) -> None:
        from matcher.errors import MatcherError

        (folder / name).write_bytes(data)
        refused: MatcherError | None = None
        for reader in readers:
            try:
                reader(folder / name)
            except MatcherError as error:
                refused = error
        if refused is not None:
            raise refused

    return read


def record() -> bytes:
    """Predictions as they lie on disk, without the checksum of the whole, at which readers would stop."""
    from tempfile import TemporaryDirectory

    from matcher.storage.records import write_record
    from matcher.storage.stamp import MARK
    from matcher.types import Predictions

    count = 5
    made = {
        name: np.zeros((count, *[n if isinstance(n, int) else 3 for n in shape]), dtype="U1" if dtype == "text" else dtype)
        for name, dtype, shape in Predictions.columns()
    }
    made |= {"query_id": np.array([f"q{n}" for n in range(count)]), "reference_id": np.array([f"r{n}" for n in range(count)])}
    with TemporaryDirectory() as folder:
        write_record(
            Path(folder) / "p",
            Predictions(**made, evidence={"identical": np.zeros(count, np.float32)}),
            extra={"note": np.array(list("abcde"))},
        )
        return (Path(folder) / "p").read_bytes().replace(MARK, bytes(len(MARK)))


def configs() -> Iterator[Kind]:
    """YAML of strategies, of ablations, of trainings."""
    from matcher.cli.parser import parse
    from matcher.shipped import shipped, shipped_names
    from matcher.stages.strategies import read_strategy

    def texts(room: str) -> list[bytes]:
        return [
            shipped("experiments", name).read_bytes()
            for name in shipped_names("experiments")
            if name.startswith(room) and name.endswith(".yaml")
        ]

    places = ["--queries", "q", "--references", "r", "--output", "o"]
    run = in_file("config.yaml", lambda file: parse("run", ["--config", str(file), *places]), lambda file: read_strategy([str(file)]))
    yield Kind("config of run", mutated_yaml(texts("run/")), run)
    ablate = in_file("config.yaml", lambda file: parse("ablate", ["--config", str(file), *places, "--ground_truth", "t"]))
    yield Kind("config of ablate", mutated_yaml(texts("ablation/")), ablate)
    yield Kind("config of training", mutated_yaml([*texts("descriptor/"), *texts("overlay/")]), in_file("config.yaml", read_training))


def read_training(file: Path) -> None:
    """As `matcher fit` reads it, up to where it would make what it names."""
    from contextlib import redirect_stdout

    from matcher.cli.training import train

    with redirect_stdout(io.StringIO()):
        train("fit", ["--config", str(file), "--data.photos", "p", "--output", str(file.parent), "--print_config"])


def mutated_yaml(originals: list[bytes]) -> Callable[[random.Random], bytes]:
    """YAML files -> one with changed bytes, or with one changed value."""
    import yaml

    def make(draw: random.Random) -> bytes:
        text = draw.choice(originals)
        if draw.random() < 0.5:
            return mutate(text, originals, draw)
        return yaml.safe_dump(mutate_json(yaml.safe_load(text), draw)).encode("utf-8", "replace")

    return make


def models(room: Path) -> Iterator[Kind]:
    """Checkpoints and fusion models; checksums are put right again after half of the changes, as a stranger would."""
    from matcher.fusion import read_fusion, write_fusion
    from matcher.models.checkpoint import load, save
    from matcher.models.descriptor import Descriptor
    from matcher.shipped import shipped
    from matcher.types import PairScores

    save(room / "model.safetensors", Descriptor.build("timm:test_resnet", size=32, dim=8), {"data": {"a": 1}})
    whole = (room / "model.safetensors").read_bytes()

    def forged(draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return mutate(whole, [whole], draw)
        end = 8 + int.from_bytes(whole[:8], "little")
        head = json.loads(whole[8:end])
        told = mutate_json(json.loads(head["__metadata__"]["matcher"]), draw)
        head["__metadata__"]["matcher"] = json.dumps(told)
        text = as_json(head if draw.random() < 0.8 else mutate_json(head, draw))
        return len(text).to_bytes(8, "little") + text + whole[end:]

    yield Kind("checkpoint", forged, in_file("model.safetensors", load))
    fusion = read_fusion(shipped("checkpoints", "fusion/full.json"))
    names = (
        "identical",
        "untouched",
        "sift_support",
        "sift_inlier_ratio",
        "sift_agreeing",
        "descriptor_similarity",
        "pair_logit",
        "pair_mean",
    )
    frames = np.full((1, 3, 3), np.nan)
    scores = PairScores(
        query_id=np.array(["q"]),
        reference_id=np.array(["r"]),
        frame=frames,
        patch_frame=frames,
        evidence={name: np.zeros(1, np.float32) for name in names},
    )
    write_fusion(room / "fusion.json", fusion)
    text = (room / "fusion.json").read_bytes()

    def forged_fusion(draw: random.Random) -> bytes:
        return mutate(text, [text], draw) if draw.random() < 0.3 else as_json(mutate_json(asdict(fusion), draw))

    yield Kind("fusion .json", forged_fusion, in_file("fusion.json", lambda file: read_fusion(file).logit(scores)))


def folders(room: Path) -> Iterator[Kind]:
    """Stages: their manifests and the notes beside their parts; HDF5 of the descriptor track."""
    from matcher.stages.converting import rank
    from matcher.storage.hdf5 import Vectors, read_vectors, write_vectors
    from matcher.storage.stage import Stage
    from matcher.types import Errors

    stage = Stage.open(room / "stage", Errors, config={"a": {"b": 1}}, inputs={"x": "y"}, items=5, items_per_shard=2)
    for number in stage.pending():
        stage.write(number, Errors.of([(f"{number}", "p", "s", "c", "m")]), Errors.of([("e", "p", "s", "c", "m")]))
    del stage
    for name in ("manifest.json", "part-00001.json"):

        def read(data: bytes, folder: Path, name: str = name) -> None:
            shutil.copytree(room / "stage", folder / "stage", dirs_exist_ok=True)
            (folder / "stage" / name).write_bytes(data)
            found = Stage.load(folder / "stage", Errors)
            found.read(), found.errors(), found.extra()

        text = (room / "stage" / name).read_bytes()
        yield Kind(
            f"stage {name}",
            lambda draw, text=text: mutate(text, [text], draw) if draw.random() < 0.4 else as_json(mutate_json(json.loads(text), draw)),
            read,
        )
    sides = [
        Vectors(np.array([f"{side}{n}" for n in range(9)]), np.random.default_rng(n).random((9, 8), dtype=np.float32))
        for n, side in enumerate("QR")
    ]
    write_vectors(room / "vectors.h5", *sides)
    yield Kind(
        "vectors .h5", mutated([(room / "vectors.h5").read_bytes()]), in_file("vectors.h5", lambda file: rank(*read_vectors(file), rows=20))
    )


def kinds(room: Path) -> list[Kind]:
    """All of them; ``room``: a folder for what they begin with."""
    return [*pictures(), *tables(), *configs(), *models(room), *folders(room)]
