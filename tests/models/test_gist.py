import numpy as np
import pytest
from skimage import data

from matcher.models.gist import NUMBERS, Gist, filters


def small(picture):
    side = min(picture.shape[:2]) // 32 * 32
    step = side // 32
    return picture[:side, :side].reshape(32, step, 32, step, 3).mean(axis=(1, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures():
    return np.stack(
        [small(picture) for picture in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.immunohistochemistry())]
    )


def test_a_row_for_every_picture_and_company_changes_nothing(pictures):
    rows = Gist().describe(pictures)
    assert rows.shape == (5, 960) and rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(Gist().describe(pictures[2:3])[0], rows[2], atol=1e-6)
    assert Gist().describe(pictures[:0]).shape == (0, 960)


def test_brighter_noisier_copies_are_closer_than_strangers(pictures):
    rng = np.random.default_rng(0)
    copies = np.clip(pictures * 0.7 + 40 + rng.normal(0, 4, pictures.shape), 0, 255).astype(np.uint8)
    similarity = Gist().describe(copies) @ Gist().describe(pictures).T
    assert (similarity.argmax(axis=1) == np.arange(5)).all()
    strangers = similarity[~np.eye(5, dtype=bool)]
    assert similarity.diagonal().min() > strangers.max()


@pytest.mark.parametrize(("turn", "own"), [(0, 0), (1, 2)])
def test_stripes_answer_to_the_filter_of_their_direction(turn, own):
    """Stripes that vary along x have their energy at direction 0, of the four of the coarsest scale."""
    wave = np.rint(127 + 100 * np.sin(2 * np.pi * 3 * np.arange(32) / 32)).astype(np.uint8)
    picture = np.rot90(np.repeat(np.tile(wave, (32, 1))[..., None], 3, axis=2), turn)
    energy = Gist().describe(picture[None]).reshape(3, 20, 16)[0].mean(axis=1)
    assert energy[16:].argmax() == own


def test_filters_cover_three_scales():
    peaks = [np.unravel_index(band.argmax(), band.shape) for band in filters()]
    assert len(peaks) == 20 and len(set(peaks)) == 20


def test_a_flat_picture_has_no_direction():
    flat = Gist().describe(np.array([0, 128, 200, 255], dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3))
    assert np.allclose(flat, NUMBERS**-0.5)
