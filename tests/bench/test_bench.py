"""The frame of the benchmarks judges what it is given."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import ModuleType

import pytest

from tests.bench import Comparison, Figure, Measure, Unavailable, measure, report


def test_every_benchmark_is_found() -> None:
    assert {"import", "parse", "teams"} <= set(measure.names())


def test_what_is_published_is_installed_only_when_asked_for() -> None:
    assert "teams" not in measure.names(asked=False)
    assert "team" in measure.names(asked=False)


def test_sides_take_turns_and_medians_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    order = list[str]()
    figures = [
        Figure("rate", ratio_at_least=2, ratio_at_most=2),
        Figure("ms", at_most=1, at_least=3),
    ]
    ours = _side(order, "ours", rate=[10, 4, 2], ms=[2, 2, 9])
    peer = _side(order, "peer", rate=[2, 2, 9], ms=[1, 1, 1])
    _install(monkeypatch, "two", Comparison(title="t", ours=ours, peer=peer, figures=figures))
    rate, ms = (results := measure.run(["two"], quick=False, rounds=3, within=5)).rows
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert (rate.ratio, rate.bars, rate.missed) == (2, ["≤ 2x", "≥ 2x"], [])
    assert (ms.ratio, ms.missed) == (2, ["≤ 1", "≥ 3"])
    text = report.markdown(results, judged=True)
    assert "holds" in text
    assert "missed" in text
    assert json.loads(report.as_json(results))["rows"][0]["ours"] == [10, 4, 2]


def test_what_breaks_or_is_missing_spoils_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    _install(monkeypatch, "broken", ZeroDivisionError("on purpose"))
    _install(monkeypatch, "absent", Unavailable("no such thing here"))
    alone = Comparison(
        title="t", ours=_side([], "ours", ms=[1]), figures=[Figure("ms", ratio_at_most=1)]
    )
    _install(monkeypatch, "fine", alone)
    results = measure.run(["broken", "absent", "fine"], quick=True, rounds=1, within=5)
    assert "on purpose" in results.broken["broken"]
    assert results.left_out == {"absent": "no such thing here"}
    assert results.rows[0].missed == ["≤ 1x"]  # without a peer no ratio holds
    assert "absent left out: no such thing here" in report.markdown(results, judged=False)
    monkeypatch.setenv("CI", "true")
    assert "absent" in measure.run(["absent"], quick=True, rounds=1, within=5).broken


def _side(order: list[str], name: str, **values: list[float]) -> Measure:
    rounds = zip(*values.values(), strict=True)

    async def measured() -> Mapping[str, float]:
        order.append(name)
        return dict(zip(values, next(rounds), strict=True))

    return measured


def _install(monkeypatch: pytest.MonkeyPatch, name: str, content: Comparison | Exception) -> None:
    @asynccontextmanager
    async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
        if isinstance(content, Exception):
            raise content
        yield [content]

    module = ModuleType(name)
    module.benchmark = benchmark  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    known = measure.modules  # each of these joins the ones before
    monkeypatch.setattr(measure, "modules", lambda: {**known(), name: name})
