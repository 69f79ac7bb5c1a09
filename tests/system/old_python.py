"""A Debian 11 root with Python 3.9, a shell and nothing else, to be the device behind a real sshd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = "python3-minimal,libpython3.9-stdlib,base-files,dash"
_INSIDE = """#!/bin/sh
set -e
mount --rbind /proc {root}/proc
mount --rbind /dev {root}/dev
mount --rbind /sys {root}/sys
mount --bind {tmp} {root}/tmp
export HOME=/root TMPDIR=/tmp XDG_CACHE_HOME=/root/.cache PATH=/usr/sbin:/usr/bin:/bin
eval "exec chroot {root} $1"
"""


def missing() -> str | None:
    """Why no such root can be made here."""
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is missing: apt-get install mmdebstrap"
    if os.geteuid() != 0:
        return "only root can enter another root: run it as root"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    return None if tried.returncode == 0 else "a mount namespace cannot be made here: it takes CAP_SYS_ADMIN"


def make(folder: Path, tmp: Path) -> Path:
    """A new root in `folder`, about 75 MB, with `tmp` as its temporary folder; the command that enters it."""
    root = folder / "root"
    done = subprocess.run(
        ["mmdebstrap", "-q", "--variant=extract", f"--include={PACKAGES}", "bullseye", str(root)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no packages of Debian 11 can be had: {done.stderr.strip().splitlines()[-1]}")
    for name in ("proc", "sys", "dev", "root", "tmp"):
        (root / name).mkdir(exist_ok=True)
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    inside, enter = folder / "inside", folder / "enter"
    inside.write_text(_INSIDE.format(root=root, tmp=tmp))
    enter.write_text(f'#!/bin/sh\nexec unshare --mount {inside} "$SSH_ORIGINAL_COMMAND"\n')
    for script in (inside, enter):
        script.chmod(0o755)
    return enter
