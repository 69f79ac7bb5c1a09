"""Names for threads, as the kernel and its tools show them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OWN = Path("/proc/thread-self/comm")


def name_this(name: str) -> None:
    """This thread is called `name`, of which the kernel keeps 15 bytes."""
    with suppress(OSError):
        _OWN.write_bytes(name.encode()[:15])


@contextmanager
def named(name: str) -> Iterator[None]:
    """Threads that start within the `with`, from this one, are called `name`: a runtime's own have no other way."""
    before = None
    with suppress(OSError):
        before = _OWN.read_text().strip()
    name_this(name)
    try:
        yield
    finally:
        if before is not None:
            name_this(before)
