from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.serving.stops import StopMatcher

TEXT = st.text(alphabet="ab<|\n", max_size=30)
STOPS = st.lists(st.text(alphabet="ab<|\n", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    ends = [text.find(stop) for stop in stops if stop in text]
    return (text[: min(ends)], True) if ends else (text, False)


@given(TEXT, STOPS, st.data())
def test_any_cut_gives_the_text_before_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    matcher = StopMatcher(stops)
    out, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        out += matcher.feed(rest[:size])
        rest = rest[size:]
        if matcher.matched is not None:
            break
    wanted, stopped = expected(text, stops)
    assert (matcher.matched is not None) == stopped
    if stopped:
        # In pieces, the stop that is complete first wins; what came out is never more than the text before it.
        assert text.startswith(out + (matcher.matched or ""))
        assert all(stop not in out for stop in stops)
    else:
        assert out + matcher.flush() == wanted


def test_nothing_is_held_that_cannot_become_a_stop() -> None:
    matcher = StopMatcher(["Observation:"])
    assert matcher.feed("All is well. ") == "All is well. "
    assert matcher.feed("Obs") == ""
    assert matcher.feed("olete") == "Obsolete"


def test_without_stops_text_passes() -> None:
    assert StopMatcher(["", ""]).feed("anything") == "anything"
