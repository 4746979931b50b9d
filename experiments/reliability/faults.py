"""What goes wrong with machines, done to `matcher run` on purpose: is anything lost, or anything wrong?

    python experiments/reliability/faults.py --kills 20 --flips 40 --seed 0 [--output FILE.csv]

Prints a row for each fault: how often it was tried, and how often a byte of the result was lost, wrong, or a refusal unclear.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

# The same command line as `python -m matcher`, with stages cut into many small parts.
START = """
import sys
from matcher.stages import describing, scoring, shortlisting

describing.SHARD, shortlisting.SHARD, scoring.SHARD = 2, 2, 4
from matcher.cli.main import main

sys.exit(main(sys.argv[1:]))
"""
FUTURE = 4_000_000_000  # seconds: the year 2096


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


@dataclass(frozen=True)
class Bench:
    """Pictures to run on, and the folder of a run that nothing disturbed."""

    queries: Path
    references: Path
    done: Path

    def words(self, output: Path, *more: str) -> list[str]:
        places = ["--queries", self.queries, "--references", self.references, "--output", output, "--workers", "1", *more]
        return [sys.executable, "-c", START, "run", "--config", "run/keypoints.yaml", "--quiet", *map(str, places)]

    def start(self, output: Path, *more: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(output, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before, process_group=0
        )

    def run(self, output: Path, *more: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
        """Exit code, and what was said on stderr."""
        process = self.start(output, *more, before=before)
        said = process.communicate()[1]
        return process.returncode, said

    def same(self, output: Path) -> bool:
        """Are the parts of all stages and the predictions those of the undisturbed run, byte for byte?"""
        return contents(output) == contents(self.done)


def contents(output: Path) -> dict[str, bytes]:
    """Folder of a run -> its stages and predictions by name; the paths of a scratch folder are in none of them."""
    files = [path for path in output.rglob("*") if path.is_file() and (path.name.startswith(("part-", "errors-", "predictions")))]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def make_bench(room: Path, seed: int = 0) -> Bench:
    """Folder -> six references, and six queries of which four are copies, drawn there, with an undisturbed run on them."""
    draw = np.random.default_rng(seed)
    for side in ("queries", "references"):
        (room / side).mkdir()
    for number in range(6):
        picture = draw_scene(draw)
        Image.fromarray(picture).save(room / "references" / f"r{number}.png")
        shown = picture[20:220, 40:300] if number < 4 else draw_scene(draw)
        Image.fromarray(shown).save(room / "queries" / f"q{number}.jpg", quality=85)
    bench = Bench(room / "queries", room / "references", room / "done")
    code, said = bench.run(bench.done)
    if code:
        raise RuntimeError(said)
    return bench


def draw_scene(draw: np.random.Generator) -> np.ndarray:
    """RGB (240, 320, 3) with corners at several sizes."""
    picture = np.asarray(
        Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    ).copy()
    for _ in range(60):
        y, x, h, w = draw.integers(0, 225), draw.integers(0, 300), draw.integers(5, 40), draw.integers(5, 50)
        picture[y : y + h, x : x + w] = draw.integers(0, 256, 3)
    return picture


def kills(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """kill -9 at random moments of the whole run, as often as asked; runs that came to their end are compared and begun anew."""
    row, draw, number = Row("kill -9 at a random moment"), random.Random(seed), 0
    began = time.monotonic()
    bench.run(room / "timed")
    takes = time.monotonic() - began
    while row.tried < count:
        output, number = room / f"killed{number}", number + 1
        while row.tried < count:
            process = bench.start(output)
            try:
                process.communicate(timeout=draw.uniform(0.2, 1) * takes)
                break  # it was done before
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                row.tried += 1
        code, said = bench.run(output)
        if code != 0 or not bench.same(output):
            row.lost.append(f"{output.name}: {code} {said}")
    return row


def full_disks(bench: Bench, room: Path) -> Row:
    """Files may not grow beyond a size (RLIMIT_FSIZE): a clear refusal, and once there is room the same bytes."""
    row = Row("no room for a file (RLIMIT_FSIZE)")
    for limit in (0, 200, 5000, 40_000):
        output = room / f"full{limit}"
        code, said = bench.run(output, before=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        row.expect(code == 1 and is_clear(said, str(output)), f"{limit}: {code} {said}")
        code, said = bench.run(output)
        row.expect(code == 0 and bench.same(output), f"{limit}, again: {code} {said}")
    return row


@contextmanager
def small_disk(folder: Path, kilobytes: int, *, options: str = "") -> Iterator[bool]:
    """A folder -> a file system of that size there, within the block; False where this user may mount nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k{options}", "tmpfs", folder], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def small_disks(bench: Bench, room: Path) -> Row:
    """A file system that fills up on the way, and one that is read-only."""
    row = Row("a full, and a read-only, file system (tmpfs)")
    for kilobytes, options in ((16, ""), (200, ""), (600, ""), (4, ",ro")):
        with small_disk(room / "disk", kilobytes, options=options) as mounted:
            if mounted:
                code, said = bench.run(room / "disk" / "out")
                row.expect(code == 1 and is_clear(said, str(room / "disk")), f"{kilobytes}{options}: {code} {said}")
    return row


def flips(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """One changed byte, or a cut, in any file of a finished run: the same predictions in the end, or a refusal that names it."""
    row, draw = Row("a flipped byte or a cut in a file of a run"), random.Random(seed)
    names = [path.relative_to(bench.done) for path in sorted(bench.done.rglob("*")) if path.is_file() and is_kept(path)]
    for number in range(count):
        output, name = room / "flipped", names[number % len(names)]
        shutil.copytree(bench.done, output)
        data = bytearray((output / name).read_bytes())
        at = draw.randrange(len(data))
        if number % 3 == 2:
            del data[at:]
        else:
            data[at] ^= 1 << draw.randrange(8)
        (output / name).write_bytes(data)
        for remade in ("predictions.parquet", "predictions.csv"):
            (output / remade).unlink()
        code, said = bench.run(output)
        kept = code == 0 and all(
            (output / made).read_bytes() == (bench.done / made).read_bytes() for made in ("predictions.parquet", "predictions.csv")
        )
        row.expect(kept or (code == 1 and is_clear(said, str(output))), f"{name} at {at}: {code} {said}")
        shutil.rmtree(output)
    return row


def is_kept(path: Path) -> bool:
    """Does a later run read this file of the folder?"""
    return (
        path.suffix in (".json", ".parquet", ".faiss", ".index")
        and path.name not in ("evaluation.json", "versions.json")
        and not path.name.startswith("pred")
    )


def caches(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """One changed byte in every entry of the cache: the same bytes come out."""
    row, draw, cache = Row("a flipped byte in each entry of the cache"), random.Random(seed), room / "cache"
    bench.run(room / "caching", "--cache", str(cache))
    for number in range(count):
        for file in sorted(cache.rglob("*.npz")):
            data = bytearray(file.read_bytes())
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            file.write_bytes(data)
        output = room / f"cached{number}"
        code, said = bench.run(output, "--cache", str(cache))
        row.expect(code == 0 and bench.same(output), f"{code} {said}")
    return row


def twice(bench: Bench, room: Path) -> Row:
    """Two runs on one output: one does the work, the other is refused or comes after it; two runs on one cache both do."""
    row = Row("two runs at once on one output, on one cache")
    both = [bench.start(room / "twice") for _ in range(2)]
    ends = [(process.communicate()[1], process.returncode) for process in both]
    refused = [said for said, code in ends if code == 1]
    row.expect(all("is working in" in said for said in refused) and bench.same(room / "twice"), str(ends))
    shared = [bench.start(room / f"shared{n}", "--cache", str(room / "shared")) for n in range(2)]
    for number, process in enumerate(shared):
        said = process.communicate()[1]
        row.expect(process.returncode == 0 and bench.same(room / f"shared{number}"), said)
    return row


def clocks(bench: Bench, room: Path) -> Row:
    """Files from the future, as after a clock that went back: nothing is computed again, and nothing refused."""
    row, output = Row("a clock that went back"), room / "clock"
    shutil.copytree(bench.done, output)
    for path in output.rglob("*"):
        os.utime(path, (FUTURE, FUTURE))
    code, said = bench.run(output)
    parts = [path for path in output.rglob("part-*")]
    row.expect(code == 0 and bench.same(output) and all(path.stat().st_mtime == FUTURE for path in parts), f"{code} {said}")
    return row


def is_clear(said: str, name: str) -> bool:
    """Is what was said on stderr one line of ours that names a place in this folder?"""
    lines = [line for line in said.strip().splitlines() if line.startswith("matcher: ")]
    return len(lines) == 1 and name in lines[0] and "unexpected" not in lines[0] and "Traceback" not in said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=40)
    parser.add_argument("--caches", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        room = Path(name)
        bench = make_bench(room, given.seed)
        rows = []
        for suite in (
            lambda: clocks(bench, room),
            lambda: twice(bench, room),
            lambda: full_disks(bench, room),
            lambda: small_disks(bench, room),
            lambda: caches(bench, room, count=given.caches, seed=given.seed),
            lambda: kills(bench, room, count=given.kills, seed=given.seed),
            lambda: flips(bench, room, count=given.flips, seed=given.seed),
        ):
            rows.append(row := suite())
            print(f"{row.fault:48} tried {row.tried:4}, lost {len(row.lost)}", flush=True)
            for told in row.lost:
                print("   ", " ".join(told.split())[:400], flush=True)
    if given.output:
        given.output.write_text("fault,tried,lost\n" + "".join(f"{row.fault!r},{row.tried},{len(row.lost)}\n" for row in rows))
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
