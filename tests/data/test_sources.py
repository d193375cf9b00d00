from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from fedkd.data.catalogue import catalogue
from fedkd.data.sources import Source, locate, read_source
from fedkd.data.tables import Columns
from fedkd.errors import DataError

COLUMNS = Columns("text", "label", None)
ROWS = [("one", 0), ("two", 1), ("three", 1)]


def read(source: object, columns: Columns = COLUMNS) -> Source:
    (located,) = locate(source)  # type: ignore[arg-type]
    return read_source(located, columns, ("train", "test"))


def test_csv_jsonl_and_parquet_of_the_same_rows_read_the_same(tmp_path: Path, write) -> None:
    write("csv/train.csv", ROWS)
    frame = datasets.Dataset.from_list([{"text": t, "label": n} for t, n in ROWS])
    for kind in ("jsonl", "parquet"):
        (tmp_path / kind).mkdir()
    (tmp_path / "jsonl" / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in frame), encoding="utf-8"
    )
    frame.to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    tables = [read(str(tmp_path / kind)).tables["train"] for kind in ("csv", "jsonl", "parquet")]
    assert {table.text for table in tables} == {("one", "two", "three")}
    assert {tuple(int(v) for v in table.label or ()) for table in tables} == {(0, 1, 1)}


def test_words_that_look_like_missing_values_stay_text(write) -> None:
    path = write("a.csv", [("null", "NA"), ("1.0", "nan"), ('line\nbreak, "quoted"', "x")])
    table = read(str(path)).tables["train"]
    assert table.text == ("null", "1.0", 'line\nbreak, "quoted"')
    assert table.label == ("NA", "nan", "x")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nhello,0\n", encoding="utf-8-sig")
    assert read(str(path)).tables["train"].text == ("hello",)


def test_reading_leaves_nothing_on_the_disk(write, tmp_path: Path, monkeypatch) -> None:
    path = write("a.csv", ROWS)
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home")
    read(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_a_missing_column_lists_the_columns_there_are(write) -> None:
    path = write("a.csv", ROWS, header=("sentence", "stars"))
    with pytest.raises(DataError, match=r"data\.text='text'.*sentence, stars"):
        read(str(path))
    with pytest.raises(DataError, match=r"data\.domain='place'.*sentence, stars"):
        read(str(path), Columns("sentence", "stars", "place"))


def test_empty_text_is_dropped_and_its_rows_are_named(write) -> None:
    source = read(str(write("a.csv", [("one", 0), ("  ", 1), ("three", 1), ("", 0)])))
    assert source.tables["train"].text == ("one", "three")
    assert source.tables["train"].number == (1, 3)
    (warning,) = source.warnings
    assert warning.startswith("2 rows") and "2, 4" in warning


@pytest.mark.parametrize("content", ["", "text,label\n", "text,label\n,0\n"])
def test_a_source_without_text_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"Expected .* Try "):
        read(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text,label\nna\xefve,0\n"),
        ("a.csv", b"text,label\na,0\nb,1\nc,1,2,3\n"),
        ("a.jsonl", b"{not json"),
        ("a.parquet", b"no parquet"),
    ],
)
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"be readable"):
        read(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv' to exist"):
        read({"train": str(tmp_path / "gone.csv")})


def test_an_unknown_source_lists_what_is_known() -> None:
    with pytest.raises(DataError, match=r"'nosuch'.*generated:moods.*amazon_stars"):
        locate("nosuch")
    with pytest.raises(DataError, match="generated:moods"):
        locate("generated:dreams")


def test_a_folder_needs_one_train_file(tmp_path: Path, write) -> None:
    write("a/test.csv", ROWS)
    with pytest.raises(DataError, match=r"train\.csv.*test\.csv"):
        locate(str(tmp_path / "a"))
    write("a/train.csv", ROWS)
    (tmp_path / "a" / "train.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"'train\.csv', 'train\.jsonl'"):
        locate(str(tmp_path / "a"))


def test_a_path_is_relative_to_the_current_directory(tmp_path: Path, write, monkeypatch) -> None:
    write("meld/train.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    assert read("./meld").tables["train"].text == ("one", "two", "three")


def test_sources_of_one_name_are_told_apart(tmp_path: Path, write) -> None:
    for parent in ("a", "b"):
        write(f"{parent}/hospital/train.csv", ROWS)
    found = locate([str(tmp_path / p / "hospital") for p in ("a", "b")])
    assert [one.name for one in found] == ["hospital-1", "hospital-2"]


def test_the_catalogue_finds_its_folder_by_the_variable(tmp_path: Path, write, monkeypatch) -> None:
    write("sst5/train.csv", ROWS)
    monkeypatch.setenv("FEDKD_DATA", str(tmp_path))
    source = read("sst5")
    assert source.labels == catalogue()["sst5"].labels
    assert source.tables["train"].origin == "sst5/train.csv"
    assert source.values is not None and source.values["very negative"] == (-2.0,)


def test_a_catalogue_set_that_is_not_at_hand_says_what_to_fetch(monkeypatch) -> None:
    monkeypatch.delenv("FEDKD_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        locate("meld")
    for part in ("train.csv", "text, label", "FEDKD_DATA", "declare-lab/MELD", "path"):
        assert part in str(caught.value)


@pytest.mark.parametrize("spec", ["hub:nobody/nothing@v1", "sst5"])
def test_a_hub_out_of_reach_says_how_to_go_on(spec: str, monkeypatch) -> None:
    monkeypatch.delenv("FEDKD_DATA", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"no route to host.*train\.csv"):
        read(spec)


def test_a_hub_set_brings_its_label_names(monkeypatch) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    asked = []

    def answer(name: str, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, revision))
        return datasets.DatasetDict({"train": rows, "test": rows, "unsupervised": rows})

    monkeypatch.setattr(datasets, "load_dataset", answer)
    source = read("hub:owner/name@abc")
    assert asked == [("owner/name", "abc")]
    assert source.labels == ("no", "yes") and source.name == "name"
    assert set(source.tables) == {"train", "test"} and source.tables["train"].label == (1, 0)


def test_labels_json_belongs_to_the_column_label(tmp_path: Path, write) -> None:
    write("a/train.csv", [("one", 0, 1)], header=("text", "label", "mood"))
    (tmp_path / "a" / "labels.json").write_text('["no", "yes"]', encoding="utf-8")
    folder = str(tmp_path / "a")
    assert read(folder).labels == ("no", "yes")
    assert read(folder, Columns("text", "mood", None)).labels is None
    (tmp_path / "a" / "labels_mood.json").write_text('["sad", "glad"]', encoding="utf-8")
    assert read(folder, Columns("text", "mood", None)).labels == ("sad", "glad")
    (tmp_path / "a" / "labels.json").write_text('["no", "no"]', encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.json"):
        read(folder)


def test_every_entry_of_the_catalogue_hangs_together() -> None:
    for name, entry in catalogue().items():
        assert len(set(entry.labels)) == len(entry.labels) > 1, name
        assert entry.columns[:2] == ("text", "label") and entry.where and entry.licence, name
        assert entry.values is None or len(entry.values) == len(entry.labels), name
        assert entry.coordinates is None or set(entry.coordinates) == set(entry.labels), name
        assert "train" in entry.files and not entry.folder.startswith("/"), name
        assert entry.revision is None or len(entry.revision) == 40, name


def test_the_catalogue_agrees_with_the_real_folders(real_data: Path) -> None:
    folders = {path.name for path in real_data.iterdir() if path.is_dir()}
    assert folders <= {entry.folder for entry in catalogue().values()}
    for entry in catalogue().values():
        if entry.folder not in folders:
            continue
        folder = real_data / entry.folder
        names = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        assert tuple(names) == entry.labels
        header = (folder / entry.files["train"]).read_text(encoding="utf-8").splitlines()[0]
        assert tuple(header.split(",")) == entry.columns
        meta = folder / "label_meta.json"
        if meta.is_file():
            held = json.loads(meta.read_text(encoding="utf-8"))
            points = {k: tuple(v) for k, v in held.get("coordinates", {}).items()}
            assert tuple(held.get("positions", ())) == (entry.values or ())
            assert points == (entry.coordinates or {})
