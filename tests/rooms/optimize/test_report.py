"""The page of `edgeward optimize`: whole, alone, honest about every outcome, and safe with any name."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace
from report_sample import BASE_QUALITY, explained, failed, forecast, layers, report, trial, trials

from edgeward.optimize.report import summary_lines, to_html
from edgeward.records.candidate import Report, Trial, Violation
from edgeward.records.target import Budget

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Reads a page and fails on a tag that is not closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def leave_it() -> Report:
    given = trials()[0]
    return report(
        (replace(given, violations=()), trial("float32", 0.24, 0.0, 121_900)),
        chosen=replace(given, violations=()), reason="leave it as it is: none of 1 candidates is faster here",
    )  # fmt: skip


def as_mse(tried: Trial) -> Trial:
    score = 0.0123 * (1 + (tried.quality_drop or 0.0))
    return replace(tried, quality={} if tried.failure else {"mse": score})


def crowd() -> tuple[Trial, ...]:
    many = (
        trial(f"int8-variant-{index}-with-a-rather-long-name", 0.12 + index * 0.001, 0.0003 * index, 33_000)
        for index in range(29)
    )
    return (trials()[0], *many)


def hopeless() -> tuple[Trial, ...]:
    lost = trial("int8-broken", 0.12, 0.7, 30_000, quality_drop_ci=(0.69, 0.71))
    without_bound = trial("int8-bound", 0.12, 0.02, 30_000, quality_drop=float("inf"), quality_drop_ci=None)
    return (*trials(), lost, without_bound)


REPORTS = {
    "usual": report(),
    "nothing chosen": report(
        trials()[:2], chosen=None, nearest="float32", reason="no candidate kept the limits", pareto=()
    ),
    "nothing ran": report(
        (failed("as-given", "out of memory"), failed("float32", "out of memory")),
        chosen=None, reason="no candidate ran",
    ),
    "leave it": leave_it(),
    "one trial": report(trials()[:1], chosen=trials()[0], reason="leave it as it is: nothing else was tried"),
    "thirty trials": report(crowd(), chosen=crowd()[1], reason="the fastest of 29 that kept top1 within 0.01"),
    "hopeless ones": report(hopeless()),
    "error metric": report(
        tuple(map(as_mse, trials())), metric="mse", chosen=as_mse(trials()[2]), baseline=as_mse(trials()[0])
    ),
    "no loss allowed": report(max_drop=0.0, budget=Budget()),
    "perfect error": report(
        tuple(replace(t, quality={"mse": 0.0}, quality_drop=0.0, quality_drop_ci=(0.0, 0.0)) for t in trials()[:4]),
        metric="mse", chosen=None, nearest=None,
    ),
    "one constant time": report(tuple(replace(t, latency_histogram=(0.2,) * 100) for t in trials()[:4])),
    "with layers": explained(),
    "layers of a model that was left as it is": replace(leave_it(), layers=layers(), chosen_layers=layers()),
    "very many layers": explained(layers=layers(300)),
    "nothing to forecast from": explained(forecast=replace(forecast(), runtimes=(), layers=())),
    "unknown metric": report(metric="of-a-newer-edgeward"),
}  # fmt: skip


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS.keys())
def test_every_outcome_is_a_whole_page_that_needs_no_other_host(made: Report) -> None:
    html = to_html(made)
    page = Page(html)
    assert {"script", "link", "img", "iframe"} & set(page.tags) == set()
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in html
    assert "url(" not in html
    assert len(html.encode()) < (150_000 if len(made.trials) <= 12 and len(made.layers) <= 50 else 500_000)


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS.keys())
def test_every_drawing_is_sound_named_and_free_of_numbers_that_are_none(made: Report) -> None:
    for drawing in re.findall(r"<svg.*?</svg>", to_html(made), re.DOTALL):
        root = ElementTree.fromstring(drawing)
        assert root[0].tag.endswith("title")
        assert root[1].tag.endswith("desc")
        for element in root.iter():
            for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "width", "height"):
                assert not re.search(r"nan|inf|None", element.get(name, ""))
        assert all(float(rect.get("width", 0)) >= 0 for rect in root.iter("{http://www.w3.org/2000/svg}rect"))


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS.keys())
def test_every_trial_and_every_failure_is_told(made: Report) -> None:
    told = "".join(Page(to_html(made)).words)
    for tried in made.trials:
        assert tried.recipe in told
        assert tried.failure is None or tried.failure in told
    assert "nan" not in re.findall(r"\b[a-z]+\b", told)


def test_what_comes_from_outside_stays_words() -> None:
    evil = "<script>alert(1)</script>\"'&"
    tried = tuple(replace(t, runtime=evil, notes=(evil,), failure=t.failure and evil) for t in trials())
    named = (*tried, trial(evil, 0.15, 0.002, 30_000))
    made = report(named, model=evil, target=evil, metric=evil, reason=evil, notes=(evil,), command=evil)
    html = to_html(replace(made, setting=replace(made.setting, cpu=evil, conditions=evil)))
    page = Page(html)
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_the_verdict_says_speed_size_and_quality_with_their_intervals() -> None:
    assert summary_lines(report())[0] == (
        "int8-u8s8-minmax is 1.79× as fast as your model here (95 % interval 1.75–1.83), 27 % of its size, and answers "
        "as well: top1 0.764 against 0.766 (drop 0.002, 95 % interval −0.001…0.005, gate 0.01)."
    )


def test_the_notes_follow_the_verdict() -> None:
    assert summary_lines(report(notes=("one", "two")))[1:] == ("one", "two")


def test_a_speed_that_may_be_noise_is_called_noise() -> None:
    tried = [replace(t, speedup_p50=1.01, speedup_ci=(0.99, 1.03)) for t in trials()]
    assert "within the noise: 1.01× (95 % interval 0.99–1.03)" in summary_lines(report(tuple(tried)))[0]


def test_a_speed_within_two_percent_is_a_tie_as_in_bench() -> None:
    tried = [replace(t, speedup_p50=1.015, speedup_ci=(1.011, 1.019)) for t in trials()]
    assert "as fast as your model here, within the noise" in summary_lines(report(tuple(tried)))[0]


def test_an_interval_that_reaches_over_the_gate_does_not_claim_as_well() -> None:
    tried = tuple(replace(t, quality_drop_ci=(-0.008, 0.012)) for t in trials())
    assert "answers as well as 4000 samples can tell" in summary_lines(report(tried))[0]


def test_the_reason_follows_the_verdict_once() -> None:
    chosen, leave = REPORTS["usual"], REPORTS["leave it"]
    for made in (chosen, leave):
        told = re.sub(r"<svg.*?</svg>", "", to_html(made), flags=re.DOTALL).casefold()
        assert told.count(made.reason.casefold()) == 1


def test_a_loss_that_is_surely_there_is_not_called_as_well() -> None:
    tried = tuple(replace(t, quality_drop_ci=(0.001, 0.005)) for t in trials())
    assert "answers almost as well" in summary_lines(report(tried))[0]


def test_without_a_choice_the_nearest_miss_is_named_with_what_it_missed() -> None:
    missed = Violation(limit="latency_p95_ms", allowed=0.1, measured=0.149)
    tried = tuple(replace(t, violations=(missed,)) for t in trials())
    made = report(tried, chosen=None, nearest="int8-u8s8-minmax")
    assert summary_lines(made)[0] == ("Nothing kept the limits; nearest: int8-u8s8-minmax, p95 0.149 ms over 0.100 ms.")


def test_an_error_metric_speaks_of_a_relative_rise_in_percent() -> None:
    made = REPORTS["error metric"]
    assert (
        "mse 0.01232 against 0.0123 (relative rise 0.2 %, 95 % interval −0.1 %…0.5 %, gate 1 %)"
        in summary_lines(made)[0]
    )
    html = to_html(made)
    assert "lower is better" in html
    assert "relative rise of mse, %" in html


def test_names_cut_short_are_told_apart_by_their_number_in_the_table() -> None:
    html = to_html(REPORTS["thirty trials"])
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    cut = [[said for said in re.findall(r"<text[^>]*>([^<]*)</text>", drawing) if "…" in said] for drawing in drawings]
    assert any(cut)
    for names in cut:
        assert len(set(names)) == len(names)


def test_a_hopeless_candidate_does_not_flatten_the_others() -> None:
    """The distance from the baseline to the gate stays well visible when another candidate lost 0.7."""
    html = to_html(report(hopeless()))
    wide = next(d for d in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "Latency and quality" in d)
    gate = float(re.search(r'<line[^>]*class="gate"[^>]*y1="([\d.]+)"', wide)[1])  # type: ignore[index]
    given = float(re.search(r'<circle[^>]*cy="([\d.]+)"[^>]*><title>your model', wide)[1])  # type: ignore[index]
    assert gate - given > 25


def test_no_two_labels_of_the_plot_share_their_place() -> None:
    for tried in (trials(), crowd(), hopeless()):
        html = to_html(report(tried))
        wide = next(d for d in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "Latency and quality" in d)
        boxes = []
        for element in ElementTree.fromstring(wide).iter("{http://www.w3.org/2000/svg}text"):
            if "label" not in element.get("class", "").split():
                continue
            width, x = 6.0 * len(element.text or ""), float(element.get("x", 0))
            left = {"start": x, "end": x - width, "middle": x - width / 2}[element.get("text-anchor", "start")]
            boxes.append((left, left + width, float(element.get("y", 0))))
        assert len(boxes) >= 2
        for index, (left, right, y) in enumerate(boxes):
            assert not any(left < r and le < right and abs(y - other) < 11 for le, r, other in boxes[index + 1 :])


def test_no_label_lies_across_the_gate() -> None:
    for made in (REPORTS["error metric"], report(hopeless()), report(crowd())):
        drawings = re.findall(r"<svg.*?</svg>", to_html(made), re.DOTALL)
        wide = ElementTree.fromstring(next(d for d in drawings if "Latency and quality" in d))
        lines = wide.iter("{http://www.w3.org/2000/svg}line")
        gate = next(float(e.get("y1", 0)) for e in lines if e.get("class") == "gate" and e.get("y1") == e.get("y2"))
        labels = [e for e in wide.iter("{http://www.w3.org/2000/svg}text") if "label" in e.get("class", "").split()]
        assert labels
        for label in labels:
            assert not float(label.get("y", 0)) - 9 < gate < float(label.get("y", 0)) + 2


def test_the_table_names_its_columns_and_rows_for_a_screen_reader() -> None:
    html = to_html(report())
    assert html.count('scope="row"') == sum(1 for tried in trials() if tried.failure is None)
    assert html.count('scope="col"') == 9


def test_the_page_tells_how_to_repeat_it_and_on_what() -> None:
    told = "".join(Page(to_html(report())).words)
    for fact in (
        "edgeward optimize keyword-spotting.onnx",
        "Platinum 8375C",
        "1 thread",
        "4000 samples",
        "4200 of each",
    ):
        assert fact in told
    assert f"{BASE_QUALITY:.3f}" in told


def test_the_forecast_stands_beside_what_was_measured() -> None:
    told = " ".join("".join(Page(to_html(explained())).words).split())
    assert "forecast 2.10× as fast as the model as given, 3.10× as its own float" in told
    assert "measured 2.20× as fast, 3.00× as its own float: litert-int8-minmax" in told
    assert "measured 1.40× as fast: int8-minmax, each alone, before it was stopped" in told
    assert "not forecast: openvino is not installed" in told


def test_a_layer_shows_its_time_in_both_models_its_forecast_and_its_noise() -> None:
    page = to_html(explained())
    first = page[page.index('<ol class="layers">') :].partition("</li>")[0]
    assert "block_0/Conv2D" in first
    assert "net/block_0/BiasAdd" not in first
    assert first.count("4 µs") == 2
    assert "1.3×" in first
    assert "38&nbsp;dB" in first


def test_the_noise_of_a_layer_is_marked_where_it_is_a_tenth_of_the_signal() -> None:
    assert re.findall(r'<span class="noisy">([^<]*)</span>', to_html(explained())) == ["12&nbsp;dB"]


def test_many_layers_are_a_click_away_and_none_is_lost() -> None:
    html = to_html(explained(layers=layers(300), chosen_layers=()))
    assert "<summary>276 layers more</summary>" in html
    assert html.count('<div class="layer">') == 300


def test_a_layer_with_any_name_is_only_text() -> None:
    strange = replace(layers()[0], name="<script>alert(1)</script>", placement='" onmouseover="alert(1)')
    page = Page(to_html(explained(layers=(strange,), chosen_layers=(strange,))))
    assert "script" not in page.tags
    assert "onmouseover" not in dict(page.attributes)


def test_what_was_left_out_is_told_once_for_all_with_the_same_reason() -> None:
    late = "left out: the time limit came first"
    html = to_html(report((*trials(), failed("litert-float32", late), failed("openvino-float32", late))))
    assert html.count(late) == 1
    assert "litert-float32, openvino-float32" in html


def test_the_steps_of_the_chosen_model_stand_with_what_they_said() -> None:
    chosen = replace(trials()[2], notes=("strip: stripped 10 of 20 bytes", "answers differ by at most 0.1"))
    words = Page(to_html(report(chosen=chosen))).words
    assert words.index("strip") < words.index("stripped 10 of 20 bytes") < words.index("answers differ by at most 0.1")
