"""Command lines of matcher in processes of their own, which can be killed or given little room, and pictures to run them on."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

# A process that has imported all this waits, and each command is a fork of it: seconds of importing happen once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [f"matcher.stages.{name}" for name in ("collecting", "readiness", "reporting", "running", "scoring", "shortlisting", "predicting")]
    + ["matcher.pipeline", "matcher.cli.main", "matcher.cli.parser", "matcher.cli.show", "matcher.stages.budgeting"]
)
WHOLE = ("part-", "errors-", "predictions")  # names of files whose bytes tell what was found, and no path


@dataclass
class Row:
    """A fault, how often it was tried, and what went wrong."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        self.tried += 1
        if not holds:
            self.lost.append(otherwise)


class Running:
    """A command line that has begun; ``limit``: bytes that none of its files may grow beyond."""

    def __init__(self, words: list[str], limit: int | None = None) -> None:
        self.said, writer = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=obey, args=(words, writer, limit))
        self.process.start()
        writer.close()

    def end(self) -> tuple[int, str]:
        """Wait for it -> exit code (minus the signal, if it was killed), and what it said on stderr."""
        self.process.join()
        said = b""
        while block := os.read(self.said.fileno(), 65_536):
            said += block
        self.said.close()
        return self.process.exitcode or 0, said.decode()

    def kill_after(self, seconds: float) -> bool:
        """kill -9 after so long -> was it still running?"""
        self.process.join(seconds)
        self.process.kill()
        return self.end()[0] == -signal.SIGKILL


def obey(words: list[str], said: Connection, limit: int | None) -> None:
    """In the new process: as `python -m matcher` does, with stages and collections cut into many small parts."""
    from matcher.cli.main import main
    from matcher.stages import collecting, describing, scoring, shortlisting

    describing.SHARD, shortlisting.SHARD, scoring.SHARD, collecting.MOST = 2, 2, 4, 2
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(said.fileno(), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(words))


@dataclass(frozen=True)
class Bench:
    """Pictures to run on; the folder of a run that nothing disturbed, a collection of the references, and the folder of a run on that."""

    room: Path
    run_seconds: float  # what these took
    add_seconds: float

    def run_words(self, output: Path, *more: str, references: Path | None = None) -> list[str]:
        places = ["--references", references or self.room / "references", "--output", output, *more]
        return ["run", "--queries", str(self.room / "queries"), *map(str, places), *MANNER]

    def add_words(self, collection: Path) -> list[str]:
        return ["add", "--references", str(self.room / "references"), "--collection", str(collection), *MANNER]

    def run(self, output: Path, *more: str, references: Path | None = None, limit: int | None = None) -> tuple[int, str]:
        """Exit code, and what was said on stderr."""
        return Running(self.run_words(output, *more, references=references), limit).end()

    def add(self, collection: Path, *, limit: int | None = None) -> tuple[int, str]:
        return Running(self.add_words(collection), limit).end()

    def same(self, output: Path) -> bool:
        """Are the parts of all stages and the predictions those of the undisturbed run, byte for byte?"""
        return contents(output) == contents(self.room / "done")

    def finds_the_same(self, collection: Path, output: Path) -> bool:
        """Does a search of the collection give the bytes that one of an undisturbed collection gives?"""
        shutil.rmtree(output, ignore_errors=True)
        code, _ = self.run(output, references=collection)
        return code == 0 and contents(output) == contents(self.room / "searched")


def is_clear(said: str, name: str) -> bool:
    """Is what was said on stderr one line of ours that names a place in this folder?"""
    lines = [line for line in said.strip().splitlines() if line.startswith("matcher: ")]
    return len(lines) == 1 and name in lines[0] and "unexpected" not in lines[0] and "Traceback" not in said


MANNER = ["--config", "run/keypoints.yaml", "--quiet", "--workers", "1"]


def contents(output: Path) -> dict[str, bytes]:
    """Folder of a run -> its stages and predictions by name; the paths of a scratch folder are in none of them."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name.startswith(WHOLE)]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def make_bench(room: Path, seed: int = 0) -> Bench:
    """Folder -> six references, and six queries of which four are copies, drawn there, with undisturbed runs on them."""
    draw = np.random.default_rng(seed)
    for side in ("queries", "references"):
        (room / side).mkdir()
    for number in range(6):
        picture = draw_scene(draw)
        Image.fromarray(picture).save(room / "references" / f"r{number}.png")
        shown = picture[20:220, 40:300] if number < 4 else draw_scene(draw)
        Image.fromarray(shown).save(room / "queries" / f"q{number}.jpg", quality=85)
    bench, clock = Bench(room, 0, 0), [time.monotonic()]
    for act, output, more in ((bench.run, "done", {}), (bench.add, "added", {}), (bench.run, "searched", {"references": room / "added"})):
        code, said = act(room / output, **more)
        if code:
            raise RuntimeError(said)
        clock.append(time.monotonic())
    return Bench(room, clock[1] - clock[0], clock[2] - clock[1])


def draw_scene(draw: np.random.Generator) -> np.ndarray:
    """RGB (240, 320, 3) with corners at several sizes."""
    picture = np.asarray(
        Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    ).copy()
    for _ in range(60):
        y, x, h, w = draw.integers(0, 225), draw.integers(0, 300), draw.integers(5, 40), draw.integers(5, 50)
        picture[y : y + h, x : x + w] = draw.integers(0, 256, 3)
    return picture
