"""Figures as people read them, on a terminal and on a page alike."""


def milliseconds(value: float | None) -> str:
    """ "0.23 ms", or microseconds below a tenth of one."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} µs" if value < 0.1 else f"{value:.3g} ms"


def size(value: float | None) -> str:
    """ "124 kB" """
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
