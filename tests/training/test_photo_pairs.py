from types import SimpleNamespace

import pytest
import torch

from matcher.data.photo_bank import PhotoBank
from matcher.errors import MatcherError, UsageError
from matcher.training.photo_pairs import PhotoPairs, resize
from matcher.training.sampling import Draw


@pytest.fixture
def data(make_data):
    """A data module that is set up, as within a training at its middle."""
    data = make_data(side=24)
    module = SimpleNamespace(size=24)
    root = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=1, strategy=root, lightning_module=module, training=True, global_step=5, max_steps=10)
    data.trainer.limit_val_batches = 1.0
    data.setup("fit")
    return data


def test_a_draw_becomes_two_views_of_each_photo(data):
    draw = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(draw, 0)
    assert batch.reference.shape == batch.edited.shape == (4, 3, 24, 24) and torch.equal(batch.source, draw.rows)
    expected = resize(data.bank.pixels[draw.rows], 24)
    assert torch.equal(batch.reference, expected) and not torch.equal(batch.edited, expected)
    assert batch.edited.min() >= 0 and batch.edited.max() <= 1


def test_same_draw_same_views_and_another_seed_others(data):
    draw = next(iter(data.train_dataloader()))
    first, second = (data.on_after_batch_transfer(draw, 0) for _ in range(2))
    other = data.on_after_batch_transfer(draw._replace(seed=draw.seed + 1), 0)
    assert torch.equal(first.edited, second.edited) and not torch.equal(first.edited, other.edited)


def test_the_loader_begins_at_the_step_of_the_trainer(data):
    at_five = next(iter(data.train_dataloader()))
    data.trainer.global_step = 6
    assert next(iter(data.train_dataloader())).seed != at_five.seed
    data.trainer.global_step = 5
    assert next(iter(data.train_dataloader())).seed == at_five.seed


def test_a_training_that_goes_on_from_weights_draws_what_they_have_not_seen(make_data, data):
    longer = make_data(side=24, past=2)
    longer.trainer = SimpleNamespace(**{**vars(data.trainer), "global_step": 3})
    longer.setup("fit")
    assert next(iter(longer.train_dataloader())).seed == next(iter(data.train_dataloader())).seed  # of step 5
    assert [d.seed for d in longer.val_dataloader()] == [d.seed for d in data.val_dataloader()]
    with pytest.raises(UsageError, match="past"):
        make_data(past=-1)


def test_validation_sees_the_same_held_out_photos_each_time(data):
    data.trainer.training = False
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert len(first) == 1 and torch.equal(first[0].rows, second[0].rows)
    batch = data.on_after_batch_transfer(first[0], 0)
    assert torch.equal(batch.reference, resize(data.held_out.pixels[first[0].rows], 24))
    assert not set(data.held_out.ids) & set(data.bank.ids)


def test_reference_recipe_edits_the_reference_too(make_data, data):
    both = make_data(side=24, reference_recipe="benchmark")
    both.trainer = data.trainer
    both.setup("fit")
    draw = next(iter(both.train_dataloader()))
    assert not torch.equal(both.on_after_batch_transfer(draw, 0).reference, resize(both.bank.pixels[draw.rows], 24))


def test_negatives_are_photos_of_nobody_else_only_resized(make_data, data):
    more = make_data(side=24, negatives=2)
    more.trainer = data.trainer
    more.setup("fit")
    draw = next(iter(more.train_dataloader()))
    batch = more.on_after_batch_transfer(draw, 0)
    assert torch.equal(batch.negatives, resize(more.bank.pixels[draw.negatives], 24))
    assert torch.equal(batch.negative_source, draw.negatives) and not set(draw.negatives.tolist()) & set(draw.rows.tolist())


def test_photos_become_known_in_equal_parts_of_the_steps(make_data, data):
    some = make_data(known=[0.4, 0.7, 1.0])
    some.trainer = data.trainer
    some.setup("fit")
    steps, count = data.trainer.max_steps, len(some.bank)
    known = [some.known_at(step) for step in range(steps)]
    assert sorted(set(known)) == [round(0.4 * count), round(0.7 * count), count] and known == sorted(known)
    assert sorted(some.bank.ids) == sorted(data.bank.ids) and some.bank.ids != data.bank.ids  # the first are not those of one source
    assert {data.known_at(step) for step in range(steps)} == {len(data.bank)}


@pytest.mark.parametrize("known", [[], [0.0, 1.0], [0.5, 0.2], [0.5, 1.5]])
def test_shares_that_cannot_be_are_told(make_data, data, known):
    wrong = make_data(known=known)
    wrong.trainer = data.trainer
    with pytest.raises(UsageError, match=r"data\.known must be shares above 0 that grow"):
        wrong.setup("fit")


def test_rows_of_predict_stay_as_they_are(data):
    assert data.on_after_batch_transfer([1, 2], 0) == [1, 2]
    assert not isinstance([1, 2], Draw)


def test_what_cannot_be_is_told(make_data, data):
    with pytest.raises(UsageError, match="batch_size must be at least 2"):
        PhotoPairs("x", batch_size=1)
    large = make_data(batch_size=400)
    large.trainer = data.trainer
    large.setup("fit")
    with pytest.raises(MatcherError, match=r"lower data\.batch_size"):
        large.train_dataloader()
    data.trainer.world_size = 3
    with pytest.raises(UsageError, match=r"data\.batch_size 4 cannot be shared by 3 devices"):
        data.setup("fit")
    data.trainer.world_size = 1
    with pytest.raises(UsageError, match=r"--data\.pictures"):
        data.setup("predict")


def test_resize_keeps_levels():
    pixels = torch.full((1, 3, 40, 40), 128, dtype=torch.uint8)
    assert torch.allclose(resize(pixels, 24), torch.full((1, 3, 24, 24), 128 / 255))
    assert torch.equal(resize(pixels, 40), pixels.float() / 255)


def test_too_few_held_out_photos_are_told_of_before_any_is_decoded(make_data, data, monkeypatch):
    few = make_data(held_out=0.2)
    few.trainer = data.trainer
    with monkeypatch.context() as patch:
        patch.setattr(PhotoBank, "load", None)  # calling it would fail
        with pytest.raises(MatcherError, match=r"3 of the 16 photos of .* are held out, and validation needs 4: raise data\.held_out"):
            few.setup("fit")
    data.trainer.limit_val_batches = 0
    few.setup("fit")
    assert len(few.held_out) == 3
