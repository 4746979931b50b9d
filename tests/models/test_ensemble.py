import numpy as np
import pytest

from matcher.errors import UsageError
from matcher.models.descriptor import Descriptor
from matcher.models.ensemble import Ensemble, ManySizes, at_size, without_colour


def descriptor(size=32, dim=8, seed=0):
    return Descriptor.build("timm:test_vit", size=size, dim=dim, seed=seed).eval()


@pytest.fixture(scope="module")
def members():
    return [descriptor(), descriptor(seed=1), descriptor(size=16, seed=2)]


def pixels(count, size=32):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_similarity_is_the_mean_of_the_members(members):
    together = Ensemble(members, [False, True, False])
    assert together.size == 32 and together.dim == 24
    some = pixels(5)
    rows = together.describe(some)
    alone = [members[0].describe(some), members[1].describe(without_colour(some)), members[2].describe(at_size(some, 16))]
    assert rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows @ rows.T, np.mean([row @ row.T for row in alone], axis=0), atol=1e-5)


def test_a_member_that_sees_grey_is_blind_to_colour(members):
    some = pixels(3)
    assert not np.allclose(members[0].describe(some), members[0].describe(without_colour(some)), atol=1e-3)
    grey = Ensemble(members[:1], [True])
    assert np.allclose(grey.describe(some), grey.describe(without_colour(some)), atol=1e-6)
    assert np.array_equal(without_colour(without_colour(some)), without_colour(some))


def test_smaller_pictures_are_means():
    some = pixels(2)
    means = some.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(at_size(some, 16) - means).max() <= 0.5 and at_size(some, 32) is some


def test_nothing_in_nothing_out(members):
    assert Ensemble(members, [False, True, False]).describe(pixels(0)).shape == (0, 24)


def test_members_have_equally_many_numbers(members):
    with pytest.raises(UsageError, match="equally many numbers, these have 8 and 12"):
        Ensemble([members[0], descriptor(dim=12)], [False, False])


def test_rows_of_several_sizes_are_averaged():
    alone = Descriptor.build("timm:test_efficientnet", size=32, dim=8).eval()
    many = ManySizes(alone, [32, 48])
    assert many.size == 48 and many.dim == 8
    some = pixels(4, size=48)
    rows = alone.describe(at_size(some, 32)) + alone.at_size(48).describe(some)
    assert np.allclose(many.describe(some), rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(UsageError, match="for pictures of 32 pixels, not 48"):
        ManySizes(descriptor(), [32, 48])  # a ViT's positions are weights
