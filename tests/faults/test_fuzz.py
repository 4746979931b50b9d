"""A second of hostile files of each kind, the same ones every time; experiments/reliability/fuzz.py is the long version."""

import pytest

FILES = 8
NAMES = (
    *("picture PNG", "picture TIFF", "table of pictures .parquet", "table of pairs .csv", "list .txt"),
    *("record .parquet", "fusion .json", "stage manifest.json", "vectors .h5"),
)


@pytest.fixture(scope="module")
def kinds(script, tmp_path_factory):
    inputs, room = script("inputs"), tmp_path_factory.mktemp("room")
    made = [*inputs.pictures(), *inputs.tables(), *inputs.models(room), *inputs.folders(room)]
    return {kind.name: kind for kind in made}


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_are_read_or_refused(script, kinds, name):
    tally = script("fuzz").fuzz(kinds[name], seconds=60, seed=3, files=FILES)
    assert tally.files == FILES and not tally.findings


def test_a_finding_is_found(script):
    def read(data, folder):
        raise KeyError("x")

    kind = script("inputs").Kind("broken", lambda draw: b"x", read)
    assert script("fuzz").fuzz(kind, seconds=60, seed=0, files=2).lost == 2
