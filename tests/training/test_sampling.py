from itertools import islice

import pytest
import torch

from matcher.errors import MatcherError
from matcher.training.sampling import Draws, step_seed


def make_draws(weight=None, **more):
    return Draws(torch.ones(20) if weight is None else weight, **{"batch": 6, "others": 4, "seed": 0, **more})


def test_photos_of_a_step_are_different_and_others_are_none_of_them():
    for draw in islice(make_draws(), 50):
        assert len({*draw.rows.tolist(), *draw.others.tolist()}) == 10
        assert draw.rows.shape == (6,) and draw.others.shape == (4,)


def test_a_stream_goes_on_where_it_is_told_to():
    whole = [draw.rows.tolist() for draw in islice(make_draws(), 8)]
    rest = [draw.rows.tolist() for draw in islice(make_draws(first=lambda: 5), 3)]
    assert whole[5:] == rest and len({tuple(rows) for rows in whole}) == 8


def test_draws_that_the_weights_have_had_are_passed_over():
    whole = [draw.rows.tolist() for draw in islice(make_draws(), 8)]
    assert [draw.rows.tolist() for draw in islice(make_draws(past=3), 5)] == whole[3:]
    assert [draw.rows.tolist() for draw in islice(make_draws(past=3, first=lambda: 2), 3)] == whole[5:]


def test_seeds_and_streams_differ():
    seeds = {step_seed(seed, stream, step) for seed in range(3) for stream in range(3) for step in range(50)}
    assert len(seeds) == 450 and all(0 <= seed < 2**63 for seed in seeds)


def test_heavy_photos_come_more_often_and_those_without_weight_never():
    weight = torch.ones(200)
    weight[:10], weight[10:20] = 8.0, 0.0
    counts = torch.zeros(200)
    for draw in islice(make_draws(weight), 600):
        counts[draw.rows] += 1
    assert counts[10:20].sum() == 0
    assert 6.0 < float(counts[:10].mean() / counts[20:].mean()) < 9.0


def test_too_few_photos_are_told():
    with pytest.raises(MatcherError, match=r"6 photos and 4 others to paste, there are only 9: lower data\.batch_size or"):
        make_draws(torch.ones(9))
    with pytest.raises(MatcherError, match=r"6 photos, 4 others to paste and 2 negatives, there are only 11: lower data\.batch_size or"):
        make_draws(torch.ones(11), negatives=2)


def test_a_count_ends_the_stream():
    assert len(list(make_draws(count=3))) == 3


def test_without_negatives_the_draws_are_what_they_always_were():
    plain, more = make_draws().draw(3), make_draws(negatives=2).draw(3)
    assert len(plain.negatives) == 0 and len(more.negatives) == 2
    assert len({*more.rows.tolist(), *more.others.tolist(), *more.negatives.tolist()}) == 12


def test_only_known_photos_are_rows_and_all_others_are_pasted():
    draws = list(islice(make_draws(known=lambda step: 8 if step < 40 else 14), 80))
    assert max(int(draw.rows.max()) for draw in draws[:40]) == 7 and max(int(draw.rows.max()) for draw in draws[40:]) == 13
    assert {row for draw in draws[:40] for row in draw.others.tolist()} >= set(range(8, 20))
    assert all(len({*draw.rows.tolist(), *draw.others.tolist()}) == 10 for draw in draws)


def test_too_few_known_photos_are_told():
    with pytest.raises(MatcherError, match=r"6 photos, and only 5 are known at first: raise the first of data\.known"):
        make_draws(known=lambda step: 5)
