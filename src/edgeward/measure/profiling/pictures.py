"""A page's picture as a file of its own: with the page's style, and a ground to stand on."""

from edgeward.measure.profiling.page import css


def alone(drawn: str) -> str:
    """Opens in a browser or an image viewer as it looks on the page, light or dark."""
    start = drawn.index(">") + 1
    style = "\n".join(line for line in css().splitlines() if not line.startswith("body"))
    ground = '<rect x="-12" y="-12" width="120%" height="120%" fill="var(--card)"/>'
    return (
        f"{drawn[:start]}<style>{style}\nsvg {{ font-family: system-ui, sans-serif; }}</style>{ground}{drawn[start:]}"
    )
