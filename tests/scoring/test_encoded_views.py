from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from matcher.errors import ImageError, MatcherError
from matcher.geometry import flip, from_box, identity
from matcher.images.decode import content_key, load
from matcher.scoring.encoded_views import AT_ONCE, EncodedViews, View, fill
from matcher.settings import ImageSettings
from matcher.views.render import render

FRAMES = (identity(), flip(), from_box(0.1, 0.2, 0.6, 0.9))


def views_of(painted, names="abcd"):
    return [View(*painted[name], frame) for name in names for frame in FRAMES]


@pytest.fixture
def make(colours):
    def made(model=colours, *, memory=100, folder=None, made_by="m"):
        settings = ImageSettings()
        return EncodedViews(model, made_by=made_by, memory=memory, folder=folder, gate=nullcontext, image_settings=settings)

    return made


def test_a_view_is_what_the_model_makes_of_its_pixels(painted, make, colours):
    kept, views = make(), views_of(painted)
    found = kept.of(views)
    for view in views:
        pixels = render(load(view.path, settings=ImageSettings()), view.frame, (colours.size, colours.size))
        assert np.array_equal(found[kept.key(view)], colours.encode_views(pixels[None])[0])
    assert len({kept.key(view) for view in views}) == len(views) and set(colours.encoded[:2]) == {AT_ONCE}


def test_what_is_remembered_is_not_made_again(painted, make, colours):
    kept, views = make(), views_of(painted)
    first = kept.of(views)
    passes = len(colours.encoded)
    again = kept.of([*views, *views])
    assert len(colours.encoded) == passes == -(-len(views) // AT_ONCE)
    assert first.keys() == again.keys() and all(first[key] is again[key] for key in first)


@pytest.mark.parametrize("memory", [0, 5])
def test_little_memory_forgets_the_oldest_and_gives_all_the_same(painted, make, memory):
    views, kept = views_of(painted), make(memory=memory)
    whole, found = make().of(views), kept.of(views)
    assert whole.keys() == found.keys() and all(np.array_equal(whole[key], found[key]) for key in whole)
    assert len(kept.kept) == memory
    kept.of(views[:1])
    assert (kept.key(views[0]) in kept.kept) is (memory > 0)


def test_the_folder_serves_the_next_run_and_heals(painted, make, colours, tmp_path):
    views = views_of(painted)
    first = make(folder=tmp_path).of(views)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == len(views)
    passes = len(colours.encoded)
    again = make(folder=tmp_path).of(views)
    assert len(colours.encoded) == passes and all(np.array_equal(first[key], again[key]) for key in first)
    good = files[0].read_bytes()
    files[0].write_bytes(good[: len(good) // 2])
    files[1].write_bytes(b"no archive")
    np.savez(files[2], encoded=np.zeros(3))
    healed = make(folder=tmp_path).of(views)
    assert len(colours.encoded) == passes + 1 and all(np.array_equal(first[key], healed[key]) for key in first)
    assert files[0].read_bytes() == good and sorted(tmp_path.rglob("*")) == sorted([*files, *{file.parent for file in files}])
    other = make(folder=tmp_path, made_by="another")
    assert not any(other.place(other.key(view)).exists() for view in views)


def test_a_folder_that_cannot_be_written_is_an_error(painted, make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MatcherError, match="cannot write the cache"):
        make(folder=tmp_path / "file").of(views_of(painted, "a"))


def test_bad_pictures_are_errors_of_their_views_alone(painted, make, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    gone = View(str(tmp_path / "gone.png"), "1234", identity())
    torn = View(str(tmp_path / "torn.png"), painted["a"][1], identity())
    good, kept = View(*painted["b"], identity()), make()
    found = kept.of([gone, good, torn])
    codes = [error.code for view in (gone, torn) if isinstance(error := found[kept.key(view)], ImageError)]
    assert codes == ["missing", "changed"] and not isinstance(found[kept.key(good)], ImageError)


def test_filling_repeats_the_last_row():
    assert fill(np.arange(3), 5).tolist() == [0, 1, 2, 2, 2] and fill(np.arange(5), 5).tolist() == [0, 1, 2, 3, 4]


def test_a_small_view_of_a_large_jpeg_is_cut_from_all_of_its_pixels(make, colours, tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).resize((1024, 1024)).save(path)
    key, small = content_key(path.read_bytes()), from_box(0.4, 0.5, 0.6, 0.7)
    kept, view, whole = make(), View(str(path), key, small), View(str(path), key, identity())
    pixels = render(load(path, settings=ImageSettings()), small, (colours.size, colours.size))
    assert np.array_equal(kept.of([whole, view])[kept.key(view)], colours.encode_views(pixels[None])[0])
    assert [kept.decode(one).shape for one in (view, whole)] == [(1024, 1024, 3), (2 * colours.size, 2 * colours.size, 3)]
