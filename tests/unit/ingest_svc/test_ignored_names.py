import pytest

from ingest_svc.watching.ignored_names import IgnoredNames
from mesh.config import load_config
from mesh.problems import Invalid
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

SYSTEM = (
    "@eaDir",
    "@Recycle",
    "#recycle",
    "#RECYCLE",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "lost+found",
    "System Volume Information",
    "SYSTEM VOLUME INFORMATION",
    "FOUND.000",
    ".Trash-1000",
    ".snapshot",
    "~snapshot",
    "#snapshot",
    ".@__thumb",
    "__MACOSX",
)


@pytest.mark.parametrize("polling", [False, True])
async def test_system_folders_are_left_alone_at_any_depth(harness: IngestHarness, polling: bool) -> None:
    harness.settings |= {
        "ingest_polling": polling,
        "ingest_poll_seconds": 0.05,
        "ingest_ignore": ["Private*", "*.bak", "/door/tests/"],
    }
    more = ("private-yard", "PRIVATE", "door/tests", "door/tests/deep", "garage/x.BAK")
    folders = [*SYSTEM, *(f"door/{name}" for name in SYSTEM), *(f"door/a/{name}/b" for name in SYSTEM), *more]
    for index, folder in enumerate(folders[::2]):
        harness.drop(f"{folder}/{index}.jpg", jpeg(folder))
    async with harness.running():
        await until(lambda: harness.idle)
        for index, folder in enumerate(folders):
            harness.drop(f"{folder}/live{index}.jpg", jpeg(folder))
        for name in ("Thumbs.db", "SYNOPHOTO_THUMB_XL.jpg@SynoEAStream", "one.jpg.bak"):
            harness.drop(f"door/{name}", jpeg(name))
        harness.drop("door/a/recycle/one.jpg", jpeg("one"))
        harness.drop("yard/tests/two.jpg", jpeg("two"))
        await until(lambda: len(harness.paths) >= 2 and harness.idle)
    assert sorted(harness.paths) == ["door/a/recycle/one.jpg", "yard/tests/two.jpg"]
    assert harness.rejected == {}


async def test_a_folder_renamed_into_the_recycle_bin_and_back(harness: IngestHarness) -> None:
    harness.drop("door/day/one.jpg", jpeg("one"))
    async with harness.running():
        await until(lambda: harness.paths)
        (harness.root / "#recycle").mkdir()
        (harness.root / "door" / "day").rename(harness.root / "#recycle" / "day")
        harness.drop("#recycle/day/two.jpg", jpeg("two"))
        (harness.root / "#recycle" / "day").rename(harness.root / "door" / "again")
        await until(lambda: "door/again/two.jpg" in harness.paths)
        harness.drop("door/again/three.jpg", jpeg("three"))
        await until(lambda: "door/again/three.jpg" in harness.paths)


def test_names() -> None:
    ignored = IgnoredNames(["Time[12]", "yard/old*", "K\u00fcche"])
    for path in (
        "time1",
        "a/TIME2",
        "yard/old",
        "yard/older",
        ".x",
        "a/.x",
        "$RECYCLE.BIN",
        "a/lost+found",
        "Ku\u0308che",
    ):
        assert ignored.folder(path), path
    for path in ("time3", "a/yard/old", "yard", "found.1234", "recycle", "eaDir", "lost-found", "snapshot"):
        assert not ignored.folder(path), path
    for path in ("a/thumbs.DB", "x.part", "x.TMP", "time2", "yard/old.jpg"):
        assert ignored.file(path)
    for path in ("a/thumbs.jpg", "lost+found", "yard/new.jpg"):
        assert not ignored.file(path)


@pytest.mark.parametrize("pattern", ["/", "*", "a/../b", "**", "?*", "./a", "a//b"])
def test_a_pattern_that_means_everything_or_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid, match="LARES_INGEST_IGNORE"):
        load_config(ingest_ignore=[pattern])
