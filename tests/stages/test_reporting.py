"""The page, from files."""


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


def test_with_the_truth_it_tells_right_from_wrong(finished, library, command, tmp_path):
    truth = library.write_truth(tmp_path / "truth.csv")
    command("report", *places(finished, library), "--output", tmp_path / "judged.html", "--ground_truth", truth)
    assert (tmp_path / "judged.html").read_bytes() == (finished[0] / "report.html").read_bytes()
    command("report", *places(finished, library), "--output", tmp_path / "plain.html", "--limit", 3)
    assert len((tmp_path / "plain.html").read_bytes()) < len((tmp_path / "judged.html").read_bytes())


def test_predictions_that_are_none(finished, library, command, tmp_path):
    for name in ("predictions.csv", "predictions.parquet"):
        (tmp_path / name).write_text("query_id,reference_id,score\n")
    words = ("--queries", library.queries, "--references", library.references, "--output", tmp_path / "out.html")
    code, _, complaint = command("report", "--predictions", tmp_path / "predictions.csv", *words)
    assert code == 2 and "predictions.parquet says, which lies beside the CSV" in complaint and len(complaint.splitlines()) == 1
    code, _, complaint = command("report", "--predictions", tmp_path / "predictions.parquet", *words)
    assert code == 1 and "predictions.parquet" in complaint and len(complaint.splitlines()) == 1
