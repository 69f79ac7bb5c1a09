"""A Debian for aarch64 with nothing but Python, under user emulation, in namespaces of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

BINFMT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
PACKAGES = "python3-minimal,libpython3.11-stdlib,libgomp1,libstdc++6"
_INSIDE = """#!/bin/sh
set -e
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
cat {binfmt} > /proc/sys/fs/binfmt_misc/register
mount --rbind /proc {root}/proc
mount --rbind /dev {root}/dev
mount -t tmpfs none {root}/sys
mkdir -p {root}/sys/devices/system/cpu
for name in possible present online; do echo 0 > {root}/sys/devices/system/cpu/$name; done
export HOME=/root TMPDIR=/tmp XDG_CACHE_HOME=/root/.cache QEMU_CPU=cortex-a72 PATH=/usr/sbin:/usr/bin:/bin
eval "exec chroot {root} $1"
"""


def missing() -> str | None:
    """Why no such root can be made here."""
    if shutil.which("mmdebstrap") is None or not BINFMT.exists():
        return "mmdebstrap or qemu-user-static is missing: apt-get install mmdebstrap qemu-user-static"
    mount = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
    tried = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount], capture_output=True)
    if tried.returncode != 0:
        return "binfmt_misc cannot be mounted in a namespace of one's own: it takes Linux 6.7"
    return None


def make(folder: Path) -> Path:
    """A new root in `folder`, about 75 MB; returns the command that runs its one argument there."""
    root = folder / "root"
    done = subprocess.run(
        ["mmdebstrap", "-q", "--arch=arm64", "--variant=extract", f"--include={PACKAGES}", "bookworm", str(root)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no packages for arm64 can be had: {done.stderr.strip().splitlines()[-1]}")
    for name in ("proc", "sys", "dev", "root", "tmp"):
        (root / name).mkdir(exist_ok=True)
    inside, enter = folder / "inside", folder / "enter"
    inside.write_text(_INSIDE.format(binfmt=BINFMT, root=root))
    enter.write_text(f'#!/bin/sh\nexec unshare --user --map-root-user --mount {inside} "$SSH_ORIGINAL_COMMAND"\n')
    for script in (inside, enter):
        script.chmod(0o755)
    return enter
