"""Which models a login may use: asked, and kept for a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from types import SimpleNamespace

from optio_agents import model_probe
from tests.family.test_seeds import database
from tests.support.components import unavailable


class Agent:
    """Answers for each model as it is laid down: a text, an error, or nothing at all."""

    def __init__(self, **answers):
        self.answers, self.current_model_id, self.interrupted = answers, "before", []
        self.handlers = {"message": [], "event": []}

    def subscribe(self, kind, handler):
        self.handlers[kind].append(handler)
        return lambda: self.handlers[kind].remove(handler)

    def on_message(self, handler):
        return self.subscribe("message", handler)

    def on_event(self, handler):
        return self.subscribe("event", handler)

    async def send(self, text):
        assert text == model_probe.PROBE_QUESTION
        answer = self.answers.get(self.current_model_id)
        kind, value = ("event", answer) if isinstance(answer, dict) else ("message", answer)
        for handler in list(self.handlers[kind]) if answer is not None else ():
            handler(value)

    async def interrupt(self):
        self.interrupted.append(self.current_model_id)


def choose(agent, model):
    if model == "refused":
        raise OSError("no such model")
    agent.current_model_id = model


async def sounds_right(text, error):
    return error is None and "Budapest" in text


async def test_only_an_answer_makes_a_model_usable():
    agent = Agent(good="Budapest.", gated="Upgrade your plan", failing={"error": "x"})
    models, seen = ["good", "refused", "gated", "silent", "failing"], []
    usable = await model_probe.probe_models(
        agent,
        models,
        usable_check=sounds_right,
        set_model=choose,
        per_model_timeout=0.05,
        error_from_event=lambda event: event.get("error"),
        report=lambda *step: seen.append(step),
    )
    assert [model for model in models if usable[model]] == ["good"]
    assert agent.current_model_id == "before"
    assert agent.interrupted == ["silent"], "its late answer would count for the next"
    assert seen == [(number, 5, model) for number, model in enumerate(models, 1)]
    assert agent.handlers == {"message": [], "event": []}


async def test_a_probe_runs_as_a_task_of_its_own_and_its_failure_rules_out_nothing():
    if find_spec("optio_core") is None:
        unavailable("optio-core is not installed; ./tests/run installs it")
    started, published = [], []

    async def run(task):
        started.append(task)
        await task.execute(SimpleNamespace(publish_result=published.append))
        return SimpleNamespace(result=published[-1])

    ctx = SimpleNamespace(
        process_id="p", _child_counter={"next": 4}, run_child_task_with_result=run
    )

    async def probe(child):
        return {"m": True}

    async def failing(child):
        raise OSError

    assert await model_probe.run_probe_child(ctx, name="Checking", probe=probe) == {"m": True}
    assert (started[0].process_id, started[0].name) == ("p.model-probe-4", "Checking")
    assert await model_probe.run_probe_child(ctx, name="Checking", probe=failing) is None


async def test_what_was_found_is_kept_for_a_day():
    async with database() as db:
        at, found = datetime(2026, 7, 3, 12, tzinfo=UTC), {"a/b.c": True, "d": False}
        await model_probe.save_probe_cache(db, "p", "seed", found, suffix="_models", now=at)
        for hours, expected in (0, found), (23, found), (25, None):
            now = at + timedelta(hours=hours)
            kept = await model_probe.load_probe_cache(db, "p", "seed", suffix="_models", now=now)
            assert kept == expected
        assert await model_probe.load_probe_cache(db, "p", "other", suffix="_models") is None


def test_a_model_that_was_not_asked_stays_as_it_is():
    models = [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    shown = model_probe.apply_probe(models, {"a": True, "b": False}, reason="not in your plan")
    off = {"id": "b", "disabled": True, "disabledReason": "not in your plan"}
    assert shown == [{"id": "a", "disabled": False}, off, {"id": "c"}]
    assert model_probe.disabled_map({"a": True, "b": False}, "why") == {"b": "why"}


def test_a_finding_is_kept_only_where_the_login_has_a_name():
    assert model_probe.probe_cache_key("resolved", "configured") == "resolved"
    assert model_probe.probe_cache_key(None, "configured") == "configured"
    assert model_probe.probe_cache_key(None, lambda process: "one of a pool") is None
