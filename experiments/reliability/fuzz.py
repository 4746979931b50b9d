"""Hostile files of every kind, by the thousand: which of them get something else than an answer or one of our errors?

    python experiments/reliability/fuzz.py --seconds 120 --seed 0 [--kinds NAME ...] [--output FILE.csv]

Each kind is read in a process of its own, so that a crash of a library is one finding and not the end; memory that one
file may take, and seconds, are bounded and measured. What was found lies in --findings, ready to be read again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from inputs import Kind, kinds

SLOW = 10  # seconds that one file may take
MEMORY = 4 * 2**30  # bytes that a process may take on top of what it has when it begins
GRACE = 120  # seconds that one kind may take to begin and to end


@dataclass
class Tally:
    """What became of the files of one kind."""

    kind: str
    files: int = 0
    read: int = 0
    refused: int = 0
    lost: int = 0  # neither an answer nor one of our errors
    slowest: float = 0.0  # seconds
    megabytes: int = 0  # most that the process grew by
    findings: Counter[str] = field(default_factory=Counter)


class TooSlow(BaseException):
    """One file took longer than it may."""


def fuzz(kind: Kind, *, seconds: float, seed: int, files: int = sys.maxsize, findings: Path | None = None) -> Tally:
    """A kind -> what became of as many files as fit into the seconds; in this process. The same seed gives the same files."""
    from matcher.errors import MatcherError

    warnings.simplefilter("ignore")
    tally, draw, ends = Tally(kind.name), random.Random(f"{seed} {kind.name}"), time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while time.monotonic() < ends and tally.files < files:
        data = kind.make(draw)
        if findings is not None:
            (findings / "last").write_bytes(data)  # a crash leaves it there
        began, said = time.monotonic(), ""
        with TemporaryDirectory() as folder:
            signal.alarm(SLOW)
            try:
                kind.read(data, Path(folder))
                tally.read += 1
            except MatcherError:
                tally.refused += 1
            except TooSlow:
                said = f"more than {SLOW} seconds"
            except (Exception, SystemExit) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/matcher/" in frame.filename]
                where = ours[-1] if ours else where
                said = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:80]!r}"
            finally:
                signal.alarm(0)
        tally.files += 1
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        if said:
            tally.lost += 1
            if findings is not None and said.partition("'")[0] not in tally.findings:
                (findings / f"{kind.name.replace(' ', '-')}-{len(tally.findings)}").write_bytes(data)
            tally.findings[said.partition("'")[0]] += 1
    tally.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return tally


def stop(number: int, frame: object) -> None:
    raise TooSlow


def work(name: str, sender: Connection, seconds: float, seed: int, findings: Path) -> None:
    """One kind in a process of its own, with limits."""
    signal.signal(signal.SIGALRM, stop)
    with TemporaryDirectory() as room:
        kind = next(kind for kind in kinds(Path(room)) if kind.name == name)
        with suppress(Exception, SystemExit), TemporaryDirectory() as first:
            kind.read(kind.make(random.Random(0)), Path(first))  # what it imports is not the first file's time
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        sender.send(fuzz(kind, seconds=seconds, seed=seed, findings=findings))


def in_process(name: str, *, seconds: float, seed: int, findings: Path) -> Tally:
    """Likewise, from outside: a process that dies is one lost file."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work, args=(name, sender, seconds, seed, findings))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds + GRACE):
            return receiver.recv()
        process.kill()
    except EOFError:
        pass
    process.join()
    if (findings / "last").exists():
        (findings / "last").replace(findings / f"{name.replace(' ', '-')}-crash")
    return Tally(name, files=1, lost=1, findings=Counter({f"the process died with {process.exitcode}": 1}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[], help="those whose names begin so; none = all")
    parser.add_argument("--output", type=Path, help="CSV file of the table")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    given = parser.parse_args()
    given.findings.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # a fork waits for ever for OpenMP threads that its parent had
    with TemporaryDirectory() as room:
        names = [kind.name for kind in kinds(Path(room)) if not given.kinds or kind.name.startswith(tuple(given.kinds))]
    tallies = []
    for name in names:
        tally = in_process(name, seconds=given.seconds, seed=given.seed, findings=given.findings)
        tallies.append(tally)
        print(f"{name:28} {tally.files:8,} files, {tally.read:8,} read, {tally.refused:8,} refused, {tally.lost:5,} lost, "
              f"slowest {tally.slowest:.2f} s, {tally.megabytes} MB", flush=True)  # fmt: skip
        for said, count in tally.findings.most_common():
            print(f"    {count:5} {said}", flush=True)
    if given.output:
        columns = [column.name for column in fields(Tally) if column.name != "findings"]
        lines = [",".join(columns), *(",".join(map(str, astuple(tally)[: len(columns)])) for tally in tallies)]
        given.output.write_text("\n".join(lines) + "\n")
    return int(any(tally.lost for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
