import cv2
import numpy as np
import pytest

from matcher.describe import describe_views
from matcher.images.decode import load
from matcher.metrics.evaluation import evaluate
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.truth import GroundTruth
from matcher.settings import DescriptorSettings, ImageSettings
from matcher.training.retrieval_check import RetrievalCheck, SmallBenchmark, is_complete, write_photos


@pytest.fixture(scope="module")
def held_out(drawn):
    from matcher.data.photo_bank import PhotoBank

    return PhotoBank.load(drawn, side=48, cache=None).split(0.5, 0)[1]


@pytest.fixture(scope="module")
def benchmark(held_out, tmp_path_factory):
    check = RetrievalCheck(queries=8, difficulty="hard")
    folder = check.synthesized(held_out, tmp_path_factory.mktemp("check"), 0)
    return SmallBenchmark.of(folder, held_out.pixels), folder


def slow_scores(benchmark, model, nearest):
    """Every pair's cosine less the mean of the query's nearest strangers, with loops."""
    settings = DescriptorSettings(backbone="")
    sides = [
        describe_views(images, settings, image_settings=ImageSettings(), names=["whole"], model=model)[0]
        for images in (benchmark.queries, benchmark.references)
    ]
    sized = [cv2.resize(p.permute(1, 2, 0).numpy(), (model.size,) * 2, interpolation=cv2.INTER_AREA) for p in benchmark.strangers]
    strangers = model.describe(np.stack(sized))
    pairs = []
    for query_id, query in zip(sides[0].image_id.tolist(), sides[0].rows, strict=True):
        penalty = np.mean(sorted((strangers @ query).tolist())[-nearest:])
        pairs += [
            (query_id, name, float(row @ query - penalty)) for name, row in zip(sides[1].image_id.tolist(), sides[1].rows, strict=True)
        ]
    return ScoredPairs.from_scores(*zip(*pairs, strict=True))


def test_numbers_are_those_of_evaluate_over_all_pairs(benchmark, make_module):
    small, folder = benchmark
    model = make_module().result
    found = small.measure(model, per_query=99, nearest=3)
    expected = evaluate(slow_scores(small, model, 3), GroundTruth.read(folder / "ground_truth.csv"), resamples=10)
    assert found["micro_ap"] == pytest.approx(expected.micro_ap.value) and 0 < found["micro_ap"] < 1
    assert found["recall_at_rank1"] == pytest.approx(expected.recall_at_rank1.value)
    assert found["recall_at_p90"] == pytest.approx(expected.recall_at_p90.value) and found["recall_at_rank99"] == 1.0


def test_benchmark_is_made_once_and_from_its_seed(benchmark, held_out):
    _, folder = benchmark
    check = RetrievalCheck(queries=8, difficulty="hard")
    stamp = (folder / "card.json").stat().st_mtime_ns
    assert check.synthesized(held_out, folder.parent, 0) == folder and (folder / "card.json").stat().st_mtime_ns == stamp
    assert is_complete(folder) and not is_complete(folder.parent)


def test_photos_are_written_unsquashed(held_out, tmp_path):
    files = sorted(write_photos(held_out, tmp_path / "photos").iterdir())
    assert len(files) == len(held_out)
    pixels = load(files[0], settings=ImageSettings())
    assert pixels.shape[:2] == (48, 64)  # drawn 96 x 72
    squashed = cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(squashed.astype(int) - held_out.pixels[0].permute(1, 2, 0).numpy()).mean() < 4


@pytest.mark.filterwarnings("ignore")
def test_validation_and_test_log_it(make_module, make_data, make_trainer, tmp_path):
    check = RetrievalCheck(queries=4, strangers=5, difficulty="easy", cache=str(tmp_path))
    trainer = make_trainer(1, check, limit_val_batches=1.0)
    module, data = make_module(), make_data()
    validated = trainer.validate(module, datamodule=data, verbose=False)[0]
    assert {"val_contrast", "val_micro_ap", "val_recall_at_p90", "val_recall_at_rank1", "val_recall_at_rank10"} == set(validated)
    tested = trainer.test(module, datamodule=data, verbose=False)[0]
    assert set(tested) == {name.replace("val_", "test_") for name in validated if name != "val_contrast"}
    assert len(check.made) == 2
