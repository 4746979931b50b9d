"""How often each family, number and severity is drawn, against what the tables say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from matcher.data.edits import FAMILIES, MIXTURES, draw_recipe, mixture
from matcher.errors import UsageError

DRAWS = 3000


@pytest.fixture(scope="module")
def recipes() -> list[tuple[tuple[str, int], ...]]:
    rng = np.random.default_rng(0)
    return [draw_recipe(rng, MIXTURES["usual"]) for _ in range(DRAWS)]


def assert_share(count: int, total: int, share: float) -> None:
    """A count is within 4.5 standard deviations of what its share makes expect."""
    assert abs(count - total * share) <= 4.5 * np.sqrt(total * share * (1 - share)) + 1


def test_untouched_and_resaved_come_as_often_as_stated(recipes: list[tuple[tuple[str, int], ...]]) -> None:
    mix = MIXTURES["usual"]
    assert_share(sum(not recipe for recipe in recipes), DRAWS, mix.untouched)
    weight = sum(mix.weights[n] for n in ("jpeg", "scale")) / sum(mix.weights.values())
    by_chance = (1 - mix.untouched - mix.resaved) * mix.counts[0] * weight * mix.severities[0]
    assert_share(sum(r in ((("jpeg", 1),), (("scale", 1),)) for r in recipes), DRAWS, mix.resaved + by_chance)


def test_each_family_fires_as_often_as_stated() -> None:
    mix = MIXTURES["hard"]
    rng = np.random.default_rng(1)
    drawn = [recipe for recipe in (draw_recipe(rng, mix) for _ in range(DRAWS)) if recipe]
    first = Counter(recipe[0][0] for recipe in drawn)
    resaved = mix.resaved / (1 - mix.untouched)
    total = sum(weight for _, weight in FAMILIES.values())
    for name, (_, weight) in FAMILIES.items():
        assert_share(first[name], len(drawn), (1 - resaved) * weight / total + (resaved / 2 if name in ("jpeg", "scale") else 0))


def test_numbers_and_severities_come_as_often_as_stated(recipes: list[tuple[tuple[str, int], ...]]) -> None:
    mix = MIXTURES["usual"]
    several = [recipe for recipe in recipes if len(recipe) > 1]
    for number in (2, 3, 4, 5):
        assert_share(sum(len(r) == number for r in several), len(several), mix.counts[number - 1] / sum(mix.counts[1:]))
    severities = Counter(severity for recipe in several for _, severity in recipe)
    for severity in (1, 2, 3):
        assert_share(severities[severity], sum(severities.values()), mix.severities[severity - 1])


def test_no_family_comes_twice(recipes: list[tuple[tuple[str, int], ...]]) -> None:
    assert all(len({name for name, _ in recipe}) == len(recipe) for recipe in recipes)


def test_mixtures_are_sound_and_ordered() -> None:
    for mix in MIXTURES.values():
        assert sum(mix.counts) == pytest.approx(1) and sum(mix.severities) == pytest.approx(1)
        assert 0.05 <= mix.untouched + mix.resaved <= 0.08
    means = [np.dot(mixture(d).counts, np.arange(1, len(mixture(d).counts) + 1)) for d in ("easy", "usual", "hard")]
    assert means == sorted(means)
    with pytest.raises(UsageError, match="easy, usual, hard"):
        mixture("brutal")
