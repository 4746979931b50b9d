from itertools import pairwise

import pytest

from matcher.training.schedule import Growth, learning_rate_share


def test_learning_rate_climbs_then_falls_along_a_cosine():
    shares = [learning_rate_share(step, steps=110, warm_up=10, final=0.1) for step in range(111)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10] == 1.0 and shares[60] == pytest.approx(0.55) and shares[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(shares[10:]))


def test_learning_rate_stays_low_beyond_the_end_and_needs_no_warm_up():
    assert learning_rate_share(500, steps=100, warm_up=0, final=0.01) == pytest.approx(0.01)
    assert learning_rate_share(0, steps=100, warm_up=0, final=0.01) == 1.0


def test_hardness_grows_until_its_end():
    growth = Growth(start=0.2, end=0.8, until=0.5)
    assert [growth.at(share) for share in (0, 0.25, 0.5, 1)] == pytest.approx([0.2, 0.5, 0.8, 0.8])
    assert Growth(start=0.2, end=1.0, until=0).at(0) == 1.0
