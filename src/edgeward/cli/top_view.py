"""The live view of `edgeward top`: one screen of text that follows the frames, on any terminal."""

import os
import sys
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style as TerminalStyle
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Region, Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from edgeward.cli.frames import Frames
from edgeward.cli.top_text import Line, plain, screen, speaks_unicode
from edgeward.kit.errors import EdgewardError, Failed
from edgeward.records.watch import Frame

_STYLES = {name: TerminalStyle.parse(name) for name in ("bold", "dim")}
_STYLES |= {"": TerminalStyle(), "alarm": TerminalStyle.parse("bold red")}
_KEYS = "q quit  ? help  t all threads  space hold"
_HELP = """\
q, Ctrl-C   quit
?           this help; any key closes it
t           all threads, or the busy ones
space       hold the picture, or go on
↑ ↓ PgUp PgDn Home End   scroll

/s          answers and refusals a second, in this interval
p50 p95 p99 of the latest answers, 1024 at most
queue       requests that wait for the one that runs
drops       told to come back later, since the start
errors      all that failed, drops among them
PSS         memory, what is shared counted by its share
waits for   part of the last 10 s in which some task had
            to wait for it
"""


class Help(ModalScreen[None]):
    """What keys and columns mean."""

    def __init__(self, *, unicode: bool) -> None:
        super().__init__()
        self._unicode = unicode

    def compose(self) -> ComposeResult:
        yield Static(_HELP if self._unicode else plain(_HELP.replace("↑ ↓", "Up Down")), markup=False, id="help")

    def on_key(self) -> None:
        self.dismiss()


class Picture(ScrollView, can_focus=True):
    """Lines of text that scroll. Only those that changed are drawn anew: a serial console is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def draw(self, lines: list[Line]) -> None:
        """From now on `lines` stand there."""
        before, self.lines = self.lines, lines
        if len(before) != len(lines):
            self.virtual_size = Size(self.size.width, len(lines))
            self.refresh()
            return
        changed = [at for at, line in enumerate(lines) if line != before[at]]
        if changed:
            top, width = self.scroll_offset.y, self.size.width
            self.refresh(*(Region(0, at - top, width, 1) for at in changed))

    def render_line(self, y: int) -> Strip:
        at, width = y + self.scroll_offset.y, self.size.width
        text, style = self.lines[at] if at < len(self.lines) else Line("")
        return Strip([Segment(text[:width].ljust(width), _STYLES[style])], width)


class Top(App[None]):
    """Shows each frame as it comes. `problem` is why the frames ended, where that was no wish of the person's."""

    ENABLE_COMMAND_PALETTE = False
    # The terminal's own colours, and nothing that moves: a serial console has neither many nor much time.
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #title, #keys { height: 1; text-style: reverse; }
    Picture { height: 1fr; background: ansi_default; scrollbar-size-vertical: 1; }
    Help { align: center middle; background: ansi_default; }
    #help { width: 64; max-width: 100%; height: auto; max-height: 100%; border: ascii ansi_default; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", priority=True),
        Binding("question_mark", "help", "help"),
        Binding("t", "threads", "all threads"),
        Binding("space", "hold", "hold"),
    ]

    def __init__(self, frames: Frames, host: str | None, interval_s: float, count: int | None) -> None:
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.problem: EdgewardError | None = None
        self._frames = frames
        self._where = f"on {host}" if host else "here"
        self._host = host
        self._interval_s = interval_s
        self._left = count
        self._frame: Frame | None = None
        self._held = False
        self._all_threads = False
        self._unicode = speaks_unicode(sys.stdout.encoding, os.environ)

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        yield Picture()
        yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Picture).focus()
        self._say_keys()
        self.query_one("#title", Static).update(f" edgeward top: looking at {self._host or 'this machine'}")
        self.run_worker(self._follow, thread=True, exit_on_error=False)

    def on_resize(self, _: Resize) -> None:
        self._show()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            known = isinstance(error, EdgewardError)
            self.problem = error if known else Failed(f"{type(error).__name__}: {error}")  # type: ignore[assignment]
        if event.state in (WorkerState.ERROR, WorkerState.SUCCESS):
            self.exit()

    def _follow(self) -> None:
        for frame in self._frames:
            if not self.is_running:
                return
            self.call_from_thread(self._take, frame)
            if self._left == 0:
                return

    def _take(self, frame: Frame) -> None:
        if self._left is not None:
            self._left -= 1
        if not self._held:
            self._frame = frame
            self._show()

    def _show(self) -> None:
        if self._frame is None:
            return
        width = self.size.width
        told = screen(self._frame, width - 1, all_threads=self._all_threads, where=self._where)
        if not self._unicode:
            told = [Line(plain(line.text), line.style) for line in told]
        self.query_one(Picture).draw(told)
        self.query_one("#title", Static).update(self._title(self._frame, width), layout=False)

    def _title(self, frame: Frame, width: int) -> str:
        left = f" edgeward top · {frame.machine.hostname}"
        right = f"{frame.at:%H:%M:%S} UTC, {'held' if self._held else f'every {self._interval_s:g} s'} "
        text = left.ljust(width - len(right))[: width - len(right)] + right
        return text if self._unicode else plain(text)

    def _say_keys(self) -> None:
        self.query_one("#keys", Static).update(f" {_KEYS}")

    def action_help(self) -> None:
        self.push_screen(Help(unicode=self._unicode))

    def action_threads(self) -> None:
        self._all_threads = not self._all_threads
        self._show()

    def action_hold(self) -> None:
        self._held = not self._held
        self._show()


def run_live(frames: Frames, host: str | None, interval_s: float, count: int | None) -> None:
    """Until the person quits or `count` frames were shown. Raises what ended the frames before that."""
    app = Top(frames, host, interval_s, count)
    try:
        app.run(mouse=False)
    finally:
        frames.close()
    if app.problem is not None:
        raise app.problem
