"""Which videos are meant by files, folders and a list."""

import json

import pytest

from signstream.data.video_list import find_videos
from signstream.errors import UserError

ROWS = [
    {"name": "x", "text": "你好, 世界", "gloss": "HELLO WORLD", "signer": "S1", "split": "dev"},
    {"path": "in/b/x.mp4", "name": "second", "text": 'she said "no"'},
]


@pytest.fixture
def folder(tmp_path):
    for name in ("x.mp4", "y.MOV", "b/x.mp4", "b/notes.txt", ".hidden/z.mp4", "b/._x.mp4"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(videos):
    return {video.name: video.path.name for video in videos}


def test_a_folder_is_looked_through(folder):
    assert names(find_videos([folder / "in"])) == {"b_x": "x.mp4", "x": "x.mp4", "y": "y.MOV"}
    assert names(find_videos([folder])) == {"in_b_x": "x.mp4", "in_x": "x.mp4", "in_y": "y.MOV"}


def test_a_file_is_called_as_it_is_whatever_its_ending(folder):
    assert names(find_videos([folder / "in" / "b" / "notes.txt", folder / "in" / "x.mp4"])) == {
        **{"notes": "notes.txt", "x": "x.mp4"}
    }


def test_a_video_that_is_named_twice_is_one(folder):
    assert len(find_videos([folder / "in", folder / "in" / "b", folder / "in" / "x.mp4"])) == 3


def test_two_of_one_name_are_refused(folder):
    with pytest.raises(UserError, match=r"two videos are called 'x': .*in/x.mp4 and .*b/x.mp4; rename one"):
        find_videos([folder / "in" / "x.mp4", folder / "in" / "b"])


@pytest.mark.parametrize("inputs", [[], ["nothing.mp4"], ["empty"]])
def test_no_video_is_an_error(tmp_path, inputs):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no INPUT|there is no .*nothing.mp4|holds no video: files that end in .3gp"):
        find_videos([tmp_path / name for name in inputs])


def write_list(path, rows):
    columns = ["path", "name", "text", "gloss", "signer", "split"]
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
        return path
    quote = {".csv": lambda text: '"' + text.replace('"', '""') + '"', ".tsv": str}[path.suffix]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    between = "," if path.suffix == ".csv" else "\t"
    path.write_text("\ufeff" + "".join(between.join(map(quote, line)) + "\r\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json"])
def test_a_list_says_what_is_signed(folder, ending):
    found = {video.name: video for video in find_videos([folder / "in"], write_list(folder / f"list{ending}", ROWS))}
    assert names(found.values()) == {"x": "x.mp4", "second": "x.mp4", "y": "y.MOV"}
    assert found["x"][2:] == ("你好, 世界", "HELLO WORLD", "S1", "val") and found["x"].path == folder / "in" / "x.mp4"
    assert found["second"][2:] == ('she said "no"', "", "", "") and found["y"][2:] == ("",) * 4


def test_a_list_alone_names_its_videos(folder):
    listed = write_list(folder / "list.csv", [{"path": "in/y.MOV"}, {"path": "gone.mp4", "text": "a"}])
    assert names(find_videos([], listed)) == {"y": "y.MOV", "gone": "gone.mp4"}


def test_annotations_of_another_data_set_are_a_list(folder):
    path = folder / "annotations.json"
    path.write_text(json.dumps({"x": {"text": "hello", "gloss": ["A", "B"], "num_frames": 7, "signer": 3}}))
    (video,) = [video for video in find_videos([folder / "in"], path) if video.name == "x"]
    assert video[2:] == ("hello", "A B", "3", "")


def test_a_name_may_be_the_files_own(folder):
    found = find_videos([folder], write_list(folder / "list.json", [{"name": "y.MOV", "text": "why"}]))
    assert {video.name: video.text for video in found} == {"in_b_x": "", "in_x": "", "in_y": "why"}


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("list.txt", "", "a table that ends in .csv, .tsv or .json"),
        ("list.csv", "title,text\na,b\n", "line 2 has neither name nor path: its columns are 'title, text'"),
        ("list.csv", "name,text\nx,hello, you\n", "line 2 has more columns than the header"),
        ("list.csv", "name,split\nx,holdout\n", "line 2: the split is 'holdout': train, val, test"),
        ("list.csv", "name\nx\nx\n", "line 3 is of the same video as .*line 2"),
        ("list.csv", "name\nx.mp4\n", "several videos are called 'x.mp4': give their path too"),
        ("list.csv", b"name\n\xff\n", "cannot be read: 'utf-8'"),
        ("list.json", "[1]", "is expected"),
        ("list.json", "{", "cannot be read: Expecting"),
        ("list.json", '[{"path": "a\\u0000.mp4"}]', "entry 1: no file can be called "),
        ("list.json", '{"a\\ud800": {}}', "entry 1: no file can be called "),
        ("gone.csv", None, "cannot read --list .*gone.csv: No such file"),
    ],
)
def test_a_list_that_cannot_be_is_a_line(folder, file, content, says):
    if content is not None:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says):
        find_videos([folder / "in"], folder / file)


def test_blanks_in_a_header_are_no_part_of_a_columns_name(folder):
    (folder / "list.csv").write_text("name , text\nx, hello\n")
    assert {video.name: video.text for video in find_videos([folder / "in"], folder / "list.csv")}["x"] == "hello"


def test_a_name_without_a_video_stays_to_be_missed(folder):
    found = find_videos([folder / "in"], write_list(folder / "list.json", [{"name": "absent", "text": "a"}]))
    assert [video.path.exists() for video in found if video.name == "absent"] == [False]
