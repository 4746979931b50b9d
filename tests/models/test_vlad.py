import cv2
import numpy as np
import pytest
from skimage import data

from matcher.errors import UsageError
from matcher.models import checkpoint
from matcher.models.vlad import ROW, Vlad, gather, learn_vlad, unit


def square(picture, side=128):
    return cv2.resize(picture[..., :3], (side, side), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def model():
    """Two words, learnt from crops of a few pictures."""
    rng = np.random.default_rng(0)
    crops = []
    for n in range(300):
        picture = (data.astronaut(), data.coffee(), data.rocket())[n % 3]
        y, x = (int(rng.integers(0, side - 200)) for side in picture.shape[:2])
        crops.append(square(picture[y : y + 200, x : x + 200]))
    return learn_vlad(crops, words=2, dim=40, size=128, keypoints=100)


def test_residuals_agree_with_a_slow_sum():
    rng = np.random.default_rng(1)
    rows, centroids = unit(rng.random((30, ROW)) ** 4), unit(rng.random((3, ROW)) ** 4)
    sums = np.zeros((3, ROW))
    for row in rows:
        word = min(range(3), key=lambda n: ((row - centroids[n]) ** 2).sum())
        sums[word] += row - centroids[word]
    slow = np.concatenate([one / max(1e-12, np.sqrt((one**2).sum())) for one in sums])  # a word may have no row
    assert np.allclose(gather(rows, centroids), slow / np.sqrt((slow**2).sum()), atol=1e-6)
    assert (gather(rows[:0], centroids) == 0).all()


def test_what_it_learnt_from_is_whitened(model):
    assert model.centroids.shape == (2, ROW) and model.axes.shape == (40, 2 * ROW)
    axes = model.axes.numpy().astype(np.float64)
    across = axes @ axes.T
    assert np.abs(across - np.diag(np.diag(across))).max() < 1e-2 * np.diag(across).min()


def test_copies_are_closer_than_strangers(model):
    pictures = np.stack([square(picture) for picture in (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())])
    copies = np.stack([np.clip(picture.astype(int) * 3 // 4 + 30, 0, 255).astype(np.uint8)[4:-4, 4:-4] for picture in pictures])
    copies = np.stack([square(copy) for copy in copies])
    rows, others = model.describe(copies), model.describe(pictures)
    assert rows.shape == (4, 40) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert ((rows @ others.T).argmax(axis=1) == np.arange(4)).all()
    assert np.isfinite(model.describe(np.zeros((1, 128, 128, 3), dtype=np.uint8))).all() and model.describe(pictures[:0]).shape == (0, 40)


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    checkpoint.save(tmp_path / "v.safetensors", model, {})
    pictures = square(data.chelsea())[None]
    assert np.array_equal(checkpoint.load(tmp_path / "v.safetensors", kind="Vlad").describe(pictures), model.describe(pictures))


def test_too_few_pictures_are_refused():
    with pytest.raises(UsageError, match="need more than 2,048 pictures"):
        learn_vlad([square(data.coffee())] * 3)
    assert Vlad().arguments == {"words": 16, "dim": 256, "size": 256, "keypoints": 400}
