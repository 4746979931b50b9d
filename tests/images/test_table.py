"""PATH in all its forms -> ImageSet and Errors."""

import csv
import logging
import os
import re
from datetime import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matcher.errors import ImageError, MatcherError
from matcher.images.decode import read_bytes
from matcher.images.files import from_text, to_text
from matcher.images.listing import make_ids, matches
from matcher.images.table import ImageSet, read_images
from matcher.settings import ImageSettings

JPEG = b"\xff\xd8\xff\xe0" + bytes(40)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder, *names, data=JPEG):
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def ids(path, side="queries", **options):
    return read_images(path, side, **options)[0].id.tolist()


def codes(path, side="queries"):
    errors = read_images(path, side)[1]
    return dict(zip(errors.id.tolist(), errors.code.tolist(), strict=True))


def refusal(path, side="queries"):
    with pytest.raises(MatcherError) as caught:
        read_images(path, side)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_folder_is_searched_at_any_depth_and_sorted(folder):
    put(folder, "b.jpg", "a/z.PNG", "a/y/x.webp", "c.jpeg")
    images, errors = read_images(folder, "queries")
    assert images.id.tolist() == ["a/y/x", "a/z", "b", "c"] and len(errors) == 0
    assert images.path.tolist()[2] == str(folder / "b.jpg")
    assert images.bytes.tolist() == [len(JPEG)] * 4
    assert images.mtime_ns.tolist()[2] == (folder / "b.jpg").stat().st_mtime_ns
    assert ids(".") == ids(str(folder) + "/") == images.id.tolist()
    assert read_images(".", "queries")[0].path.tolist() == images.path.tolist()


def test_same_names_keep_their_extension(folder):
    put(folder, "a.jpg", "a.png", "b.jpg", "c.jpg", "c.jpg.png", "c.png", "v1.2")
    assert ids(folder) == ["a.jpg", "a.png", "b", "c.jpg", "c.jpg.png", "c.png", "v1.2"]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.from_regex(r"[ab](\.(jpg|png|x))?(\.(jpg|png))?", fullmatch=True), max_size=8))
def test_ids_of_different_names_are_different(names):
    assert len(set(make_ids(sorted(names)))) == len(names)


def test_hidden_and_other_files_are_left_out_and_counted(folder, caplog):
    put(folder, ".hidden.jpg", ".git/a.jpg", "a.jpg", "no_suffix", "photo.dat")
    put(folder, "README.txt", "table.csv", "Thumbs.db", "BMW.doc", "P1 plan", data=b"BMW is a text. P1 is another.")
    with caplog.at_level(logging.INFO, logger="matcher"):
        assert ids(folder) == ["a", "no_suffix", "photo.dat"]
    assert "(not pictures, left out: 5)" in caplog.text


def test_bad_files_are_rows_with_a_code(folder):
    put(folder, "good.jpg", "album.jpg/inside.jpg")
    put(folder, "empty.jpg", "empty_other", data=b"")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    images, errors = read_images(folder, "references")
    assert images.id.tolist() == ["album.jpg/inside", "good"]
    expected = {"album": "not_a_file", "broken": "missing", "empty": "empty", "pipe": "not_a_file", "self": "missing"}
    assert codes(folder) == expected
    assert set(errors.stage.tolist()) == {"references"} and str(folder / "empty.jpg") in errors.path.tolist()
    with pytest.raises(ImageError) as caught:
        read_images(folder, "references", on_error="raise")
    assert caught.value.code == "not_a_file"


def test_loops_of_links_end_and_every_folder_is_searched_once(folder):
    put(folder, "a/x.jpg", "b/y.jpg")
    (folder / "a" / "up").symlink_to("..")
    (folder / "b" / "to_a").symlink_to("../a")
    for level in range(20):  # 2 ** 20 ways down
        (folder / f"n{level}").mkdir()
        for name in "lr":
            (folder / f"n{level}" / name).symlink_to(f"../n{level + 1}")
    assert ids(folder) == ["a/x", "b/y"]
    assert ids("**/*.jpg") == ["a/x", "b/y"]


def test_a_linked_folder_outside_is_searched(folder):
    put(folder, "outside/deep/x.jpg")
    (folder / "inside").mkdir()
    (folder / "inside" / "link").symlink_to(folder / "outside")
    assert ids(folder / "inside") == ["link/deep/x"]


def test_a_folder_that_may_not_be_searched_is_a_row(folder, monkeypatch):
    put(folder, "a.jpg", "closed/b.jpg")
    scan = os.scandir

    def guarded(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "no")
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert ids(folder) == ["a"] and codes(folder) == {"closed": "unreadable"}


STRANGE = ["with space.jpg", " lead.jpg", "new\nline.jpg", "ümläut 猫 🐈.jpg", "a'\"<b>,;.jpg", "%41#?.jpg", "-x.jpg", "*.jpg"]


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_are_ids_and_lead_to_their_file(folder, name):
    put(folder, f"pictures/{name}")
    images, _ = read_images(folder / "pictures", "queries")
    assert images.id.tolist() == [name.removesuffix(".jpg")]
    assert read_bytes(images.path.tolist()[0], settings=ImageSettings()) == JPEG
    assert ids(folder / "pictures" / name) == [name.removesuffix(".jpg")]


def test_a_name_that_is_no_utf8_can_be_stored_and_opened(folder):
    with open(os.path.join(os.fsencode(folder), b"caf\xe9.jpg"), "wb") as file:
        file.write(JPEG)
    open(os.path.join(os.fsencode(folder), b"null\xff.jpg"), "wb").close()
    (folder / "list.lst").write_bytes(b"caf\xe9.jpg\n")
    (folder / "table.csv").write_bytes(b"id,path\nx,caf\xe9.jpg\n")
    images, errors = read_images(folder, "queries")
    assert images.id.tolist() == ["caf\\udce9"] and errors.id.tolist() == ["null\\udcff"]
    for record in (images, errors):
        for name, dtype, _ in record.columns():
            if dtype == "text":
                pa.array(getattr(record, name).tolist())  # must be UTF-8
    for other in (images, read_images("list.lst", "queries")[0], read_images("table.csv", "queries")[0]):
        path = other.path.tolist()[0]
        assert path.startswith("file:///") and read_bytes(path, settings=ImageSettings()) == JPEG


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=20).filter(lambda b: 0 not in b))
def test_paths_survive_being_written_as_text(name):
    path = os.fsdecode(b"/x/" + name)
    text = to_text(path)
    text.encode()
    assert from_text(text) == path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///\udcff%20a", "/\udcff a"),
        ("file:///\ud800", "file:///\ud800"),
        ("file:///%FF", "/\udcff"),
        ("FILE://localhost/a%20b", "/a b"),
        ("file://elsewhere/a", "file://elsewhere/a"),
        ("file:///a%00b", "file:///a%00b"),
    ],
)
def test_uris_that_are_no_utf8(uri, path):
    assert from_text(uri) == path


def test_a_list_names_pictures_by_their_path_however_it_is_written(folder):
    put(folder, "p/a b.jpg")
    put(folder, "list.txt", data=b"file://" + os.fsencode(folder).replace(b" ", b"%20") + b"/p/a%20b.jpg\n")
    images, errors = read_images("list.txt", "queries")
    assert images.id.tolist() == ["p/a b"] and not len(errors)


def test_nul_characters_are_escaped_and_no_file_is_named_by_them(folder):
    put(folder, "a.jpg")
    put(folder, "nul.csv", data=b"id,path,note\nx\0a,a.jpg,n\0\nx\0b,a.jpg,\nc,a.jpg\0.jpg,\nd,file:///a%00.jpg,\n")
    images, errors = read_images("nul.csv", "queries")
    assert images.id.tolist() == ["x\\x00a", "x\\x00b"] and images.extra["note"].tolist() == ["n\\x00", ""]
    assert errors.id.tolist() == ["c", "d"] and errors.code.tolist() == ["missing"] * 2
    assert errors.path.tolist() == [os.path.join(os.getcwd(), "a.jpg\\x00.jpg"), "file:///a%00.jpg"]


def test_globs(folder):
    put(folder, "p/a.jpg", "p/b.png", "p/q/c.jpg", "p/q/r/d.jpg", "p/.h.jpg", "other.jpg")
    put(folder, "p/notes.txt", data=b"text")
    assert ids("p/*.jpg") == ["a"]
    assert ids("p/*") == ["a", "b"]
    assert ids("p/**/*.jpg") == ["a", "q/c", "q/r/d"]
    assert ids("p/**") == ["a", "b", "q/c", "q/r/d"]
    assert ids("**/[cd].jpg") == ["p/q/c", "p/q/r/d"]
    assert ids(str(folder / "p" / "?.png")) == ["b"]
    assert ids("*/q/*.jpg") == ["p/q/c"]
    assert "no pictures" in refusal("p/*.gif") and "no pictures" in refusal("nowhere/*.jpg")


def test_brackets_in_real_names_are_no_glob(folder):
    put(folder, "trip [2019]/a.jpg", "trip [2019]/b.png")
    assert ids("trip [2019]") == ["a", "b"]
    assert ids("trip [2019]/*.jpg") == ["a"]
    assert ids("trip [2019]/a.jpg") == ["a"]


PARTS = st.lists(st.sampled_from("ab"), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "**", "?"]), min_size=1, max_size=4)


@settings(deadline=None)
@given(PARTS, PATTERNS)
def test_glob_parts_match_as_a_regular_expression_does(parts, pattern):
    pieces = ["(?:[ab]/)*" if p == "**" else (p.replace("*", "[ab]+").replace("?", "[ab]") + "/") for p in pattern]
    if pattern[-1] == "**":
        pieces[-1] = "(?:[ab]/)+"
    assert matches(parts, pattern) == bool(re.fullmatch("".join(pieces), "/".join(parts) + "/"))


def test_list_files(folder):
    put(folder, "lists/a.jpg", "lists/sub/b.jpg", "c.jpg", "lists/#real.jpg", "far/d.jpg", "lists/ spaced .jpg ")
    lines = ["\ufeffa.jpg", "", "  ", "# a comment", "#real.jpg", "sub/b.jpg\r", "../c.jpg", str(folder / "far/d.jpg")]
    lines += [str(folder / "lists" / "gone.jpg"), "  ./sub/../a.jpg.bak", " spaced .jpg "]
    (folder / "lists" / "list.txt").write_bytes("\n".join(lines).encode())
    images, errors = read_images("lists/list.txt", "queries")
    assert images.id.tolist() == ["a", "#real", "sub/b", "../c", str(folder / "far/d"), " spaced .jpg "]
    assert images.path.tolist()[3] == str(folder / "c.jpg")
    assert errors.id.tolist() == ["gone", "a.jpg.bak"] and errors.code.tolist() == ["missing"] * 2


def test_lists_that_cannot_be_meant(folder):
    put(folder, "a.jpg")
    put(folder, "twice.txt", data=b"a.jpg\n./a.jpg\n")
    put(folder, "blank.txt", data=b"\n# nothing\n")
    put(folder, "empty.txt", data=b"")
    put(folder, "wide.txt", data="a.jpg\n".encode("utf-16"))
    assert "'a.jpg'" in refusal("twice.txt") and "2 rows" in refusal("twice.txt")
    assert "no pictures" in refusal("blank.txt")
    assert "empty" in refusal("empty.txt")
    assert "UTF-8" in refusal("wide.txt")


def test_a_single_picture(folder):
    put(folder, "one.jpg", "no_suffix")
    put(folder, "void.png", data=b"")
    put(folder, "notes.md", data=b"text")
    (folder / "broken").symlink_to("nowhere")
    assert ids("one.jpg") == ["one"] and ids(folder / "no_suffix") == ["no_suffix"]
    assert codes("void.png") == {"void": "empty"} and ids("void.png") == []
    assert "notes.md: neither" in refusal("notes.md")
    assert "leads nowhere" in refusal("broken")
    os.mkfifo(folder / "pipe")
    assert "pipe" in refusal("pipe")


def test_nothing_there(folder):
    (folder / "empty").mkdir()
    put(folder, "texts/a.txt", data=b"x")
    assert "no such file or folder" in refusal("gone") and "gone" in refusal("gone")
    assert "no pictures" in refusal("empty") and "no pictures" in refusal("texts")
    assert "no such file" in refusal("a\0b")


def test_a_csv_keeps_its_ids_and_its_columns(folder):
    put(folder, "pics/a.jpg", "pics/b c.jpg", "pics/d.jpg")
    text = '\ufeffid,label,path,note\r\n007,1,pics/a.jpg,"two\nlines, ""quoted"""\r\n\r\n8,,pics/gone.jpg,x\r\n1e5,3,"pics/b c.jpg",\r\n'
    put(folder, "set/table.csv", data=text.replace("pics/", "../pics/").encode())
    images, errors = read_images("set/table.csv", "references")
    assert images.id.tolist() == ["007", "1e5"] and errors.id.tolist() == ["8"] and errors.code.tolist() == ["missing"]
    assert images.path.tolist() == [str(folder / "pics/a.jpg"), str(folder / "pics/b c.jpg")]
    assert {name: values.tolist() for name, values in images.extra.items()} == {"label": ["1", "3"], "note": ['two\nlines, "quoted"', ""]}


@pytest.mark.parametrize(("side", "column", "fits"), [
    ("queries", "query_id", True), ("references", "reference_id", True), ("queries", "image_id", True), ("queries", "id", True),
    ("queries", "reference_id", False), ("references", "query_id", False), ("photos", "query_id", False),
])  # fmt: skip
def test_names_of_the_id_column(folder, side, column, fits):
    put(folder, "a.jpg")
    put(folder, "t.csv", data=f"{column},path\nx,a.jpg\n".encode())
    if fits:
        assert ids("t.csv", side) == ["x"]
    else:
        assert f"it has {column}, path" in refusal("t.csv", side) and "t.csv" in refusal("t.csv", side)


def test_csv_tables_that_cannot_be_meant(folder):
    put(folder, "a.jpg")
    for text, words in {
        "id,file\n1,a.jpg\n": "no column called path; it has id, file",
        "id;path\n1;a.jpg\n": "its columns are parted by ';'",
        "id\tpath\n1\ta.jpg\n": r"its columns are parted by '\t'",
        "id,path\n1,a.jpg\n1,a.jpg\n": "2 rows have the id '1'",
        "id,path\n,a.jpg\n": "row 1 has no id",
        "id,path\n1,a.jpg,x\n": "line 2: 3 values",
        "id,path,path\n1,a.jpg,x\n": "path' is there more than once",
        'id,path\n1,"a.jpg\n': "no valid CSV",
        "id,path\n": "no pictures",
        "": "empty",
        "\n": "it has no columns",
    }.items():
        put(folder, "t.csv", data=text.encode())
        assert words in refusal("t.csv"), text
    put(folder, "t.csv", data="id,path\n1,a.jpg\n".encode("utf-16"))
    assert "t.csv: this table is in UTF-16; save it as CSV in UTF-8" in refusal("t.csv")


def test_an_empty_path_is_said_to_be_one():
    assert refusal("").startswith("the path of the queries is empty: name a folder")


def test_rows_without_a_path_are_listed_and_the_others_kept(folder):
    put(folder, "a.jpg", "b.jpg")
    put(folder, "t.csv", data=b"id,path,note\n1,a.jpg,x\n2,,y\n3,b.jpg,z\n")
    pq.write_table(pa.table({"id": ["1", "2", "3"], "path": ["a.jpg", None, "b.jpg"], "note": ["x", "y", "z"]}), folder / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        images, errors = read_images(name, "queries")
        assert images.id.tolist() == ["1", "3"] and images.extra["note"].tolist() == ["x", "z"]
        told = [values.tolist() for values in (errors.id, errors.code, errors.message)]
        assert told == [["2"], ["missing"], [f"{name}: row 2 has no path"]]
        with pytest.raises(ImageError, match="row 2 has no path"):
            read_images(name, "queries", on_error="raise")


def test_a_parquet_table_keeps_types(folder):
    put(folder, "a.jpg", "b.jpg", "c.jpg")
    table = pa.table({
        "id": pa.array([7, 8, 9, 10]),
        "path": pa.array(["a.jpg", "b.jpg", "gone.jpg", "c.jpg"]).dictionary_encode(),
        "year": [2001, 2002, 2003, 2004], "score": [0.5, None, 1.0, 2.0], "seen": [True, False, True, True],
        "count": pa.array([1, None, 3, 4], pa.int32()), "title": ["x", None, "z", "ü"], "box": [[1, 2], None, [3], []],
        "when": pa.array([0, 1, 2, None], pa.timestamp("s")), "bytes": [1, 2, 3, 4],
    })  # fmt: skip
    pq.write_table(table, folder / "t.parquet")
    images, errors = read_images("t.parquet", "queries")
    assert images.id.tolist() == ["7", "8", "10"] and errors.id.tolist() == ["9"]
    extra = images.extra
    assert extra["year"].tolist() == [2001, 2002, 2004] and extra["year"].dtype == np.int64
    assert extra["seen"].tolist() == [True, False, True] and extra["title"].tolist() == ["x", "", "ü"]
    assert np.array_equal(extra["count"], [1, np.nan, 4], equal_nan=True) and np.isnan(extra["score"][1])
    assert extra["box"].tolist() == ["[1, 2]", "", "[]"]
    assert extra["when"].dtype.kind == "M" and np.isnat(extra["when"][2])
    assert "bytes" not in extra and images.bytes.tolist() == [len(JPEG)] * 3


def test_own_columns_that_no_number_holds_are_carried_as_text(folder):
    put(folder, "a.jpg", "b.jpg")
    table = pa.table({
        "id": ["a", "b"], "path": ["a.jpg", "b.jpg"], "key": [2**60 + 1, None], "price": [Decimal("1.50"), None],
        "at": [time(12, 30), None], "zoned": pa.array([0, None], pa.timestamp("s", tz="Europe/Berlin")),
    })  # fmt: skip
    pq.write_table(table, folder / "t.parquet")
    extra = read_images("t.parquet", "queries")[0].extra
    assert extra["key"].tolist() == [str(2**60 + 1), ""] and extra["price"].tolist() == ["1.50", ""]
    assert extra["at"].tolist() == ["12:30:00", ""] and str(extra["zoned"][0]).startswith("1970-01-01T00:00:00")


def test_parquet_tables_that_cannot_be_meant(folder):
    put(folder, "a.jpg")
    put(folder, "bad.parquet", data=b"PAR1 nonsense")
    assert "no Parquet file" in refusal("bad.parquet")
    for columns, words in [
        ({"id": ["x"], "file": ["a.jpg"]}, "it has id, file"),
        ({"id": [1.5], "path": ["a.jpg"]}, "column id holds double"),
        ({"id": ["x"], "path": [[1]]}, "column path holds list"),
        ({"id": ["x", None], "path": ["a.jpg", "a.jpg"]}, "row 2 has no id"),
        ({"id": [3, 3], "path": ["a.jpg", "a.jpg"]}, "2 rows have the id '3'"),
    ]:
        pq.write_table(pa.table(columns), folder / "t.parquet")
        assert words in refusal("t.parquet")


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
NOTES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, NOTES), min_size=1, max_size=5, unique_by=lambda row: row[0]))
def test_any_text_survives_a_csv(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    put(folder, "a.jpg")
    with open(folder / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "path", "note"), *((name, "a.jpg", note) for name, note in rows)])
    images, _ = read_images(folder / "t.csv", "queries")
    assert images.id.tolist() == [name for name, _ in rows] and images.extra["note"].tolist() == [note for _, note in rows]


def make_set(*names, **extra):
    rows = len(names)
    return ImageSet(id=np.array(names), path=np.array(names), bytes=np.ones(rows), mtime_ns=np.ones(rows), extra=extra)


def test_take_and_concat_carry_the_other_columns():
    first = make_set("a", "b", "c", label=np.array(["x", "y", "z"]), year=np.array([1, 2, 3]))
    taken = first.take(np.array([2, 0]))
    assert taken.id.tolist() == ["c", "a"] and taken.extra["label"].tolist() == ["z", "x"] and taken.extra["year"].tolist() == [3, 1]
    joined = ImageSet.concat([taken, make_set("d", label=np.array(["long text"]), score=np.array([0.5]))])
    assert joined.extra["label"].tolist() == ["z", "x", "long text"]
    assert np.array_equal(joined.extra["year"], [3, 1, np.nan], equal_nan=True)
    assert np.array_equal(joined.extra["score"], [np.nan, np.nan, 0.5], equal_nan=True)
    assert len(ImageSet.empty()) == 0 and len(ImageSet.concat([])) == 0


def test_an_image_set_checks_itself():
    with pytest.raises(ValueError, match="more than one row"):
        make_set("a", "a")
    with pytest.raises(ValueError, match=r"extra has label of another length"):
        make_set("a", "b", label=np.array(["x"]))
