"""A collection in any number of shards finds what its references in one would, and survives what happens to it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from matcher import pipeline
from matcher.errors import MatcherError, StaleStageError
from matcher.index_gpu import sees_gpu
from matcher.pipeline import add, remove, run
from matcher.settings import DescriptorSettings, IndexSettings, ShortlistSettings, SiftSettings, Strategy
from matcher.stages.collection import COLLECTION, Collection
from matcher.stages.job import Job
from matcher.storage.stage import Stage
from matcher.types import Candidates

FEW = {"query_keypoints": SiftSettings(short_side=200, keypoints=160), "reference_keypoints": SiftSettings(short_side=200, keypoints=160)}
GIST = {"descriptor": DescriptorSettings(backbone="gist")}
ADD = """
import sys
from matcher.stages import describing

describing.SHARD = 1
from matcher.cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def strategy_of(kind="flat", **more):
    return Strategy(index=IndexSettings(kind=kind, gpu="no", lists=12, probes=3, bits=64), **{**FEW, **more})


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(workers=1, cache=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def files(library):
    return sorted(library.references.iterdir())


@pytest.fixture
def table(tmp_path):
    """Files of pictures -> a table of them, with a column of the user's own."""

    def write(files):
        path = tmp_path / f"{'-'.join(file.stem for file in files)[:100]}.csv"
        path.write_text("id,path,shelf\n" + "".join(f"{file.stem},{file},{file.stem[0]}\n" for file in files))
        return path

    return write


@pytest.fixture
def searched(library, tmp_path, job):
    """References or a collection -> the bytes of all that a search of them finds."""

    def search(references, strategy):
        output = Path(tmp_path / f"run{len(list(tmp_path.glob('run*')))}")
        run(library.queries, references, output, strategy=strategy, job=job)
        found = [*output.glob("candidates/part-*.parquet"), *output.glob("pair_scores/part-*.parquet"), *output.glob("predictions.*")]
        assert len(found) >= 4
        return {str(path.relative_to(output)): path.read_bytes() for path in found}

    return search


def collect(folder, tables, strategy, job):
    for table in tables:
        assert add(table, folder, strategy=strategy, job=job) == folder
    return folder


@pytest.fixture
def collected(table, files, tmp_path, job):
    """A collection of all references but the last, in two shards."""
    return collect(tmp_path / "collection", [table(files[:5]), table(files[5:11])], strategy_of(), job)


@pytest.mark.parametrize(("kind", "sizes"), [("flat", (12,)), ("flat", (7, 5)), ("flat", (1, 4, 2, 2, 3)), ("fp16", (5, 7))])
def test_shards_find_what_one_would(kind, sizes, files, table, searched, tmp_path, job):
    cuts, strategy = np.cumsum((0, *sizes)), strategy_of(kind)
    parts = [table(files[start:stop]) for start, stop in pairwise(cuts)]
    collection = collect(tmp_path / "collection", parts, strategy, job)
    assert len(Collection.read(collection)) == 12 and len(Collection.read(collection).shards) == len(sizes)
    assert searched(collection, strategy) == searched(table(files), strategy)


@pytest.mark.parametrize(("kind", "on_disk"), [("ivf", False), ("ivfpq", True), ("binary", False), ("words", True)])
def test_shards_that_learnt_together_find_the_same(kind, on_disk, files, table, searched, tmp_path, job):
    settings = IndexSettings(kind=kind, gpu="no", lists=12, probes=3, code_bytes=8, bits=64, on_disk=on_disk)
    strategy = Strategy(index=settings, **FEW)
    first = collect(tmp_path / "first", [table(files[:5])], strategy, job)
    second = shutil.copytree(first, tmp_path / "second")
    collect(first, [table(files[5:])], strategy, job)
    collect(second, [table(files[5:6]), table(files[6:9]), table(files[9:])], strategy, job)
    assert len(Collection.read(second).shards) == 4
    assert searched(first, strategy) == searched(second, strategy)


def test_descriptors_and_thumbnails_meet_over_shards(library, files, table, searched, tmp_path, job):
    strategy = strategy_of(**GIST, shortlist=ShortlistSettings(per_query=0))
    collection = collect(tmp_path / "collection", [table(files[:4]), table(files[4:])], strategy, job)
    found = searched(collection, strategy)
    assert found == searched(table(files), strategy)
    candidates = Stage.load(tmp_path / "run0" / "candidates", Candidates).read()
    assert {"identical", "neighbours"} <= {name for source in candidates.source.tolist() for name in source.split("+")}
    without = strategy_of(shortlist=ShortlistSettings(per_query=0))
    with pytest.raises(MatcherError, match=r"another config.*descriptor"):
        run(library.queries, collect(tmp_path / "bare", [table(files[:2])], without, job), tmp_path / "out", strategy=strategy)


def test_what_is_removed_is_as_if_it_had_never_been_there(files, table, searched, collected, tmp_path, caplog):
    collect(collected, [table(files[11:])], strategy_of(), Job(workers=1))
    gone = [files[1], files[3], *files[11:]]
    (tmp_path / "gone.csv").write_text("id\n" + "".join(f"{file.stem}\n" for file in gone))
    remove(tmp_path / "gone.csv", collected)
    assert [len(shard.removed) for shard in Collection.read(collected).shards] == [2, 0]  # the last one is gone with its only picture
    assert sorted(path.name for path in collected.iterdir()) == ["00000", "00001", COLLECTION]
    assert searched(collected, strategy_of()) == searched(table([file for file in files if file not in gone]), strategy_of())
    before = (collected / COLLECTION).read_bytes()
    remove(tmp_path / "gone.csv", collected)  # once more, as a script may after it was stopped
    assert (collected / COLLECTION).read_bytes() == before
    (tmp_path / "never.csv").write_text("id\nnever there\n")
    with pytest.raises(MatcherError, match=r"no picture with the id 'never there' \(1 of 1 ids\): nothing was removed"):
        remove(tmp_path / "never.csv", collected)
    collect(collected, [table(files)], strategy_of(), Job(workers=1))
    assert f"3 pictures come back that were removed, {min(file.stem for file in gone)} first" in caplog.text
    assert Collection.read(collected).gone == []
    assert len(Collection.read(collected)) == 12 and len(Collection.read(collected).shards) == 3


def test_all_removed(files, collected, library, tmp_path):
    (tmp_path / "all.csv").write_text("id\n" + "".join(f"{file.stem}\n" for file in files[:11]))
    remove(tmp_path / "all.csv", collected)
    with pytest.raises(MatcherError, match="holds no pictures: add some"):
        run(library.queries, collected, tmp_path / "out", strategy=strategy_of())


def test_what_is_there_is_left_and_what_clashes_is_refused(library, files, table, collected, tmp_path, job):
    before = {path: path.stat().st_mtime_ns for path in sorted(collected.rglob("*")) if path.is_file()}
    add(table(files[:11]), collected, strategy=strategy_of(), job=job)
    assert {path: path.stat().st_mtime_ns for path in sorted(collected.rglob("*")) if path.is_file()} == before
    other = tmp_path / "other.csv"
    other.write_text(f"id,path\nnew,{files[11]}\n{files[0].stem},{files[11]}\n")
    with pytest.raises(MatcherError, match=f"another picture with the id '{files[0].stem}'.*remove it first"):
        add(other, collected, strategy=strategy_of(), job=job)
    with pytest.raises(StaleStageError, match=r"index.kind was \"flat\", is now \"fp16\""):
        add(table(files), collected, strategy=strategy_of("fp16"), job=job)
    with pytest.raises(StaleStageError, match=r"keypoints.keypoints was 160, is now"):
        run(library.queries, collected, tmp_path / "out", strategy=strategy_of(reference_keypoints=SiftSettings()))
    with pytest.raises(MatcherError, match="is no collection"):
        remove(other, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in sorted(collected.rglob("*")) if path.is_file()} == before


def test_a_folder_of_pictures_becomes_no_collection(files, table, tmp_path, job, command):
    """A run would search the collection and no longer see the pictures."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.png").write_bytes(files[0].read_bytes())
    with pytest.raises(MatcherError, match=r"photos is no collection and holds 'mine\.png' \(1 such\): name another --collection"):
        add(table(files[:2]), photos, strategy=strategy_of(), job=job)
    assert [path.name for path in photos.iterdir()] == ["mine.png"]


def test_bad_pictures_are_listed_and_tried_again(files, tmp_path, job, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "bad.png").write_bytes(files[1].read_bytes()[:50])
    with pytest.raises(MatcherError, match=r"none of these 1 references can be used: nothing was added, see .*errors\.parquet"):
        add(folder, tmp_path / "collection", strategy=strategy_of(), job=job)
    shutil.copy(files[0], folder / "good.png")
    collection = collect(tmp_path / "collection", [folder], strategy_of(), job)
    assert len(Collection.read(collection)) == 1 and "1 of 2 references cannot be used" in caplog.text
    collect(collection, [folder], strategy_of(), job)
    assert "nothing was added" in caplog.text and len(Collection.read(collection).shards) == 1
    for more in (2, 3):  # it is listed again by every shard
        shutil.copy(files[more], folder / f"good{more}.png")
        assert len(Collection.read(collect(collection, [folder], strategy_of(), job))) == more
        images, _ = Collection.read(collection).images()
        assert sorted(images.id.tolist()) == ["bad", "good", *(f"good{n}" for n in range(2, more + 1))]
    assert len(Collection.read(collection).shards) == 3
    shutil.copy(files[1], folder / "bad.png")
    assert len(Collection.read(collect(collection, [folder], strategy_of(), job))) == 4


@pytest.mark.parametrize("other", [False, True])
def test_killed_while_adding(other, files, table, searched, collected, tmp_path, job):
    before = (collected / COLLECTION).read_bytes()
    new = [tmp_path / f"new{n}{files[n].suffix}" for n in range(4)]
    for file, source in zip(new, files, strict=False):
        shutil.copy(source, file)
    words = ["add", "--config", "run/keypoints.yaml", "--references", table(new), "--collection", collected, "--workers", "1"]
    sizes = (("short_side", 200), ("keypoints", 160))
    settings = [f"--strategy.{side}_keypoints.{name}={n}" for side in ("query", "reference") for name, n in sizes]
    index = ["--strategy.index.kind=flat", "--strategy.index.gpu=no", "--strategy.index.lists=12", "--strategy.index.probes=3"]
    process = subprocess.Popen([sys.executable, "-c", ADD, *map(str, words), *settings, *index], stderr=subprocess.PIPE, text=True)
    part = collected / "00002" / "keypoints" / "part-00001.json"
    while not part.exists():
        assert process.poll() is None, process.stderr.read()
    with pytest.raises(MatcherError, match=f"process {process.pid} is working in"):
        add(table(files), collected, strategy=strategy_of(), job=job)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert (collected / COLLECTION).read_bytes() == before
    (collected / COLLECTION).rename(tmp_path / COLLECTION)  # as if this had been the first `add`
    with pytest.raises(MatcherError, match="is a collection whose first `matcher add` was cut short: give that command again"):
        run(table(files), collected, tmp_path / "out", strategy=strategy_of(), job=job)
    (tmp_path / COLLECTION).rename(collected / COLLECTION)
    kept = part.stat().st_mtime_ns if not other else None
    if other:
        add(table(files[11:]), collected, strategy=strategy_of(), job=job)
        assert searched(collected, strategy_of()) == searched(table(files), strategy_of())
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("matcher.stages.collecting.shutil.rmtree", lambda *_, **__: None)
            add(table(new), collected, strategy=strategy_of(), job=job)
        assert part.stat().st_mtime_ns == kept  # not done again
        assert len(Collection.read(collected)) == 15


def test_a_copied_or_touched_file_is_the_same_picture_and_another_content_of_its_size_is_not(files, tmp_path, job):
    place, table = tmp_path / files[0].name, tmp_path / "table.csv"
    shutil.copy(files[0], place)
    table.write_text(f"id,path\none,{place}\ntwo,{files[1]}\n")
    collection = collect(tmp_path / "collection", [table], strategy_of(), job)
    before = Collection.read(collection).shards
    os.utime(place, ns=(1, 1))
    assert Collection.read(collect(collection, [table], strategy_of(), job)).shards == before
    data = bytearray(place.read_bytes())
    data[-20] ^= 1
    place.write_bytes(data)
    with pytest.raises(MatcherError, match=r"another picture with the id 'one' \(1 such"):
        add(table, collection, strategy=strategy_of(), job=job)


@pytest.mark.parametrize("name", ["index/index.faiss", "keypoints.bin"])
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_a_damaged_shard_is_made_again_as_its_error_says(name, how, command, files, table, collected, library, searched, tmp_path):
    (tmp_path / "gone.csv").write_text(f"id\n{files[8].stem}\n")
    remove(tmp_path / "gone.csv", collected)  # one picture of the shard was removed before
    wanted = searched(collected, strategy_of())
    collected = collected.rename(tmp_path / "the pictures")
    path = collected / "00001" / name
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[-1:]
    else:
        data[9] ^= 1
        data[len(data) * 5 // 6] ^= 1
    path.write_bytes(data)
    if how == "gone":
        path.unlink()
    with pytest.raises(MatcherError, match="cannot read" if how == "gone" and name == "keypoints.bin" else "damaged") as error:
        run(library.queries, collected, tmp_path / "out", strategy=strategy_of())
    words = re.search(
        r" \(matcher (remove --ids .*), then add these pictures again: those removed before come back too\)", str(error.value)
    )[1]
    assert command(*shlex.split(words))[0] == 0
    add(table([*files[:8], *files[9:11]]), collected, strategy=strategy_of(), job=Job(workers=1))
    assert searched(collected, strategy_of()) == wanted


@pytest.mark.parametrize("name", ["keypoints.bin", "pictures.parquet", "index/index.faiss", COLLECTION])
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_damage_is_refused(name, how, collected, library, tmp_path):
    path = collected / ("" if name == COLLECTION else "00001") / name
    data = bytearray(path.read_bytes())
    if how == "cut" or name == COLLECTION:
        del data[len(data) // 2 :]
    else:
        data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(MatcherError, match=r"damaged|no JSON"):
        run(library.queries, collected, tmp_path / "out", strategy=strategy_of())


def test_a_list_of_shards_that_is_lost(collected, library, tmp_path):
    (collected / COLLECTION).write_bytes((collected / COLLECTION).read_bytes()[:-9])
    with pytest.raises(MatcherError, match="no JSON file") as error:
        run(library.queries, collected, tmp_path / "out", strategy=strategy_of())
    assert "put back a copy of it, or add the references to a new collection" in error.value.__notes__[0]


def test_the_device_is_no_part_of_what_a_collection_is(collected, searched):
    strategy = strategy_of()
    assert searched(collected, replace(strategy, index=replace(strategy.index, gpu="auto"))) == searched(collected, strategy)
    if not sees_gpu("flat"):
        with pytest.raises(MatcherError, match=r"index\.gpu is yes, but"):
            searched(collected, replace(strategy, index=replace(strategy.index, gpu="yes")))


def test_pictures_of_a_shard_that_are_not_what_was_written(collected, library, tmp_path):
    place = collected / "00001" / "pictures.parquet"
    for data in (place.read_bytes()[:-9], None):
        place.unlink() if data is None else place.write_bytes(data)
        with pytest.raises(MatcherError, match=r"pictures\.parquet") as error:
            run(library.queries, collected, tmp_path / "out", strategy=strategy_of())
        assert "add its references to a new one" in error.value.__notes__[0]


def test_the_own_columns_come_along(collected, library, files, tmp_path, job):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"query_id,reference_id\ncropped,{files[0].stem}\nhalf,{files[8].stem}\n")
    scored = pipeline.score(pairs, library.queries, collected, tmp_path / "scores", strategy=strategy_of(), job=job)
    from matcher.types import PairScores

    assert Stage.load(scored, PairScores).extra().to_pydict() == {"reference.shelf": [files[0].stem[0], files[8].stem[0]]}


def test_own_columns_of_other_kinds_become_text(library, files, tmp_path, job):
    for n, years in enumerate((pa.array(["1999", "?"]), pa.array([2003, 2004]), None)):
        rows = {"id": [file.stem for file in files[2 * n : 2 * n + 2]], "path": [str(file) for file in files[2 * n : 2 * n + 2]]}
        pq.write_table(pa.table(rows | ({"year": years} if years else {})), tmp_path / f"{n}.parquet")
        add(tmp_path / f"{n}.parquet", tmp_path / "collection", strategy=strategy_of(), job=job)
    assert Collection.read(tmp_path / "collection").images()[1].to_pydict() == {"year": ["1999", "?", "2003", "2004", None, None]}
    run(library.queries, tmp_path / "collection", tmp_path / "out", strategy=strategy_of(), job=job)


def test_too_few_keypoints_for_words_are_refused_at_first(files, tmp_path, job):
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((90, 90, 3), 128, np.uint8)).save(blank)
    strategy, collection = strategy_of("words"), tmp_path / "collection"
    with pytest.raises(MatcherError, match="too few to learn visual words from"):
        add(blank, collection, strategy=strategy, job=job)
    assert len(Collection.read(collect(collection, [files[0].parent], strategy, job))) == len(files)
    assert len(Collection.read(collect(collection, [blank], strategy, job))) == len(files) + 1


def test_the_command_line(command, collected, files, tmp_path):
    (tmp_path / "gone.csv").write_text(f"id\n{files[0].stem}\n")
    assert command("remove", "--ids", tmp_path / "gone.csv", "--collection", collected)[0] == 0
    (tmp_path / "gone.csv").write_text("id\nnever there\n")
    code, _, said = command("remove", "--ids", tmp_path / "gone.csv", "--collection", collected)
    assert code == 1 and "nothing was removed" in said
    (tmp_path / "gone.csv").write_text(f"id\nnever there\n{files[1].stem}\n")
    code, _, said = command("remove", "--ids", tmp_path / "gone.csv", "--collection", collected)
    assert code == 0 and "no picture with the id 'never there' (1 of 2 ids): the others are removed" in said
    assert command("remove", "--ids", tmp_path / "gone.csv", "--collection", tmp_path / "nowhere")[0] == 1
    assert not (tmp_path / "nowhere").exists()
    assert len(Collection.read(collected)) == 9
    assert os.listdir(collected) and command("add", "--collection", collected)[0] == 2
