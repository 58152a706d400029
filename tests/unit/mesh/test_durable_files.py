from pathlib import Path

from mesh.durable_files import write_private


def test_only_the_owner_may_read_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    (tmp_path / "secret.part").write_text("left by a killed process")
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
