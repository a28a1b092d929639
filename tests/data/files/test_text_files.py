"""Lists in every encoding that people's editors write."""

import os

import pytest

from data_utils.files.text_files import read_lines, read_table, readable


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_lists(tmp_path, encoding):
    (tmp_path / "train.txt").write_bytes(" Müller\r\n\r\nant \n".encode(encoding))
    assert read_lines(tmp_path / "train.txt") == ["Müller", "ant"]


def test_tables(tmp_path):
    (tmp_path / "a.csv").write_text("class,index\nMüller,1\n", encoding="utf-8-sig")
    assert read_table(tmp_path / "a.csv", "class") == [{"class": "Müller", "index": "1"}]
    for content in ("", "class\n", "class,index\nant\n", "name,index\nant,1\n"):
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(ValueError, match="a.csv is not a table with the columns class, index"):
            read_table(tmp_path / "a.csv", "class", "index")


def test_file_names_in_another_encoding():
    assert readable(os.fsdecode("Müller".encode("latin-1"))) == "Müller" == readable("Müller")
