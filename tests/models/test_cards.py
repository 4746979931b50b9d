import pytest
from safetensors.torch import save as as_bytes
from torch import tensor

from matcher.errors import MatcherError, UsageError
from matcher.models import cards, checkpoint
from matcher.models.descriptor import Descriptor


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A house of its own, with one descriptor in several parts among its checkpoints."""
    folder = tmp_path / "checkpoints" / "descriptor"
    folder.mkdir(parents=True)
    model = Descriptor.build("timm:test_resnet", size=32, dim=12)
    checkpoint.save(folder / "small.safetensors", model, {}, split_at=700_000)
    assert len(list(folder.iterdir())) > 1
    (tmp_path / "checkpoints" / "descriptor" / "README.md").write_text("x")
    monkeypatch.setattr("matcher.shipped.shipped_room", lambda kind: tmp_path / kind)
    monkeypatch.setattr(cards, "shipped_room", lambda kind: tmp_path / kind)
    return folder


def test_bare_names_are_looked_up(room):
    assert cards.shipped_checkpoints() == ["small"]
    assert cards.find_checkpoint("small") == room / "small.safetensors"
    with pytest.raises(UsageError, match=r"'large' is neither timm:NAME.*there: small"):
        cards.find_checkpoint("large")


def test_files_and_other_names(room, tmp_path):
    assert cards.find_checkpoint("a/b.safetensors").as_posix() == "a/b.safetensors"
    (tmp_path / "folder").mkdir()
    for other in ("timm:test_vit", "transformers:some/name", str(tmp_path / "folder"), "/no/such/folder", ""):
        assert cards.find_checkpoint(other) is None
    for text, ours in (("{}", False), ("[", False), ("[1]", False), ('{"library_name": "matcher"}', True)):
        (tmp_path / "folder" / "config.json").write_text(text)
        assert cards.is_pretrained(tmp_path / "folder") is ours
    assert cards.find_checkpoint(str(tmp_path / "folder")) == tmp_path / "folder" / "model.safetensors"


def test_models_are_looked_up_in_several_rooms(room, tmp_path):
    for other in ("first", "second"):
        (tmp_path / "checkpoints" / other).mkdir()
        (tmp_path / "checkpoints" / other / "shared.safetensors").touch()
    (tmp_path / "checkpoints" / "second" / "own-00001-of-00002.safetensors").touch()
    rooms = ("first", "second")
    assert cards.shipped_checkpoints("second") == ["own", "shared"]
    assert cards.find_model("own", rooms) == tmp_path / "checkpoints" / "second" / "own.safetensors"
    assert cards.find_model("first/shared", rooms).parent.name == "first"
    assert cards.find_model("a/b.safetensors", rooms).as_posix() == "a/b.safetensors"
    with pytest.raises(UsageError, match="'shared' may be first/shared or second/shared: name it with its folder"):
        cards.find_model("shared", rooms)
    for unknown in ("small", "", "second/none", str(tmp_path)):
        with pytest.raises(
            UsageError, match=r"is neither a file .*checkpoints/first, checkpoints/second \(there: first/shared, second/own"
        ):
            cards.find_model(unknown, rooms)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "config.json").write_text('{"library_name": "matcher"}')
    assert cards.find_model(str(tmp_path / "saved"), rooms) == tmp_path / "saved" / "model.safetensors"


def test_the_digest_follows_the_weights_alone(room):
    def whole(path):
        return cards.read_card(path)["part"]["whole"]

    first = whole(room / "small.safetensors")
    assert first == whole(max(room.glob("small-*.safetensors")))
    for seed, same in ((0, True), (1, False)):
        model = Descriptor.build("timm:test_resnet", size=32, dim=12, seed=seed)
        checkpoint.save(room / "small.safetensors", model, {"data": "other"}, split_at=700_000)
        assert (whole(room / "small.safetensors") == first) is same


def test_files_of_a_checkpoint(tmp_path):
    path = tmp_path / "net-v2.safetensors"
    with pytest.raises(MatcherError, match=r"there is no checkpoint .*net-v2\.safetensors"):
        cards.checkpoint_files(path)
    parts = cards.part_paths(path, 3)
    for part in (*parts, tmp_path / "net-00001-of-00002.safetensors", tmp_path / "net.txt"):
        part.touch()
    assert cards.checkpoint_files(path) == parts == cards.checkpoint_files(parts[1])
    (tmp_path / "net-v2-00001-of-00004.safetensors").touch()
    with pytest.raises(MatcherError, match="does not belong to the 3 parts"):
        cards.checkpoint_files(path)
    path.touch()
    with pytest.raises(MatcherError, match="one file or several"):
        cards.checkpoint_files(path)


def test_the_digest_sees_tensors_and_not_what_is_told_of_them():
    first = cards.digest(as_bytes({"a": tensor([1.0, 2.0]), "b": tensor([3.0])}, {"matcher": "{}"}))
    assert first == cards.digest(as_bytes({"a": tensor([1.0, 2.0]), "b": tensor([3.0])}))
    for other in (
        {"a": tensor([1.0, 2.5]), "b": tensor([3.0])},
        {"c": tensor([1.0, 2.0]), "b": tensor([3.0])},
        {"a": tensor([[1.0, 2.0]])},
    ):
        assert cards.digest(as_bytes(other)) != first
    assert cards.digest_all(["a", "b"]) != cards.digest_all(["b", "a"])
