"""Archives that are the same bytes whenever they are written."""

import tarfile
from pathlib import Path

from edgeward.kit.codec import digest_of
from edgeward.kit.tars import EPOCH, Entry, gz, tar, tar_gz

ENTRIES = [Entry("opt/b/tool", b"#!/bin/sh\n", 0o755), Entry("opt/a.txt", b"a"), Entry("opt/b/link", link="tool")]


def test_the_order_and_the_moment_of_writing_do_not_matter(tmp_path: Path) -> None:
    assert tar(ENTRIES) == tar(reversed(ENTRIES))
    one, other = tar_gz(ENTRIES, tmp_path / "one"), tar_gz(iter(ENTRIES[::-1]), tmp_path / "other")
    assert (one.digest, one.inner) == (digest_of(one.path.read_bytes()), digest_of(tar(ENTRIES)))
    assert one[1:] == other[1:]
    assert one.path.read_bytes() == gz(tar(ENTRIES))


def test_folders_come_before_what_is_in_them_and_all_is_roots(tmp_path: Path) -> None:
    with tarfile.open(tar_gz(ENTRIES, tmp_path / "a.tar.gz").path) as archive:
        members = archive.getmembers()
    assert [one.name for one in members] == ["opt", "opt/a.txt", "opt/b", "opt/b/link", "opt/b/tool"]
    assert {(one.uid, one.gid, one.mtime) for one in members} == {(0, 0, EPOCH)}
    assert [oct(one.mode) for one in members if one.isfile()] == ["0o644", "0o755"]
