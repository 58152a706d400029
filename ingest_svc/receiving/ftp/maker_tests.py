"""The files that cameras send when somebody presses `Test` in their settings. They are no media, and nobody
wants to see them as rejections."""

import re

from ingest_svc.formats.signature import FileFamily, signature

MAX_BYTES = 4096
# Dahua, Amcrest and Lorex: `DahuaFtpTest.txt`, `ftp_test`; Hikvision: `test.txt`, `hik_test`, `test.hik`;
# Reolink: `ReolinkTest.txt`, `test_ftp`; Foscam: `Test.txt`, `foscam_test`; Axis: `axis_test.txt`; Uniview:
# `uniview_test`, `testFtp`; Vivotek: `ftptest.txt`; Bosch: `test.bin`; TP-Link, D-Link: `testfile`,
# `ftptestfile`; Hanwha: `wisenet_test`; Mobotix: `mx_test`; Panasonic: `FTPTEST`.
_NAMES = re.compile(r"test|^(check|probe|verify|hello|dummy)[^a-z]*(\.\w+)?$", re.IGNORECASE)


def is_maker_test(name: str, size: int, head: bytes) -> bool:
    """`head` is how the content begins, all of it if it is short. What may be a photo or a clip is none."""
    if size > MAX_BYTES or _NAMES.search(name) is None:
        return False
    return signature(head).family is FileFamily.UNKNOWN
