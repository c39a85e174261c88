"""Which of the models that an agent offers its login may use: each is asked one easy question.

What was found is kept for a day in the deployment's database, per login (seed).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

PROBE_QUESTION = "What is the capital city of Hungary?"
PROBE_CACHE_TTL = timedelta(days=1)

_log = logging.getLogger(__name__)
_SETTLING = 5.0  # seconds that an interrupted answer may take to end


async def probe_models(
    conversation: Any,
    model_ids: Iterable[str],
    *,
    usable_check: Callable[[str, Any], Any],
    set_model: Callable[[Any, str], Any],
    question: str = PROBE_QUESTION,
    per_model_timeout: float = 30.0,
    error_from_event: Callable[[dict[str, Any]], Any] | None = None,
    report: Callable[[int, int, str], Any] | None = None,
) -> dict[str, bool]:
    """Ask each model *question*; True for those whose answer and error pass *usable_check*.

    A model that cannot be chosen, or says nothing for *per_model_timeout* seconds, is False; it is
    interrupted then, so that no late answer counts for the next. The model that was chosen before
    is chosen again, however this ends.
    """
    ids = list(model_ids)
    before = getattr(conversation, "current_model_id", None)
    usable = dict[str, bool]()
    try:
        for number, model in enumerate(ids, 1):
            try:
                await _result(set_model(conversation, model))
                async with asyncio.timeout(per_model_timeout):
                    found = await _answer(conversation, question, error_from_event)
                usable[model] = bool(await _result(usable_check(*found)))
            except TimeoutError:
                usable[model] = False
                with suppress(Exception):
                    async with asyncio.timeout(_SETTLING):
                        await conversation.interrupt()
            except Exception as error:
                _log.info("the model %s cannot be used: %s", model, type(error).__name__)
                usable[model] = False
            if report is not None:
                await _result(report(number, len(ids), model))
    finally:
        if before is not None:
            try:
                await asyncio.shield(
                    asyncio.ensure_future(_result(set_model(conversation, before)))
                )
            except Exception as error:
                _log.warning("%s could not be chosen again: %s", before, type(error).__name__)
    return usable


async def _answer(
    conversation: Any, question: str, error_from_event: Callable[[dict[str, Any]], Any] | None
) -> tuple[str, Any]:
    """What comes first: the text of the answer, or the error."""
    first: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()

    def settle(text: str, error: Any) -> None:
        if not first.done():
            first.set_result((text, error))

    def see(event: dict[str, Any]) -> None:
        if error_from_event is not None and (error := error_from_event(event)) is not None:
            settle("", error)

    leave = [conversation.on_message(lambda text: settle(text, None))]
    if error_from_event is not None:
        leave.append(conversation.on_event(see))
    try:
        await conversation.send(question)
        return await first
    finally:
        for unsubscribe in leave:
            unsubscribe()


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def run_probe_child(
    ctx: Any,
    *,
    name: str,
    description: str | None = None,
    probe: Callable[[Any], Awaitable[Any]],
) -> Any:
    """What *probe* finds, run as a task below that of *ctx*; None, and logged, where it fails."""
    from optio_core.models import TaskInstance  # it is the deployment's

    number = ctx._child_counter["next"]  # noqa: SLF001 - as the deployment counts its tasks

    async def execute(child: Any) -> None:
        child.publish_result(await probe(child))

    task = TaskInstance(
        execute=execute,
        process_id=f"{ctx.process_id}.model-probe-{number}",
        name=name,
        description=description,
    )
    try:
        return (await ctx.run_child_task_with_result(task)).result
    except Exception as error:
        _log.warning("%s failed, so no model is ruled out: %s", name, type(error).__name__)
        return None


def disabled_map(usable: Mapping[str, bool], reason: str) -> dict[str, str]:
    """*reason*, for each model that cannot be used."""
    return {model: reason for model, can in usable.items() if not can}


def apply_probe(
    models: Iterable[Mapping[str, Any]], usable: Mapping[str, bool], *, reason: str
) -> list[dict[str, Any]]:
    """*models* as they are shown to be chosen from, those that cannot be used disabled."""
    told = {
        model: {"disabled": False} if can else {"disabled": True, "disabledReason": reason}
        for model, can in usable.items()
    }
    return [{**one, **told.get(one.get("id", ""), {})} for one in models]


def probe_cache_key(resolved_seed_id: object, config_seed_id: object) -> str | None:
    """What a finding is kept under: the login's id; None where it may be another one next time."""
    return next((key for key in (resolved_seed_id, config_seed_id) if isinstance(key, str)), None)


async def load_probe_cache(
    db: Any, prefix: str, seed_id: str, *, suffix: str, now: datetime | None = None
) -> dict[str, bool] | None:
    """What was found for this login within a day; None if nothing was."""
    found = await db[f"{prefix}{suffix}"].find_one({"_id": seed_id})
    if not found or not isinstance(at := found.get("probedAt"), datetime):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)  # the database keeps UTC, without saying so
    usable = found.get("usable")
    fresh = (now or datetime.now(UTC)) - at < PROBE_CACHE_TTL
    return {str(model): bool(can) for model, can in usable.items()} if fresh and usable else None


async def save_probe_cache(
    db: Any,
    prefix: str,
    seed_id: str,
    usable: Mapping[str, bool],
    *,
    suffix: str,
    now: datetime | None = None,
) -> None:
    """Keep what was found for this login."""
    new = {"_id": seed_id, "usable": dict(usable), "probedAt": now or datetime.now(UTC)}
    await db[f"{prefix}{suffix}"].replace_one({"_id": seed_id}, new, upsert=True)
