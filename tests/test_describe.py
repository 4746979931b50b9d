from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from matcher.describe import Looks, describe_views, in_order, load_model, made_by, weights_path
from matcher.errors import MatcherError, UsageError
from matcher.geometry import compose, from_box, to_box, turn
from matcher.images.table import ImageSet
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.models.ensemble import Ensemble, without_colour
from matcher.settings import BoxRules, DescriptorSettings, ImageSettings, ProposalRules
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


class Finder:
    """A detector that finds as many boxes as its table says for the picture's top left level."""

    boxes = (from_box(0.1, 0.1, 0.5, 0.6), from_box(0.5, 0.25, 1.0, 0.75))

    def __init__(self, counts):
        self.counts = counts

    def detect(self, pixels, threshold):
        assert threshold == BoxRules().confidence
        count = self.counts[pixels[0, 0, 0]]
        boxes = np.array([[0.1, 0.1, 0.5, 0.6], [0.5, 0.25, 1.0, 0.75], [0.0, 0.0, 0.3, 0.3]])[[*range(count), 2]]
        return boxes, np.array([0] * count + [1]), np.linspace(0.9, 0.5, count + 1)  # the last one is a sticker


def shades(folder, levels):
    rng = np.random.default_rng(0)
    for level in levels:
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        pixels[0, 0] = level
        Image.fromarray(pixels).save(folder / f"{level}.png")
    paths = [folder / f"{level}.png" for level in levels]
    return ImageSet(
        id=[str(level) for level in levels], path=[str(path) for path in paths], bytes=[1] * len(levels), mtime_ns=[1] * len(levels)
    )


def test_overlays_are_views_and_their_number_differs(tmp_path, model):
    images, counts = shades(tmp_path, [5, 6, 7]), {5: 1, 6: 0, 7: 2}
    found, errors = describe_views(
        images, SETTINGS, image_settings=ImageSettings(), names=["overlays", "whole"], model=model, detector=Finder(counts)
    )
    assert len(errors) == 0 and found.image_id.tolist() == ["5", "5", "6", "7", "7", "7"]
    assert found.kind.tolist() == ["whole", "overlay", "whole", "whole", "overlay", "overlay"]
    assert np.allclose(found.confidence, [1, 0.9, 1, 1, 0.9, 0.7])
    assert np.allclose(found.frame[[1, 4, 5]], [Finder.boxes[0], *Finder.boxes])
    image = np.asarray(Image.open(tmp_path / "7.png"))
    assert np.allclose(found.rows[5], model.describe(render(image, Finder.boxes[1], (32, 32))[None])[0], atol=1e-5)


def test_views_inside_overlays(tmp_path, model):
    found, _ = describe_views(
        shades(tmp_path, [5, 6]),
        SETTINGS,
        image_settings=ImageSettings(),
        names=["overlays", "overlays+turns"],
        model=model,
        detector=Finder({5: 2, 6: 0}),
    )
    kinds = ["overlay", "overlay+turn90", "overlay+turn180", "overlay+turn270"]
    assert found.image_id.tolist() == ["5"] * 8 and found.kind.tolist() == kinds * 2  # the other has no view at all
    assert np.allclose(found.frame[6], compose(Finder.boxes[1], turn(2)))


def test_rules_say_which_overlays_are_looked_at(tmp_path, model):
    images, settings = shades(tmp_path, [5]), replace(SETTINGS, boxes=BoxRules(aspect=1.5))  # 30 x 20 and 24 x 20 of 60 x 40 pixels
    finder = {"names": ["overlays"], "model": model, "detector": Finder({5: 2}), "image_settings": ImageSettings()}
    assert len(describe_views(images, settings, **finder)[0]) == 2
    found, _ = describe_views(images, replace(SETTINGS, boxes=BoxRules(aspect=1.4)), **finder)
    assert np.allclose(found.frame, Finder.boxes[:1])
    assert len(describe_views(images, replace(SETTINGS, boxes=BoxRules(most=0)), **finder)[0]) == 0


def test_proposals_are_views_after_planned_ones_and_overlays(tmp_path, model):
    pixels = np.full((120, 160, 3), 30, dtype=np.uint8)
    pixels[0, 0] = 5
    pixels[30:90, 40:120] = 220
    Image.fromarray(pixels).save(tmp_path / "5.png")
    images = ImageSet(id=["5"], path=[str(tmp_path / "5.png")], bytes=[1], mtime_ns=[1])
    settings = replace(SETTINGS, proposals=ProposalRules(most=1))
    names = ["proposals+turns", "overlays", "proposals", "whole"]
    found, _ = describe_views(images, settings, image_settings=ImageSettings(), names=names, model=model, detector=Finder({5: 1}))
    turned = ["proposal+turn90", "proposal+turn180", "proposal+turn270"]
    assert found.kind.tolist() == ["whole", "overlay", *turned, "proposal"]
    box = from_box(0.25, 0.25, 0.75, 0.75)
    assert np.allclose(to_box(found.frame[2:]), to_box(box), atol=0.02) and np.allclose(found.frame[2], compose(box, turn(1)), atol=0.02)
    assert np.all((found.confidence[2:] > 0.4) & (found.confidence[2:] < 0.6))  # it fills its box, which is half as wide as the picture


@pytest.mark.parametrize("names", [["overlays"], ["whole", "overlays+flip"]])
def test_overlays_without_a_detector_are_refused(names, model):
    with pytest.raises(UsageError, match=r"'overlays' needs a detector: set descriptor\.detector"):
        run(ImageSet.empty(), model, names=names)
    with pytest.raises(UsageError, match="no view named 'flipp'"):
        describe_views(
            ImageSet.empty(), SETTINGS, image_settings=ImageSettings(), names=["overlays+flipp"], model=model, detector=Finder({})
        )


def test_threads_change_nothing(tmp_path, model):
    images = write(tmp_path, list("abcdefgh"), bad=["cc"])
    one, several = (
        describe_views(images, SETTINGS, image_settings=ImageSettings(), names=NAMES, model=model, workers=workers) for workers in (1, 3)
    )
    assert np.array_equal(one[0].rows, several[0].rows) and np.array_equal(one[0].image_id, several[0].image_id)
    assert one[1].id.tolist() == several[1].id.tolist() == ["cc"]


def test_work_comes_back_in_order_and_not_all_at_once():
    begun = []
    results = in_order(lambda n: begun.append(n) or n * n, range(50), workers=2)
    assert next(results) == 0 and len(begun) <= 6
    assert list(results) == [n * n for n in range(1, 50)]


def test_large_pictures_are_decoded_no_larger_than_the_views_need():
    assert Looks.named(["whole", "turns"], SETTINGS).detail(160) == 320
    assert Looks.named(["grid2", "flip"], SETTINGS).detail(160) == 640
    assert Looks.named(["turns45"], SETTINGS).detail(160) == 320 and Looks.named(["turn45"], SETTINGS).detail(160) == 227
    assert Looks.named(["whole", "overlays"], SETTINGS, detector=Finder({})).detail(160) is None
    assert Looks.named(["whole", "proposals"], SETTINGS).detail(160) is None


def test_what_made_the_rows_has_a_name(tmp_path):
    assert (
        len(
            {
                made_by(SETTINGS),
                made_by(replace(SETTINGS, seed=1)),
                made_by(replace(SETTINGS, size=64)),
                made_by(replace(SETTINGS, weights=True)),
            }
        )
        == 4
    )
    assert made_by(replace(SETTINGS, batch_size=9, query_views=["flip"], background="x")) == made_by(SETTINGS)
    names = []
    for seed in (0, 1, 0):
        checkpoint.save(tmp_path / "mine.safetensors", Descriptor.build("timm:test_vit", size=32, dim=8, seed=seed), {})
        names.append(made_by(DescriptorSettings(backbone=str(tmp_path / "mine.safetensors"))))
    assert names[0] == names[2] != names[1] and names[0].startswith("checkpoint ")


def test_folders_of_weights_are_named_by_their_content(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    settings = DescriptorSettings(backbone=str(tmp_path))
    named = [settings, *(replace(settings, backbone=f"{prefix}:{tmp_path}") for prefix in ("transformers", "timm:local-dir", "grey"))]
    before = [made_by(one) for one in named]
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert not set(map(made_by, named)) & set(before)


def test_bare_names_lie_in_the_checkpoints():
    assert weights_path("copydetect", "overlay").parts[-3:] == ("checkpoints", "overlay", "copydetect.safetensors")
    assert str(weights_path("b/c.safetensors", "overlay")) == "b/c.safetensors"
    told = r"background 'copydetec' is neither a file that ends in \.safetensors nor one of .*\); did you mean copydetect\?$"
    with pytest.raises(MatcherError, match=told):
        weights_path("copydetec", "background")


def test_an_ensemble_is_named_by_its_members_and_what_they_see():
    both = replace(SETTINGS, backbone=["timm:test_vit", "grey:timm:test_resnet"])
    alone = [made_by(replace(SETTINGS, backbone=name)) for name in ("timm:test_vit", "timm:test_resnet")]
    assert made_by(both) == f"{alone[0]} beside grey pictures by {alone[1]}"
    assert made_by(replace(SETTINGS, backbone=["timm:test_vit"])) == alone[0]
    assert isinstance(load_model(replace(SETTINGS, backbone=["timm:test_vit"])), Descriptor)
    assert isinstance(load_model(replace(SETTINGS, backbone="grey:timm:test_vit")), Ensemble)
    assert load_model(DescriptorSettings(backbone="gist")).dim == 960 and made_by(DescriptorSettings(backbone="gist")) == "gist"
    many = DescriptorSettings(backbone="timm:test_efficientnet", weights=False, size=32, sizes=[32, 48])
    assert load_model(many).size == 48 and made_by(many) == f"{made_by(replace(many, sizes=None))}, mean of sizes 32 48"
    for name in ("gist", "vlad"):
        with pytest.raises(UsageError, match=rf"descriptor {name} has one size: make descriptor\.sizes null"):
            load_model(DescriptorSettings(backbone=name, sizes=[32, 48]))
    with pytest.raises(UsageError, match="sizes must be sides of 16 pixels at least"):
        replace(many, sizes=[])
    with pytest.raises(UsageError, match="backbone names no descriptor"):
        replace(SETTINGS, backbone=[])


def test_a_grey_member_describes_pictures_without_their_colours(model):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    coloured, grey = model.describe(pixels), model.describe(without_colour(pixels))
    assert not np.allclose(coloured, grey, atol=1e-3)
    alone, both = (load_model(replace(SETTINGS, backbone=name)) for name in ("grey:timm:test_vit", ["timm:test_vit", "grey:timm:test_vit"]))
    assert np.allclose(alone.describe(pixels), grey, atol=1e-5)
    assert np.allclose(both.describe(pixels) * 2**0.5, np.concatenate([coloured, grey], axis=1), atol=1e-5)
