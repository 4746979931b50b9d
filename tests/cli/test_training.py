"""`matcher fit|validate|test|predict`: what they write, how they go on, what they refuse, and the configs that ship."""

import csv
import fcntl
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import yaml

from matcher.cli.verbs import TRAINING, VERBS
from matcher.errors import MatcherError
from matcher.shipped import shipped, shipped_names

CONFIGS = [
    name
    for name in shipped_names("experiments")
    if name.split("/")[0] in ("descriptor", "overlay", "token_fusion", "concat_vit") and name.endswith(".yaml")
]
SMOKE = "descriptor/smoke.yaml"
BEFORE = {"descriptor/equal.yaml": ["--config", str(shipped("experiments", "descriptor/sscd.yaml"))]}  # differences from another config
SYSTEMS = ["lyakaap", "s_square", "visionforce", "barlow_twins", "sscd"]  # of the descriptor track
TINY = [
    *("--model.backbone", "timm:test_resnet", "--model.weights", "false", "--model.size", "32", "--model.dim", "16"),
    *("--data.batch_size", "2", "--data.others", "4", "--data.bank_side", "48", "--data.held_out", "0.3", "--trainer.max_steps", "1"),
    *("--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"),
]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(28):
        coarse = np.random.default_rng(number).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), cv2.resize(coarse, (60, 50), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture
def smoke(photos, tmp_path):
    """Words of a tiny training, and the folder that it writes."""
    output = tmp_path / "out"
    return ["--config", SMOKE, "--data.photos", str(photos), "--output", str(output)], output


def read_curves(output):
    return [row for path in sorted(output.glob("curves/*/metrics.csv")) for row in csv.DictReader(path.open())]


def test_a_training_writes_everything_and_goes_on(command, smoke, photos):
    from matcher.models.checkpoint import load
    from matcher.storage.records import read_record
    from matcher.types import Descriptors

    words, output = smoke
    code, out, err = command("fit", *words, "--minutes", "0")
    assert (code, out) == (0, "") and "stopped after step 1 of 2; the same command goes on from there" in err
    assert load(output / "model.safetensors").card["training"]["steps"] == 1
    code, _, err = command("fit", *words)
    assert code == 0 and "val_micro_ap" in err, err
    assert {"config.yaml", "curves", "tensorboard", "last.ckpt", "model.safetensors"} <= {path.name for path in output.iterdir()}
    assert [row["step"] for row in read_curves(output) if row["train_loss"]] == ["0", "1"]
    card = load(output / "model.safetensors", kind="Descriptor").card
    assert card["training"]["steps"] == 2 and card["training"]["config"]["model"]["init_args"]["size"] == 32
    assert 0 <= card["numbers"]["val_micro_ap"] <= 1 and card["numbers"]["at_step"] == 2
    assert card["data"]["sources"] == {"unknown": {"images": 20, "licence": "not stated"}} and card["data"]["held_out"] == 8
    assert card["licences"] == ["not stated"] and card["commit"]

    code, _, err = command("fit", *words, "--model.loss.temperature", "0.5")
    assert code == 2 and "was begun with another model.init_args.loss.temperature" in err and "--fresh" in err
    code, _, err = command("predict", *words)
    assert code == 2 and "--data.pictures" in err
    code, _, err = command("predict", *words, "--data.pictures", photos)
    found = read_record(output / "descriptors.parquet", Descriptors)
    assert code == 0 and found.rows.shape == (28, 16) and found.kind.tolist() == ["whole"] * 28
    code, _, err = command("validate", *words)
    assert code == 0 and f"val_micro_ap {card['numbers']['val_micro_ap']:.3f}" in err


def test_a_fresh_training_that_is_killed_before_it_saves_leaves_no_old_one_to_go_on_from(command, smoke, monkeypatch):
    from matcher.training.photo_pairs import PhotoPairs

    def killed(*_):
        raise MatcherError("killed")

    words, output = smoke
    assert command("fit", *words, "--minutes", "0")[0] == 0
    before = [(output / name).read_bytes() for name in ("config.yaml", "last.ckpt")]
    anew = [*words, "--model.loss.temperature", "0.5"]
    assert command("fit", *anew, "--fresh", "--data.batch_size", "1")[0] == 2
    assert [(output / name).read_bytes() for name in ("config.yaml", "last.ckpt")] == before
    with monkeypatch.context() as patch:
        patch.setattr(PhotoPairs, "setup", killed)
        code, _, err = command("fit", *anew, "--fresh")
    assert code == 1 and "killed" in err
    assert command("fit", *anew, "--minutes", "0")[0] == 0
    assert [row["step"] for row in read_curves(output) if row["train_loss"]] == ["0", "0"]  # of the old one, of the new one


def test_a_training_that_was_ended_before_it_wrote_its_weights_writes_them_when_it_is_started_again(command, smoke):
    from matcher.models.checkpoint import load

    words, output = smoke
    assert command("fit", *words)[0] == 0
    written = load(output / "model.safetensors")
    (output / "model.safetensors").unlink()
    code, _, err = command("fit", *words)
    again = load(output / "model.safetensors")
    assert code == 0 and "model.safetensors (step 2 of 2)" in err
    assert again.card["training"]["steps"] == 2 and again.card["numbers"] == written.card["numbers"]
    assert all((value == written.state_dict()[name]).all() for name, value in again.state_dict().items())
    before = (output / "model.safetensors").stat().st_mtime_ns
    code, _, err = command("fit", *words)
    assert code == 0 and "is of step 2 of 2 already" in err and (output / "model.safetensors").stat().st_mtime_ns == before


def test_photos_that_came_or_went_are_noticed(command, smoke, photos, tmp_path):
    words, _ = smoke
    mine = shutil.copytree(photos, tmp_path / "mine")
    words = [*words, "--data.photos", str(mine)]
    assert command("fit", *words, "--minutes", "0")[0] == 0
    (mine / "07.png").rename(mine / "7.png")
    code, _, err = command("fit", *words)
    assert code == 1 and "holds 28 photos that this training did not begin with (28 then): put the same back, or say --fresh" in err
    assert command("validate", *words)[0] == 0
    (mine / "7.png").rename(mine / "07.png")
    assert command("fit", *words)[0] == 0


def test_one_training_works_in_a_folder_at_a_time(command, smoke):
    words, output = smoke
    output.mkdir()
    with (output / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        code, _, err = command("fit", *words)
    assert code == 1 and f"process 4711 is working in {output}" in err and not (output / "config.yaml").exists()


@pytest.mark.parametrize("room", ["token_fusion", "concat_vit"])
def test_a_pair_model_predicts_what_the_pipeline_scores(command, photos, tmp_path, room):
    from matcher.storage.stage import Stage
    from matcher.types import PairScores

    words = ["--config", f"{room}/smoke.yaml", "--data.photos", str(photos), "--output", str(tmp_path / "out")]
    code, out, err = command("fit", *words)
    assert (code, out) == (0, "") and "val_micro_ap" in err and "val_pair_ap" in err, err
    code, _, err = command("predict", *words)
    assert code == 2 and "--data.pairs FILE" in err
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\n03,03\n03,04\n11,27\n")
    sides = ["queries", str(photos), "references", str(photos), "pairs", str(tmp_path / "pairs.csv")]
    code, _, err = command("predict", *words, *(f"--data.{word}" if i % 2 == 0 else word for i, word in enumerate(sides)))
    assert code == 0, err
    model = {"pair_model": {"model": str(tmp_path / "out" / "model.safetensors")}, "sift": None}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"strategy": {"scorers": model}}))
    sides = [f"--{word}" if i % 2 == 0 else word for i, word in enumerate(sides)]
    code, _, err = command("score", *sides, "--output", tmp_path / "scored", "--config", tmp_path / "judge.yaml")
    assert code == 0, err
    predicted, scored = (Stage.load(place, PairScores).read() for place in (tmp_path / "out" / "pair_scores", tmp_path / "scored"))
    assert predicted.query_id.tolist() == ["03", "03", "11"] and np.isfinite(predicted.evidence["pair_logit"]).all()
    assert np.array_equal(predicted.evidence["pair_logit"], scored.evidence["pair_logit"])
    (tmp_path / "pairs.csv").write_text("query_id,reference_id\n03,05\n")
    sides = [f"--data.{word.removeprefix('--')}" if i % 2 == 0 else word for i, word in enumerate(sides)]
    code, _, err = command("predict", *words, *sides)
    assert code == 1 and "(use --fresh to replace it" in err and "holds no last.ckpt" not in err
    assert command("predict", *words, *sides, "--fresh")[0] == 0
    assert Stage.load(tmp_path / "out" / "pair_scores", PairScores).read().reference_id.tolist() == ["05"]
    code, _, err = command("predict", *words[:-1], tmp_path / "elsewhere", *sides)
    assert code == 2 and "elsewhere holds no last.ckpt: name the folder of a training with --output" in err
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.bach_size", "3"], "there is no option data.bach_size; did you mean data.batch_size? (see"),
        (["--data.hardnes.start", "3"], "there is no option data.hardnes.start; did you mean data.hardness.start? (see"),
        (["--model.sise", "3"], "there is no option model.sise; did you mean model.size? (see"),
        (["--model.optimiser.averge", "3"], "there is no option model.optimiser.averge; did you mean model.optimiser.average? (see"),
        (["--model.loss.temprature", "3"], "temprature"),
        (["--trainer.max_step", "3"], "there is no option trainer.max_step; did you mean trainer.max_steps? (see"),
        (["--model.size", "large"], "model.size must be int"),
        (["--config", "nosuch.yaml"], "nosuch.yaml"),
        (["--model.objective", "Nope"], "model.objective: there is no class Nope (see"),
        (["--model.objective", "BarlowTwin"], "model.objective: there is no class BarlowTwin; did you mean BarlowTwins? (see"),
        (["--model.class_path", "NoSuch"], "model: there is no class NoSuch (see"),
        (["--model.class_path", "No Such"], "model: there is no class No Such (see"),
        (["--model.objective", "BarlowTwins", "--model.objective.redundency", "1"], "redundency"),
        (["--model.objective", "BarlowTwins", "--model.loss.entropy", "3"], "model.loss is for InfoNCE; the objective BarlowTwins"),
        (["--data.batch_size", "1"], "data.batch_size must be at least 2: the other photos are the negatives; it is 1 (see matcher fit"),
        (["--model.start", "nosuch"], "backbone 'nosuch' is neither"),
        (["--model.pooling", "max"], "there is no pooling 'max'; there are: backbone, cls, mean, gem, gem3 (see"),
        (["--trainer.accelerator", "mps"], "can not run on your system"),
        (["--data.known", "[0.5,0.2]"], "data.known must be shares above 0 that grow, to 1 at most; it is [0.5, 0.2]"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(command, smoke, words, sentence):
    code, out, err = command("fit", *smoke[0], *words)
    assert code == 2 and not out and sentence in err and err.strip().count("\n") == 0, err


def test_a_misspelt_key_of_a_training_is_told_with_its_file(command, smoke, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("data: {init_args: {bach_size: 3}}")
    code, _, err = command("fit", *smoke[0], "--config", config)
    assert code == 2 and f"there is no option data.bach_size (in {config}); did you mean data.batch_size?" in err


def test_what_is_missing_is_named_as_it_is_typed(command):
    code, _, err = command("fit")
    assert code == 2 and "still needed: --output, --data, --model" in err


def test_an_empty_folder_of_photos_is_told(command, smoke, tmp_path):
    (tmp_path / "none").mkdir()
    code, _, err = command("fit", *smoke[0], "--data.photos", tmp_path / "none")
    assert code == 1 and f"{tmp_path / 'none'}: no photos there" in err


def test_a_missing_folder_of_photos_is_told(command, smoke):
    code, _, err = command("fit", *smoke[0], "--data.photos", "/nowhere")
    assert code == 1 and err.startswith("matcher: error: /nowhere: there is no such folder")


def test_predict_without_a_training_is_told(command, smoke):
    code, _, err = command("predict", *smoke[0], "--data.pictures", "nowhere")
    assert code == 2 and "out holds no last.ckpt: name the folder of a training with --output" in err


@pytest.mark.parametrize("name", CONFIGS)
def test_config_makes_its_module_and_data(name, photos, tmp_path):
    from matcher.cli.training import TrainingCLI

    if name.startswith("overlay/") and find_spec("ultralytics") is None:  # not imported here: it writes into the home folder
        pytest.skip("the extra overlay is not installed")

    words = [*BEFORE.get(name, []), "--config", str(shipped("experiments", name)), "--data.photos", str(photos), "--output", str(tmp_path)]
    untrained = ["--model.weights", "false"] if "weights: true" in shipped("experiments", name).read_text() else []  # of the hub
    cli = TrainingCLI([*words, *untrained, "--trainer.accelerator", "cpu"], run=False)
    assert cli.model.size > 0 and cli.datamodule.photos == str(photos) and cli.trainer.max_steps > 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_system_makes_a_step(command, photos, tmp_path, name):
    few = ["--data.known", "[0.2, 1.0]"] if name == "s_square" else []
    words = ["--config", f"descriptor/{name}.yaml", "--data.photos", str(photos), "--output", str(tmp_path), *TINY, *few]
    code, out, err = command("fit", *words)
    assert (code, out) == (0, ""), err
    assert [row["step"] for row in read_curves(tmp_path) if row["train_loss"]] == ["0"]
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_config_with_one_unknown_key_is_refused(name, command, photos, tmp_path):
    content = yaml.safe_load(shipped("experiments", name).read_text())
    content["model"].setdefault("init_args", {})["sise"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    words = [*BEFORE.get(name, []), "--config", tmp_path / "config.yaml"]
    code, _, err = command("fit", *words, "--data.photos", photos, "--output", tmp_path / "out")
    assert code == 2 and "sise" in err


@pytest.mark.parametrize("wrong", ["DescriptorTrainin", "descripter.DescriptorTraining", "mather.training.descriptor.DescriptorTraining"])
def test_the_class_that_was_meant_is_offered(wrong, command, photos, tmp_path):
    right, parts = "matcher.training.descriptor.DescriptorTraining", wrong.count(".") + 1
    written = ".".join([*right.split(".")[:-parts], wrong])
    path = tmp_path / "config.yaml"
    path.write_text(shipped("experiments", SMOKE).read_text().replace(right, written))
    code, out, err = command("fit", "--config", path, "--data.photos", photos, "--output", tmp_path / "out")
    assert code == 2 and not out and f"(in {path})" in err and f"; did you mean {right}? (see" in err, err


def test_training_verbs_are_told_of_and_imported_only_when_typed(command):
    assert not set(TRAINING) & set(VERBS)
    assert "matcher fit|validate|test|predict --config FILE" in command("--help")[1]
    assert "did you mean validate?" in command("valdate")[2]
    code = "import json, sys; from matcher.cli.main import main; main(['--help']); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "matcher.cli.training", "numpy"} & set(json.loads(done.stdout.splitlines()[-1]))


def test_help_of_a_training_verb_lists_what_may_be_set(command):
    code, out, _ = command("fit", "--help")
    assert code == 0 and "--minutes" in out and "--trainer.max_steps" in out and "usage: matcher [options] fit" in out
