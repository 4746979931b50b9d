import re

import numpy as np

from matcher.metrics.ranking import Curve, precision_recall_curve, rank_predictions
from matcher.report.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_curve, draw_path, place


def curve_of(right: list[bool]) -> Curve:
    count = len(right)
    ranking = rank_predictions(np.arange(count), -np.arange(count, dtype=float), right, positives=np.ones(count, dtype=int))
    return precision_recall_curve(ranking)


def test_the_corners_of_the_plot() -> None:
    x, y = place(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert x.tolist() == [LEFT, WIDTH - RIGHT] and y.tolist() == [HEIGHT - BOTTOM, TOP]


def test_the_path_follows_precision_and_recall() -> None:
    numbers = [tuple(map(float, point.split())) for point in draw_path(curve_of([True, False])).removeprefix("M").split("L")]
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert np.allclose(numbers, [(LEFT + wide / 2, TOP), (LEFT + wide / 2, TOP + high / 2)], atol=0.06)


def test_many_predictions_make_a_small_drawing() -> None:
    drawing = str(draw_curve(curve_of([True] * 50 + [False] * 50_000)))
    assert len(drawing) < 20_000 and len(re.findall("L", drawing)) < 1000


def test_nothing_predicted_or_nothing_true_draws_an_empty_plot() -> None:
    nothing = rank_predictions([], [], [], positives=[0, 1])
    untrue = rank_predictions([0], [0.5], [False], positives=[0])
    for ranking in (nothing, untrue):
        assert 'd=""' in draw_curve(precision_recall_curve(ranking))
