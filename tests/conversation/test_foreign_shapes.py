"""What an agent writes may be any JSON: no reader of its shape raises, none makes it an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings, strategies as st

from optio_agents.conversation import (
    PermissionRequest,
    allow_for_session,
    answer_questions,
    grants,
    questions,
)
from optio_agents.conversation.claude.dialect import ClaudeDialect
from optio_agents.conversation.claude.models import ClaudeTurnResult
from optio_agents.conversation.claude.stream_json import permission_answer
from optio_agents.conversation.contract import TurnResult
from optio_agents.conversation.dialect import PermissionAsked, TurnOver
from optio_agents.conversation.json_lines import decode, fast_parser, read_events
from optio_agents.conversation.wire import OutputLines

HUGE = 10**400  # no float holds it
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([HUGE, "idle", "init", "success", "allow", "a", "r1", "t1"])
)
# the words by which the CLI's events are told apart, with anything behind them
WORDS = """
    type subtype state request_id request response error tool_name input tool_use_id message
    content
    isReplay uuid user_message_uuids user_message_uuid command_uuid session_id result errors
    is_error
    num_turns duration_ms total_cost_usd usage input_tokens stop_reason terminal_reason
    structured_output permission_denials api_error_status rate_limit_info status resetsAt
    error_status retry_delay_ms permission_suggestions rules toolName ruleContent behavior
    directories
    questions question options label model permissionMode tools mcp_servers name
""".split()  # noqa: SIM905
KINDS = """
    result command_lifecycle user system assistant control_request control_response
    control_cancel_request rate_limit_event stream_event
""".split()  # noqa: SIM905
SUBTYPES = "init success can_use_tool session_state_changed api_retry error_max_turns".split()  # noqa: SIM905
JSON = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=8)
EVENTS = st.builds(
    lambda fields, kind, subtype: {**fields, "type": kind, **subtype},
    FIELDS,
    st.sampled_from(KINDS) | JSON,
    st.just({}) | st.sampled_from(SUBTYPES).map(lambda subtype: {"subtype": subtype}),
)
ASKED = st.builds(
    lambda given, suggested, tool: {
        "type": "control_request",
        "request_id": "r1",
        "request": {
            "subtype": "can_use_tool",
            "tool_name": tool,
            "input": given,
            "permission_suggestions": suggested,
        },
    },
    FIELDS,
    st.lists(
        st.builds(
            lambda fields, kind: {**fields, "type": kind},
            FIELDS,
            st.sampled_from(["addRules", "addDirectories", "setMode"]),
        )
        | JSON,
        max_size=3,
    )
    | JSON,
    st.sampled_from(["Bash", "AskUserQuestion"]),
)


def heard(*events):
    """What a dialect that waits for a message makes of *events*."""
    dialect = ClaudeDialect(echoes=True)
    dialect.sent("a")
    lines = [json.dumps(event).encode() for event in events]
    output = OutputLines(lines, sum(map(len, lines)), range(len(lines)))
    return dialect, dialect.read(output, 0.0)


@settings(max_examples=200)
@given(st.lists(EVENTS | ASKED, max_size=4))
def test_no_event_ends_the_reading(events):
    dialect, reading = heard(*events)
    assert len(reading.events) == len(events)
    assert dialect.init is None or dialect.init.model_dump() is not None
    assert dialect.rate_limit is None or dialect.rate_limit.model_dump() is not None
    assert dialect.usage.turns == sum(
        1 for fact in reading.facts if isinstance(fact, TurnOver) and fact.turn.raw is not None
    )


@settings(max_examples=200)
@given(EVENTS)
def test_any_result_is_a_turn_and_no_answer_without_evidence(event):
    turn = ClaudeTurnResult.of(event)
    assert isinstance(turn, TurnResult)
    assert turn.ok == (turn.failure is None) == (turn.outcome == "completed")
    if turn.ok:
        assert event["subtype"] == "success"
        assert not event.get("is_error")
    else:
        assert turn.text == ""


@settings(max_examples=200)
@given(ASKED)
def test_any_question_can_be_shown_granted_and_answered(event):
    _, (_, facts) = heard(event)
    (request,) = [fact.request for fact in facts if isinstance(fact, PermissionAsked)]
    words, decision = grants(request), allow_for_session(request)
    assert bool(words) == bool(decision.updated_permissions)
    assert all(rule["destination"] == "session" for rule in decision.updated_permissions)
    for one in questions(request):
        assert all(isinstance(option, dict) for option in one["options"])
    for answer in decision, answer_questions(request, {"q": "a"}):
        assert json.loads(permission_answer(request, answer))["type"] == "control_response"


@given(JSON)
def test_a_request_of_any_shape_grants_nothing_unseen(raw):
    request = PermissionRequest("Bash", {}, {"request": raw})
    assert bool(grants(request)) == bool(allow_for_session(request).updated_permissions)


@given(st.lists(st.binary(max_size=30) | EVENTS.map(lambda one: json.dumps(one).encode())))
@example([b"{},{}", b'{"a": [{}', b"{}]}"])  # three lines, and three objects in them
@example([b'{"a": "b', b'c"}', b"{},{}"])
@example([b"{}", b"", b"{}"])
def test_lines_read_together_say_what_each_says_alone(lines):
    events, indices, kinds = read_events(lines, key="type")
    assert kinds is None or kinds == {event["type"] for event in events}
    alone = [(n, event) for n, line in enumerate(lines) for event in decode(line)]
    assert list(indices) == [n for n, _ in alone]
    assert repr(events) == repr([event for _, event in alone])  # NaN is not itself


@given(st.lists(st.binary(max_size=30) | EVENTS.map(lambda one: json.dumps(one).encode())))
@example([b"{}", b'{"a": "b', b"[]", b" ", b""])
def test_a_newline_that_was_left_on_a_line_says_nothing(lines):
    lines = [line.replace(b"\n", b"") for line in lines]
    assert repr(read_events([line + b"\n" for line in lines])) == repr(read_events(lines))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e999, "b": -0.0, "c": NaN, "d": 123456789012345678901234567890, "e": 5e-324}',
        '{"a": 0.1, "b": 1.7976931348623157e308, "c": 2.2250738585072011e-308, "d": -Infinity}',
        '{"a": 1, "a": 2, "": "\\u0000\\ud83d\\ude00", "b": [[], {}, "", null, true]}',
    ],
)
def test_the_fast_reader_gives_what_the_standard_one_gives(text):
    assert repr(fast_parser()(text.encode())) == repr(json.loads(text))


@given(st.floats(), st.integers(), st.text())
def test_the_fast_reader_is_exact(number, whole, text):
    line = json.dumps({text: [number, whole, text]}).encode()
    try:
        found = fast_parser()(line)
    except ValueError:
        return  # a lone surrogate: the standard reader has it
    assert repr(found) == repr(json.loads(line))
