from pathlib import Path

import pytest

from landmark_retrieval.runtime.files import whole_file


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.txt"
    for text in ("one", "two"):
        with whole_file(file) as temporary:
            temporary.write_text(text)
            assert not file.exists() or file.read_text() == "one"
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("old")
    with pytest.raises(ValueError, match="half"), whole_file(file) as temporary:
        temporary.write_text("ne")
        raise ValueError("half")
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
