from pathlib import Path

from ingest_svc.watching.open_files import open_for_writing


def test_a_file_is_open_for_writing_only_while_a_writer_has_it_open(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb"):
        assert open_for_writing(file)
    assert not open_for_writing(file)
    with file.open("rb"):
        assert not open_for_writing(file)
    assert not open_for_writing(tmp_path / "none")
