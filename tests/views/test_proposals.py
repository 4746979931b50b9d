import cv2
import numpy as np
import pytest
from skimage import data

from matcher.geometry import to_box
from matcher.settings import ProposalRules
from matcher.views.boxes import overlaps
from matcher.views.proposals import Regions, group, proposal_views, propose, shrink


def best(image, box, **rules):
    """The largest intersection over union of a proposal with the box."""
    views = proposal_views("a", image, rules=ProposalRules(**rules))
    return overlaps(np.array(box), to_box(views.frame)).max(initial=0)


def pasted(below, above, box):
    """A picture with another one squeezed into a box of its unit square."""
    image, (h, w) = below.copy(), below.shape[:2]
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (w, h, w, h), strict=True))
    image[y0:y1, x0:x1] = cv2.resize(above, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return image


@pytest.mark.parametrize("box", [(0.1, 0.1, 0.4, 0.5), (0.55, 0.45, 0.95, 0.95), (0.3, 0.0, 0.7, 0.4)])
def test_a_pasted_picture_is_proposed(box):
    assert best(pasted(data.coffee(), data.astronaut(), box), box) > 0.5


def test_every_part_of_a_collage_is_proposed():
    parts = [cv2.resize(picture, (200, 150)) for picture in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())]
    image = np.full((310, 410, 3), 255, dtype=np.uint8)
    for number, part in enumerate(parts):
        y, x = 160 * (number // 2), 210 * (number % 2)
        image[y : y + 150, x : x + 200] = part
        parts[number] = (x / 410, y / 310, (x + 200) / 410, (y + 150) / 310)
    assert min(best(image, box) for box in parts) > 0.6


def test_proposals_keep_the_rules_and_differ():
    rules = ProposalRules(most=8, least_share=0.03, aspect=2.0, shorter_side=70.0)
    image = data.astronaut()
    views = proposal_views("a", image, rules=rules)
    boxes = to_box(views.frame)
    sides = (boxes[:, 2:] - boxes[:, :2]) * image.shape[1::-1]
    assert 3 <= len(views) <= 8 and set(views.kind.tolist()) == {"proposal"} and set(views.image_id.tolist()) == {"a"}
    assert (boxes >= 0).all() and (boxes <= 1).all() and sides.min() >= 70 and (sides.max(1) <= 2 * sides.min(1)).all()
    assert max(overlaps(box, np.delete(boxes, row, axis=0)).max() for row, box in enumerate(boxes)) <= 0.5
    assert (np.diff(views.confidence) <= 0).all() and views.confidence.min() > 0 and views.confidence.max() < 1


def test_the_same_picture_gives_the_same_bytes():
    first, second = (proposal_views("a", data.chelsea(), rules=ProposalRules()) for _ in range(2))
    assert first.frame.tobytes() == second.frame.tobytes() and first.confidence.tobytes() == second.confidence.tobytes()


def test_a_mirrored_picture_gives_mirrored_boxes():
    image = pasted(np.full((120, 160, 3), 90, dtype=np.uint8), data.astronaut(), (0.1, 0.2, 0.4, 0.8))
    assert best(image[:, ::-1].copy(), (0.6, 0.2, 0.9, 0.8)) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (40, 60)])
def test_nothing_stands_out_of_a_plain_picture(shape):
    assert len(proposal_views("a", np.full((*shape, 3), 77, dtype=np.uint8), rules=ProposalRules())) == 0


def test_confidence_is_fill_times_the_root_of_the_share():
    image = np.full((100, 160, 3), 20, dtype=np.uint8)
    image[20:60, 40:120] = 230
    boxes, confidence = propose(image, side=160)
    around = overlaps(np.array([0.25, 0.2, 0.75, 0.6]), boxes) > 0.9  # the rectangle, and its blurred rim, which fills little of its box
    assert confidence[around].max() == pytest.approx(0.2**0.5, abs=0.03)
    assert (confidence > 0).all() and confidence.max() == 1  # all of the picture


def test_the_most_alike_neighbours_join_first():
    labels = np.repeat([[0, 1, 2, 3]], 20, axis=0).repeat(10, axis=1)
    pixels = np.array([[200, 200, 200], [205, 205, 205], [20, 20, 20], [200, 200, 200]], dtype=np.uint8)[labels]
    boxes, sizes = group(Regions.of(pixels, labels))
    assert boxes.tolist()[:5] == [[0, 0, 10, 20], [10, 0, 20, 20], [20, 0, 30, 20], [30, 0, 40, 20], [0, 0, 20, 20]]
    assert sizes.tolist() == [200, 200, 200, 200, 400, *sizes.tolist()[5:6], 800] and boxes[-1].tolist() == [0, 0, 40, 20]


def test_likeness_is_the_sum_of_four_shares():
    labels = np.zeros((10, 20), dtype=np.int64)
    labels[:, 10:] = 1
    plain = Regions.of(np.full((10, 20, 3), 9, dtype=np.uint8), labels)
    assert plain.likeness(0, np.array([1])) == pytest.approx([1 + 1 + 0 + 1])  # together they are all of the picture and fill it
    halves = np.where(labels[..., None] == 0, 0, 255).astype(np.uint8).repeat(3, axis=2)
    assert Regions.of(halves, labels).likeness(0, np.array([1]))[0] < 2.8  # no shade in common but the two colour channels


def test_small_pictures_are_not_enlarged():
    assert shrink(np.zeros((50, 80, 3), dtype=np.uint8), 160).shape == (50, 80, 3)
    assert shrink(np.zeros((500, 800, 3), dtype=np.uint8), 160).shape == (100, 160, 3)
    assert shrink(np.zeros((1, 900, 3), dtype=np.uint8), 160).shape == (1, 160, 3)
