"""What goes wrong with machines, done to `matcher run` and `matcher add` on purpose: is anything lost, or anything wrong?

    python experiments/reliability/faults.py --kills 20 --flips 120 --bytes 300 --seed 0 [--output FILE.csv]

Prints a row for each fault: how often it was tried, and how often a byte of the result was lost, wrong, or a refusal unclear.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flips import flipped_collections, flipped_files, flipped_runs
from runs import Bench, Row, Running, is_clear, make_bench

FUTURE = 4_000_000_000  # seconds: the year 2096


def kills(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """kill -9 at random moments of the whole run, as often as asked; runs that came to their end are compared and begun anew."""
    row = Row("kill -9 at a random moment of a run")
    kill_often(row, bench.run_words, bench.same, room, within=bench.run_seconds, count=count, seed=seed)
    return row


def killed_adds(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """Likewise of `matcher add`: a search of the collection gives the bytes that one of an undisturbed collection gives."""
    row = Row("kill -9 at a random moment of an add")
    is_same = acts(bench, room)[1][2]
    kill_often(row, bench.add_words, is_same, room, within=bench.add_seconds, count=count, seed=seed)
    return row


def kill_often(
    row: Row, words: Callable[[Path], list[str]], is_same: Callable[[Path], bool], room: Path, *, within: float, count: int, seed: int
) -> None:
    """Words for a folder are begun and killed until one comes to its end; the last is let live. Then all is there, and no more."""
    draw, number, killed = random.Random(seed), 0, 0
    while killed < count:
        output, number = room / f"killed{number}", number + 1
        while killed < count and Running(words(output)).kill_after(draw.uniform(0.05, 1) * within):
            killed += 1
        code, said = Running(words(output)).end()
        left = [path.name for path in output.rglob(".*")]
        if code != 0 or left or not is_same(output):
            row.lost.append(f"{output.name}: {code} {said} {left}")
    row.tried = killed


def acts(bench: Bench, room: Path) -> list[tuple[str, Callable[..., tuple[int, str]], Callable[[Path], bool]]]:
    """The verbs that write for hours: name, what begins them, and is the folder that they wrote as it should be?"""
    return [("run", bench.run, bench.same), ("add", bench.add, lambda folder: bench.finds_the_same(folder, room / "found"))]


def full_disks(bench: Bench, room: Path) -> Row:
    """Files may not grow beyond a size (RLIMIT_FSIZE): a clear refusal, and once there is room the same bytes."""
    row = Row("no room for a file (RLIMIT_FSIZE)")
    for limit in (0, 200, 5000, 40_000):
        for verb, act, is_same in acts(bench, room):
            output = room / f"{verb}{limit}"
            code, said = act(output, limit=limit)
            row.expect(code == 1 and is_clear(said, str(output)), f"{verb} {limit}: {code} {said}")
            code, said = act(output)
            row.expect(code == 0 and is_same(output), f"{verb} {limit}, again: {code} {said}")
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
    for kilobytes, options in ((16, ""), (120, ""), (300, ""), (450, ""), (4, ",ro")):
        for verb, act, is_same in acts(bench, room):
            with small_disk(room / "disk", kilobytes, options=options) as mounted:
                if mounted:
                    code, said = act(room / "disk" / "out")
                    clear = code == 1 and is_clear(said, str(room / "disk"))
                    row.expect(clear or (code == 0 and is_same(room / "disk" / "out")), f"{verb} {kilobytes}{options}: {code} {said}")
    return row


def caches(bench: Bench, room: Path, *, count: int, seed: int) -> Row:
    """Two runs at once on one cache, then one changed byte in every entry of it: the same bytes come out."""
    row, draw, cache = Row("two runs on one cache, a flipped byte in each entry"), random.Random(seed), room / "shared"
    shared = [Running(bench.run_words(room / f"shared{n}", "--cache", str(room / "shared"))) for n in range(2)]
    for number, process in enumerate(shared):
        code, said = process.end()
        row.expect(code == 0 and bench.same(room / f"shared{number}"), said)
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
    """Two at once in one folder: one does the work, the other is refused or comes after it."""
    row = Row("two at once on one output, one collection")
    for words, is_same in (
        (bench.run_words(room / "run"), lambda: bench.same(room / "run")),
        (bench.add_words(room / "add"), lambda: bench.finds_the_same(room / "add", room / "found")),
    ):
        ends = [process.end() for process in [Running(words) for _ in range(2)]]
        clear = all(code == 0 or (code == 1 and "is working in" in said) for code, said in ends)
        row.expect(clear and any(code == 0 for code, _ in ends) and is_same(), str(ends))
    return row


def clocks(bench: Bench, room: Path) -> Row:
    """Files from the future, as after a clock that went back: nothing is computed again, and nothing refused."""
    row, output = Row("a clock that went back"), room / "clock"
    shutil.copytree(bench.room / "done", output)
    for path in output.rglob("*"):
        os.utime(path, (FUTURE, FUTURE))
    code, said = bench.run(output)
    parts = [path for path in output.rglob("part-*")]
    row.expect(code == 0 and bench.same(output) and all(path.stat().st_mtime == FUTURE for path in parts), f"{code} {said}")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=120, help="whole runs and searches with a flipped file")
    parser.add_argument("--bytes", type=int, default=300, help="flips of each file that are read in this process")
    parser.add_argument("--caches", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    rows: list[Row] = []
    with TemporaryDirectory() as name:
        bench = make_bench(Path(name), given.seed)
        for number, suite in enumerate(
            (
                lambda room: clocks(bench, room),
                lambda room: twice(bench, room),
                lambda room: full_disks(bench, room),
                lambda room: small_disks(bench, room),
                lambda room: caches(bench, room, count=given.caches, seed=given.seed),
                lambda room: kills(bench, room, count=given.kills, seed=given.seed),
                lambda room: killed_adds(bench, room, count=max(1, given.kills // 2), seed=given.seed),
                lambda room: flipped_runs(bench, room, count=given.flips, seed=given.seed),
                lambda room: flipped_collections(bench, room, count=given.flips // 2, seed=given.seed),
                lambda room: flipped_files(bench, room, count=given.bytes, seed=given.seed),
            )
        ):
            room = bench.room / f"suite{number}"
            room.mkdir()
            rows.append(row := suite(room))
            shutil.rmtree(room)
            print(f"{row.fault:48} tried {row.tried:5}, lost {len(row.lost)}", flush=True)
            for told in row.lost:
                print("   ", " ".join(told.split())[:400], flush=True)
    if given.output:
        given.output.write_text("fault,tried,lost\n" + "".join(f"{row.fault!r},{row.tried},{len(row.lost)}\n" for row in rows))
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
