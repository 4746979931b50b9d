import numpy as np
import pytest
from PIL import Image

from matcher.describe import describe_views
from matcher.images.table import ImageSet
from matcher.models.descriptor import Descriptor
from matcher.settings import DescriptorSettings, ImageSettings
from matcher.views.plan import plan
from matcher.views.render import render

SETTINGS = DescriptorSettings(backbone="timm:test_vit", weights=False, size=32, batch_size=4)
NAMES = ["quarters", "centre", "left+flip"]


@pytest.fixture(scope="module")
def model():
    return Descriptor.from_settings(SETTINGS)


def write(folder, good, bad=()):
    rng = np.random.default_rng(0)
    for name in good:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for name in bad:
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    names = sorted([*good, *bad])
    paths = [folder / f"{name}.png" for name in names]
    stats = [path.stat() for path in paths]
    return ImageSet(id=names, path=[str(path) for path in paths], bytes=[s.st_size for s in stats], mtime_ns=[s.st_mtime_ns for s in stats])


def run(images, model, names=NAMES, batch_size=4):
    settings = DescriptorSettings(backbone=SETTINGS.backbone, weights=False, size=32, batch_size=batch_size)
    return describe_views(images, settings, image_settings=ImageSettings(), names=names, model=model)


def test_every_view_of_every_picture(tmp_path, model):
    images = write(tmp_path, ["a", "b", "c"])
    found, errors = run(images, model)
    views = plan(images.id, NAMES)
    assert len(errors) == 0
    for name in ("image_id", "frame", "kind", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(views, name))
    for row, image_id, frame in zip(found.rows, views.image_id, views.frame, strict=True):
        image = np.asarray(Image.open(tmp_path / f"{image_id}.png"))
        assert np.allclose(row, model.describe(render(image, frame, (32, 32))[None])[0], atol=1e-5)


def test_batches_do_not_change_the_rows(tmp_path, model):
    images = write(tmp_path, ["a", "b", "c"])
    assert all(np.allclose(run(images, model, batch_size=size)[0].rows, run(images, model)[0].rows, atol=1e-5) for size in (1, 5, 100))


def test_a_bad_picture_is_a_row_and_loses_no_other(tmp_path, model):
    images = write(tmp_path, ["a", "c", "d"], bad=["b", "e"])
    found, errors = run(images, model)
    assert sorted(set(found.image_id.tolist())) == ["a", "c", "d"] and len(found) == 3 * 6
    assert errors.id.tolist() == ["b", "e"] and set(errors.stage.tolist()) == {"describe"}
    assert errors.path.tolist() == [str(tmp_path / "b.png"), str(tmp_path / "e.png")]
    assert all(errors.code.tolist()) and all(errors.message.tolist())
    (tmp_path / "c.png").unlink()
    assert "missing" in run(images, model)[1].code.tolist()


def test_nothing_or_nothing_good(tmp_path, model):
    found, errors = run(write(tmp_path, [], bad=["a"]), model)
    assert len(found) == 0 and found.rows.shape == (0, model.dim) and len(errors) == 1
    found, errors = run(ImageSet.empty(), model)
    assert len(found) == 0 and len(errors) == 0
