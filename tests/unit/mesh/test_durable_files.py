from pathlib import Path

from mesh.durable_files import write_private


def test_secrets_are_for_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    (tmp_path / "secret.part").write_text("left by a kill")
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
