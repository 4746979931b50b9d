"""The page, from files."""

import shutil

from matcher.pipeline import report, run
from matcher.settings import ImageSettings, Strategy
from matcher.stages.job import Job


def places(finished, library):
    return "--predictions", finished[0] / "predictions.parquet", "--queries", library.queries, "--references", library.references


def test_from_pictures_and_from_described_folders(finished, library, command, tmp_path):
    code, printed, complaint = command("report", *places(finished, library), "--output", tmp_path / "pictures.html")
    assert code == 0 and printed.strip() == str(tmp_path / "pictures.html"), complaint
    folders = ("--queries", finished[0] / "queries", "--references", finished[0] / "references")
    command("report", "--predictions", finished[0] / "predictions.parquet", *folders, "--output", tmp_path / "described.html")
    assert (tmp_path / "pictures.html").read_bytes() == (tmp_path / "described.html").read_bytes()
    page = (tmp_path / "pictures.html").read_text("utf-8")
    assert all(id_ in page for id_ in library.truth) and "data:image" in page


def test_what_could_not_be_used_is_counted_and_what_changed_is_not_drawn(library, tmp_path):
    queries = tmp_path / "queries"
    queries.mkdir()
    for name in ("cropped.jpg", "turned.jpg"):
        shutil.copy(library.queries / name, queries)
    (queries / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    run(queries, library.references, tmp_path / "out", job=Job(workers=1))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    told = [f"<dt>{name}</dt><dd>{count}</dd>" for name, count in (("queries", 2), ("references", 12), ("could not be used", 1))]
    assert all(fact in "".join(page.split("\n")).replace("  ", "") for fact in told), page[:3000]
    shutil.copy(library.queries / "re-saved.jpg", queries / "cropped.jpg")
    sides = tmp_path / "out" / "queries", tmp_path / "out" / "references"
    report(tmp_path / "out" / "predictions.parquet", *sides, tmp_path / "again.html")
    page = (tmp_path / "again.html").read_text("utf-8")
    assert "cropped.jpg has changed since it was listed" in page and "turned.jpg has changed" not in page


def test_with_the_truth_it_tells_right_from_wrong(finished, library, command, tmp_path):
    truth = library.write_truth(tmp_path / "truth.csv")
    command("report", *places(finished, library), "--output", tmp_path / "judged.html", "--ground_truth", truth)
    assert (tmp_path / "judged.html").read_bytes() == (finished[0] / "report.html").read_bytes()
    command("report", *places(finished, library), "--output", tmp_path / "plain.html", "--limit", 3)
    assert len((tmp_path / "plain.html").read_bytes()) < len((tmp_path / "judged.html").read_bytes())


def test_pictures_that_were_not_given_are_told(finished, library, command, tmp_path):
    few = tmp_path / "queries"
    few.mkdir()
    for file in sorted(path for path in library.queries.iterdir() if path.stem in library.truth)[:2]:
        shutil.copy(file, few)
    words = ("--predictions", finished[0] / "predictions.parquet", "--queries", few, "--references", library.references)
    code, _, complaint = command("report", *words, "--output", tmp_path / "out.html")
    assert code == 0 and "of the queries predicted, the first " in complaint and "references predicted" not in complaint
    assert "predicted, the first" not in command("report", *places(finished, library), "--output", tmp_path / "out.html")[2]


def test_predictions_that_are_none(finished, library, command, tmp_path):
    for name in ("predictions.csv", "predictions.parquet"):
        (tmp_path / name).write_text("query_id,reference_id,score\n")
    words = ("--queries", library.queries, "--references", library.references, "--output", tmp_path / "out.html")
    code, _, complaint = command("report", "--predictions", tmp_path / "predictions.csv", *words)
    assert code == 2 and "predictions.parquet says, which lies beside the CSV" in complaint and len(complaint.splitlines()) == 1
    code, _, complaint = command("report", "--predictions", tmp_path / "predictions.parquet", *words)
    assert code == 1 and "predictions.parquet" in complaint and len(complaint.splitlines()) == 1


def test_a_picture_outside_of_the_root_is_not_shown(library, command, tmp_path):
    root, output = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    for name in ("cropped.jpg", "horse.jpg"):
        shutil.copy(library.queries / name, root if name == "cropped.jpg" else tmp_path)
    shutil.copy(library.references / "astronaut.png", root)
    (root / "queries.csv").write_text("id,path\ncropped,cropped.jpg\nhorse,../horse.jpg\n")
    (tmp_path / "truth.csv").write_text("query_id,reference_id\ncropped,astronaut\nhorse,astronaut\n")
    strategy = Strategy(images=ImageSettings(root=str(root)))
    run(root / "queries.csv", root / "astronaut.png", output, strategy=strategy, job=Job(workers=1), ground_truth=tmp_path / "truth.csv")
    pages = [(output / "report.html").read_text("utf-8")]
    words = ["--predictions", output / "predictions.parquet", "--queries", output / "queries", "--references", output / "references"]
    for more in (["--strategy.images.root", root], []):
        assert command("report", *words, "--ground_truth", tmp_path / "truth.csv", "--output", tmp_path / "r.html", *more)[0] == 0
        pages.append((tmp_path / "r.html").read_text("utf-8"))
    assert [page.count("data:image") for page in pages] == [2, 2, 3]
