"""What every store of a team's turns must do, as cases to run against yours.

    @pytest.mark.parametrize("case", TURN_STORE_CASES, ids=lambda case: case.__name__)
    async def test_my_store(case, tmp_path):
        await case(lambda: MyTurns(tmp_path / "turns"))

Each call of what you hand over gives another worker on the same turns, not yet opened. Those of
SHARED_STORE_CASES need two of them; a store that lives in one process has no use for these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from optio_agents.team.errors import Lost
from optio_agents.team.stores import Claim, Row, TurnStore

Make = Callable[[], TurnStore]
Case = Callable[[Make], Awaitable[None]]

TURN_STORE_CASES: list[Case] = []
SHARED_STORE_CASES: list[Case] = []
BOUND = 30.0  # seconds that anything here may take


@asynccontextmanager
async def _open(make: Make) -> AsyncIterator[TurnStore]:
    store = make()
    await store.open()
    try:
        async with asyncio.timeout(BOUND):
            yield store
    finally:
        await store.close()


def _case(test: Callable[[TurnStore], Awaitable[None]]) -> None:
    @wraps(test)
    async def case(make: Make) -> None:
        async with _open(make) as store:
            await test(store)

    TURN_STORE_CASES.append(case)


def _shared(test: Callable[[TurnStore, TurnStore], Awaitable[None]]) -> None:
    @wraps(test)
    async def case(make: Make) -> None:
        async with _open(make) as one, _open(make) as two:
            await test(one, two)

    SHARED_STORE_CASES.append(case)


def _row(id: str, name: str = "a", **more: Any) -> Row:  # noqa: A002
    parent = more.get("parent")
    root = more.pop("root", None) or (parent or id)
    return Row(id, name, {"text": id}, root=root, **more)


async def _claimed(store: TurnStore, row: Row) -> Claim:
    put = await store.put(row, claim=True)
    assert put.claim is not None
    return put.claim


async def _state(store: TurnStore, turn: str) -> str:
    return (await store.look(id=turn))[0].state


async def _refused(work: Awaitable[Any]) -> None:
    try:
        await work
    except Lost:
        return
    raise AssertionError("a stale claim was let through")


@_case
async def a_turn_is_kept_once(store: TurnStore) -> None:
    first = await store.put(_row("t", options={"n": 1}))
    second = await store.put(_row("t", options={"n": 2}))
    assert (first.new, second.new) == (True, False)
    assert second.row.options == {"n": 1}
    assert second.claim is None


@_case
async def a_new_turn_may_be_claimed_in_the_same_write(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    assert await store.claim(["a"], 10) == []
    assert claim.row.state == "running"
    assert claim.row.started is not None


@_case
async def a_turn_is_claimed_once_and_by_name(store: TurnStore) -> None:
    await store.put(_row("t"))
    assert await store.claim(["b"], 10) == []
    assert [claim.row.id for claim in await store.claim(["a", "b"], 10)] == ["t"]
    assert await store.claim(["a", "b"], 10) == []


@_case
async def the_oldest_are_claimed_first_and_no_more_than_asked_for(store: TurnStore) -> None:
    for number in range(5):
        await store.put(_row(f"t{number}"))
    assert [claim.row.id for claim in await store.claim(["a"], 2)] == ["t0", "t1"]
    assert [claim.row.id for claim in await store.claim(["a"], 9)] == ["t2", "t3", "t4"]


@_case
async def each_claim_has_a_later_epoch(store: TurnStore) -> None:
    first = await _claimed(store, _row("t"))
    await store.sleep(first, after=None, until=0.0)
    [second] = await store.claim(["a"], 10)
    assert second.epoch > first.epoch


@_case
async def the_first_record_wins(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    assert await store.record(claim, "k", {"n": [1]}) == {"n": [1]}
    assert await store.record(claim, "k", {"n": [2]}) == {"n": [1]}
    assert await store.record(claim, "other", None) is None


@_case
async def a_claim_brings_what_was_recorded_and_the_mail(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.record(claim, "k", 1)
    await store.post("t", {"message": "hi"}, key="m")
    await store.sleep(claim, after=None, until=0.0)
    [again] = await store.claim(["a"], 10)
    assert again.records == {"k": 1}
    assert [item["message"] for item in again.mail] == ["hi"]


@_case
async def an_ended_turn_is_over_for_good(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.end(claim, "completed", {"messages": ["x"]})
    [row] = await store.look(id="t")
    assert (row.state, row.result) == ("completed", {"messages": ["x"]})
    assert row.ended is not None
    await _refused(store.end(claim, "failed", {}))
    assert await store.claim(["a"], 10) == []


@_case
async def the_end_of_a_child_is_mail_of_its_parent(store: TurnStore) -> None:
    await _claimed(store, _row("p"))
    claim = await _claimed(store, _row("p.1", parent="p"))
    await store.end(claim, "failed", {})
    [item] = await store.mailbox("p")
    assert (item["end"], item["state"]) == ("p.1", "failed")


@_case
async def mail_is_numbered_and_the_same_key_is_the_same_item(store: TurnStore) -> None:
    await store.put(_row("t"))
    numbers = [await store.post("t", {"n": n}, key=k) for n, k in enumerate("abac")]
    assert numbers == [1, 2, 1, 3]
    assert [item["n"] for item in await store.mailbox("t")] == [0, 1, 3]


@_case
async def mail_for_nobody_is_an_error(store: TurnStore) -> None:
    try:
        await store.post("nobody", {}, key="k")
    except KeyError:
        return
    raise AssertionError("mail went to a turn that is not there")


@_case
async def a_sleeper_is_ready_when_its_time_has_come(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    due = time.time() + 0.3
    await store.sleep(claim, after=None, until=due)
    assert await store.claim(["a"], 10) == []
    found: list[Claim] = []
    while not found:
        await store.wait(5.0)
        found = await store.claim(["a"], 10)
    assert time.time() >= due


@_case
async def a_sleeper_is_ready_when_mail_comes(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.sleep(claim, after=0, until=None)
    assert await store.claim(["a"], 10) == []
    await store.post("t", {"n": 1}, key="k")
    assert len(await store.claim(["a"], 10)) == 1


@_case
async def mail_that_came_before_the_sleep_is_not_slept_over(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.post("t", {"n": 1}, key="k")
    await store.sleep(claim, after=0, until=None)
    assert len(await store.claim(["a"], 10)) == 1


@_case
async def mail_that_was_seen_wakes_nobody(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.post("t", {"n": 1}, key="k")
    await store.sleep(claim, after=1, until=None)
    assert await store.claim(["a"], 10) == []


@_case
async def a_sleeper_for_a_time_is_not_woken_by_mail(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.sleep(claim, after=None, until=time.time() + 60)
    await store.post("t", {"n": 1}, key="k")
    assert await store.claim(["a"], 10) == []


@_case
async def whoever_sleeps_may_write_no_more(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    await store.sleep(claim, after=0, until=None)
    await _refused(store.record(claim, "k", 1))
    await _refused(store.end(claim, "completed", {}))
    await _refused(store.sleep(claim, after=0, until=None))


@_case
async def children_that_end_at_once_wake_their_parent(store: TurnStore) -> None:
    parent = await _claimed(store, _row("p"))
    claims = [await _claimed(store, _row(f"p.{n}", "c", parent="p")) for n in range(20)]
    await store.sleep(parent, after=19, until=None)
    await asyncio.gather(*(store.end(claim, "completed", {}) for claim in claims))
    [again] = await store.claim(["a"], 10)
    assert len(again.mail) == 20


@_case
async def cancelling_takes_the_whole_subtree(store: TurnStore) -> None:
    await _claimed(store, _row("p"))
    running = await _claimed(store, _row("p.1", parent="p"))
    await store.put(_row("p.1.1", "c", parent="p.1", root="p"))
    done = await _claimed(store, _row("p.1.2", "c", parent="p.1", root="p"))
    await store.end(done, "completed", {})
    assert set(await store.cancel("p.1")) == {"p.1", "p.1.1"}
    assert await _state(store, "p") == "running"
    assert await _state(store, "p.1.2") == "completed"
    await _refused(store.record(running, "k", 1))
    assert await store.claim(["a", "c"], 10) == []


@_case
async def nobody_is_called_for_a_turn_that_was_cancelled(store: TurnStore) -> None:
    await _claimed(store, _row("p"))
    kept = await store.put(_row("p.1", parent="p", root="p"))
    assert kept.new
    await store.cancel("p")
    await _refused(store.put(_row("p.2", parent="p", root="p"), claim=True))
    assert [row.id for row in await store.look()] == ["p", "p.1"]
    assert not (await store.put(_row("p.1", parent="p", root="p"))).new


@_case
async def a_parent_hears_that_its_child_was_cancelled(store: TurnStore) -> None:
    parent = await _claimed(store, _row("p"))
    await store.put(_row("p.1", "c", parent="p"))
    await store.sleep(parent, after=0, until=None)
    await store.cancel("p.1")
    [again] = await store.claim(["a"], 10)
    assert [item["state"] for item in again.mail] == ["cancelled"]


@_case
async def a_worker_hears_of_mail_and_cancellation(store: TurnStore) -> None:
    first = await _claimed(store, _row("t1"))
    second = await _claimed(store, _row("t2"))
    await store.post("t1", {"n": 1}, key="k")
    await store.cancel("t2")
    await store.wait(5.0)
    news = await store.beat([first, second])
    assert [item["n"] for item in news.mail["t1"]] == [1]
    assert news.cancelled == ["t2"]
    assert news.lost == []


@_case
async def a_watcher_hears_of_an_end(store: TurnStore) -> None:
    claim = await _claimed(store, _row("t"))
    assert (await store.beat([], ["t", "nobody"])).over == []
    await store.end(claim, "completed", {"messages": []})
    assert [row.id for row in (await store.beat([], ["t"])).over] == ["t"]


@_case
async def turns_of_a_shared_participant_run_one_by_one(store: TurnStore) -> None:
    for number in range(3):
        await store.put(_row(f"t{number}", "s"))
    for number in range(3):
        [claim] = await store.claim(["s"], 10, shared=["s"])
        assert claim.row.id == f"t{number}"
        assert await store.claim(["s"], 10, shared=["s"]) == []
        await store.end(claim, "completed", {})


@_case
async def rows_are_found_by_what_they_are(store: TurnStore) -> None:
    await _claimed(store, _row("p"))
    await store.put(_row("p.1", "c", parent="p", options={"deep": {"n": [1, None]}}))
    await store.put(_row("q", "c"))
    assert [row.id for row in await store.look(root="p")] == ["p", "p.1"]
    assert [row.id for row in await store.look(name="c")] == ["p.1", "q"]
    assert [row.id for row in await store.look(states=["running"])] == ["p"]
    [row] = await store.look(id="p.1")
    assert (row.parent, row.options) == ("p", {"deep": {"n": [1, None]}})
    assert await store.look(id="nobody") == []


async def what_a_worker_leaves_is_ready_for_others(make: Make) -> None:
    store = make()
    await store.open()
    await _claimed(store, _row("t"))
    await store.close()
    if store.durable:
        async with _open(make) as other:
            assert [claim.row.id for claim in await other.claim(["a"], 10)] == ["t"]


TURN_STORE_CASES.append(what_a_worker_leaves_is_ready_for_others)


@_case
async def waiting_ends_when_something_is_ready(store: TurnStore) -> None:
    await store.wait(0.0)
    waiting = asyncio.ensure_future(store.wait(20.0))
    await asyncio.sleep(0)
    began = time.monotonic()
    await store.put(_row("t"))
    await waiting
    assert time.monotonic() - began < 10


@_shared
async def two_workers_share_the_turns_and_take_none_twice(one: TurnStore, two: TurnStore) -> None:
    for number in range(40):
        await one.put(_row(f"t{number}"))
    found: list[str] = []
    while len(found) < 40:
        both = await asyncio.gather(one.claim(["a"], 3), two.claim(["a"], 3))
        found += [claim.row.id for claims in both for claim in claims]
    assert sorted(found) == sorted({f"t{number}" for number in range(40)})


@_shared
async def a_bell_rings_at_the_other_worker(one: TurnStore, two: TurnStore) -> None:
    await two.wait(0.0)
    waiting = asyncio.ensure_future(two.wait(20.0))
    began = time.monotonic()
    await asyncio.sleep(0.05)
    await one.put(_row("t"))
    await waiting
    assert time.monotonic() - began < 10
    assert len(await two.claim(["a"], 10)) == 1


@_shared
async def what_was_cancelled_elsewhere_is_heard_of(one: TurnStore, two: TurnStore) -> None:
    claim = await _claimed(one, _row("t"))
    await two.cancel("t")
    assert (await one.beat([claim])).cancelled == ["t"]
    await _refused(one.end(claim, "completed", {}))


@_shared
async def a_sleeper_is_woken_by_exactly_one(one: TurnStore, two: TurnStore) -> None:
    claim = await _claimed(one, _row("t"))
    await one.sleep(claim, after=0, until=time.time() + 0.2)
    await two.post("t", {"n": 1}, key="k")
    both = await asyncio.gather(one.claim(["a"], 10), two.claim(["a"], 10))
    assert sorted(map(len, both)) == [0, 1]
