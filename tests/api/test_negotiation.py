"""The headers Accept, Prefer and Range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.problems import RangeUnsatisfiable
from momalisa_api.web.routes.conditions import parse_range
from momalisa_api.web.routes.negotiation import preferred, waiting_s

OFFERED = ("image/gif", "video/mp4", "application/json")


@pytest.mark.parametrize(
    ("accept", "picked"),
    [
        (None, "image/gif"),
        ("", "image/gif"),
        ("*/*", "image/gif"),
        ("video/*", "video/mp4"),
        ("application/json, */*;q=0.1", "application/json"),
        ("image/gif;q=0, */*", "video/mp4"),
        ("IMAGE/GIF", "image/gif"),
        ("text/html", None),
        ("*/*;q=0", None),
    ],
)
def test_the_preferred_offer_is_picked(accept, picked):
    """More precise media ranges have priority over wider ones (RFC 9110)."""
    assert preferred(accept, OFFERED) == picked


@given(st.text(max_size=80))
def test_any_header_is_accepted(header):
    """Clients may send any text."""
    assert preferred(header, OFFERED) in (None, *OFFERED)
    assert 0 <= waiting_s(header) <= 25


@pytest.mark.parametrize(
    ("prefer", "seconds"), [("wait=20", 20), ("respond-async, wait=3", 3), ("wait=99", 25), ("wait=-1", 0), (None, 0)]
)
def test_prefer_sets_the_duration_of_a_long_poll(prefer, seconds):
    """At most 25 s: load balancers time out at 30 s."""
    assert waiting_s(prefer) == seconds


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_range_is_the_slice_it_names(size, first, last):
    """Compared with slicing itself."""
    content = range(size)
    wanted = content[first : last + 1]
    if first >= size:
        with pytest.raises(RangeUnsatisfiable):
            parse_range(f"bytes={first}-{max(first, last)}", size)
    elif last < first:
        assert parse_range(f"bytes={first}-{last}", size) is None
    else:
        assert parse_range(f"bytes={first}-{last}", size) == (wanted[0], wanted[-1])


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1"])
def test_a_header_that_is_not_one_range_of_bytes_is_ignored(header):
    """A server may always send the whole file."""
    assert parse_range(header, 100) is None
