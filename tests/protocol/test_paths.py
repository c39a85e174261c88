"""Deliverable paths as text: what leads out of the work dir is refused, however it is spelled."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, strategies as st

from optio_agents import relativize_deliverable_path, validate_deliverable_path

SEGMENTS = st.lists(st.sampled_from(["..", ".", "", "a", "deliverables", "w", "...", "ä b"]))
PATHS = st.builds(
    lambda root, parts: root + "/".join(parts), st.sampled_from(["", "/w/"]), SEGMENTS
)


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("deliverables/a.txt", "/w/deliverables/a.txt"),
        ("./deliverables//x/../a.txt", "/w/deliverables/a.txt"),
        ("/w/deliverables/a.txt", "/w/deliverables/a.txt"),
        ("//w/a", "/w/a"),
        ("../w/a", "/w/a"),
        ("...", "/w/..."),
    ],
)
def test_a_path_inside_comes_back_absolute_and_normalised(path: str, absolute: str) -> None:
    assert validate_deliverable_path(path, "/w") == absolute
    assert validate_deliverable_path(path, "//w/x/..") == absolute


@pytest.mark.parametrize(
    "path", ["..", "../x", "/etc/passwd", "a/../../x", "/w2", "/w/../w2/x", "a\0b"]
)
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"leads out|named"):
        validate_deliverable_path(path, "/w")


def test_the_root_directory_may_be_a_work_dir() -> None:
    assert validate_deliverable_path("a", "/") == "/a"
    assert relativize_deliverable_path("/deliverables/a", "/") == "a"


def test_a_relative_work_dir_starts_from_here() -> None:
    assert validate_deliverable_path("a", "w") == str(Path.cwd() / "w/a")
    assert relativize_deliverable_path(str(Path.cwd() / "w/deliverables/a/b"), "w") == "a/b"


@pytest.mark.parametrize(
    "path",
    ["/w/deliverables", "/w/deliverables/", "/w/a", "/w/deliverables/../a", "deliverables/a", ""],
)
def test_only_what_is_inside_the_deliverables_has_a_relative_path(path: str) -> None:
    with pytest.raises(ValueError, match="not inside"):
        relativize_deliverable_path(path, "/w")


@given(PATHS)
def test_what_is_accepted_is_inside_and_stays_what_it_is(path: str) -> None:
    try:
        found = validate_deliverable_path(path, "/w")
    except ValueError:
        return
    assert PurePosixPath(found).is_relative_to("/w")
    assert ".." not in PurePosixPath(found).parts
    assert validate_deliverable_path(found, "/w") == found


@given(PATHS)
def test_a_relative_path_leads_back(path: str) -> None:
    try:
        relative = relativize_deliverable_path(path, "/w")
    except ValueError:
        return
    joined = f"/w/deliverables/{relative}"
    assert relativize_deliverable_path(joined, "/w") == relative
    assert joined == validate_deliverable_path(path, "/w")
