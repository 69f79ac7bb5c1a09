"""What is given back is what the kernel can fetch again."""

import subprocess
import sys

from edgeward.kit.memory import clean_mappings

SMAPS = """7f00-7f10 r-xp 00000000 08:01 77                         /usr/lib/libm.so
Rss:                  64 kB
Anonymous:             0 kB
7f10-7f20 r--p 00000000 08:01 77                         /usr/lib/libm.so
Anonymous:             4 kB
7f18-7f19 r--p 00000000 08:01 78                         /srv/model.tflite
Anonymous:             0 kB
7f20-7f30 rw-p 00000000 08:01 77                         /usr/lib/libm.so
Anonymous:             0 kB
7f30-7f40 r--p 00000000 00:00 0
Anonymous:             0 kB
7f40-7f50 r--s 00000000 00:01 9                          /memfd:x (deleted)
Anonymous:             0 kB
"""

ASK = """
import numpy, ssl
from edgeward.kit.memory import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1])

before = resident()
give_back()
print(before - resident(), numpy.linalg.inv(numpy.eye(3)).sum(), len(ssl.create_default_context().get_ciphers()) > 0)
"""


def test_only_a_librarys_bytes_that_nobody_changed_are_let_go() -> None:
    assert clean_mappings(SMAPS) == [(0x7F00, 0x7F10)]


def test_a_process_goes_on_with_less_memory() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    pages, total, ciphers = done.stdout.split()
    assert (total, ciphers) == ("3.0", "True")
    assert int(pages) > 500
