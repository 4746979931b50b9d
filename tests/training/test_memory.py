import torch

from matcher.training.memory import Memory


def rows(first, count):
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, 2)


def test_the_oldest_make_room():
    memory = Memory(5, 2)
    for first in (0, 3, 6):
        memory.add(rows(first, 3), torch.arange(first, first + 3))
    assert sorted(memory.source.tolist()) == [4, 5, 6, 7, 8]
    assert torch.equal(memory.rows[:, 0], memory.source.float())


def test_more_than_there_are_places():
    memory = Memory(4, 2)
    memory.add(rows(0, 10), torch.arange(10))
    assert sorted(memory.source.tolist()) == [6, 7, 8, 9]


def test_empty_places_and_own_photos_are_no_negatives():
    memory = Memory(4, 2)
    memory.add(rows(10, 2), torch.tensor([10, 11]))
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # views of the photos 11 and 12
    assert memory.related(shares, torch.tensor([11, 12])).tolist() == [[False, True, True, True], [False, True, True, True]]
    assert memory.related(shares, torch.tensor([20, 10])).tolist() == [[False, False, True, True], [True, False, True, True]]


def test_it_is_part_of_the_state():
    first, second = Memory(4, 2), Memory(4, 2)
    first.add(rows(1, 3), torch.arange(3))
    second.load_state_dict(first.state_dict())
    second.add(rows(7, 2), torch.arange(7, 9))
    assert second.source.tolist() == [8, 1, 2, 7]
