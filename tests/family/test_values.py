"""What a task of a deployment is configured with."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import optio_agents
from optio_agents import (
    AccountInfo,
    AllowedDir,
    BlobCryptoConfigMixin,
    ClaustrumConfigMixin,
    ControlSettings,
    CustomControl,
    CustomControlsConfigMixin,
    CustomOption,
    McpConfigMixin,
    McpServer,
    ResumeConfigMixin,
    SessionControlsConfigMixin,
    UsageWindow,
    WelcomeCard,
    WelcomeConfigMixin,
    account,
    check_text,
    custom_controls,
    resolve_mcp_servers,
    resolve_text,
    session_controls,
)

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(
    ClaustrumConfigMixin,
    BlobCryptoConfigMixin,
    SessionControlsConfigMixin,
    WelcomeConfigMixin,
    ResumeConfigMixin,
    McpConfigMixin,
    CustomControlsConfigMixin,
):
    """As an engine has it."""

    fs_isolation: bool = False
    able: bool = True

    def __post_init__(self) -> None:
        self._validate_claustrum()
        self._validate_blob_crypto()
        self._validate_session_controls()
        self._validate_welcome()
        self._validate_mcp(supported=self.able, agent="x")
        self._validate_custom_controls(supported=self.able, agent="x")


def same(data: bytes) -> bytes:
    return data


def test_a_published_module_is_the_very_one_of_the_room() -> None:
    assert importlib.import_module("optio_agents.account") is account
    assert sys.modules["optio_agents.account"] is account
    assert optio_agents.AccountInfo is account.AccountInfo
    assert optio_agents.session_controls is session_controls  # type: ignore[attr-defined]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("optio_agents.no_such_module")


def test_who_does_not_use_the_room_loads_none_of_it() -> None:
    code = "import sys, optio_agents; optio_agents.run_log_protocol_session; optio_agents.Store; "
    code += "optio_agents.Claude; print([m for m in sys.modules if m.startswith('optio_agents.f')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in eval(ran.stdout) if "family" in name] == []


ATTRIBUTES = """
    account agent_info browser_shims claustrum config_types context conversation custom_controls
    input_listener mcp model_probe protocol protocol.parser protocol.session seeds session_controls
    steering text tmux_input
"""
LOOKUP = """
import operator, sys
for name in sys.argv[1:]:
    for loaded in [one for one in sys.modules if one.startswith("optio_agents")]:
        del sys.modules[loaded]
    import optio_agents
    assert operator.attrgetter(name)(optio_agents).__name__.endswith(name)
"""


def test_what_is_an_attribute_there_is_one_here_without_an_import() -> None:
    subprocess.run([sys.executable, "-c", LOOKUP, *ATTRIBUTES.split()], check=True)


def test_the_driver_stands_under_its_published_name() -> None:
    from optio_agents.protocol import session
    from optio_agents.protocol.session import DeliverableCallback, _SessionFailed

    assert session.run_log_protocol_session is optio_agents.run_log_protocol_session
    assert issubclass(optio_agents.AgentExited, _SessionFailed)
    assert DeliverableCallback | None  # as engines write it, where it runs
    with pytest.raises(AttributeError):
        _ = session.nothing
    assert optio_agents.browser_shims.BrowserMode is optio_agents.BrowserMode  # type: ignore[attr-defined]


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: AllowedDir("/x", "wx"), "AllowedDir.mode='wx'"),  # type: ignore[arg-type]
    (lambda: Config(fs_isolation=True), "Config: fs_isolation requires a delivery_type"),
    (lambda: Config(extra_allowed_dirs=["/x"]), "holds AllowedDir, not str"),  # type: ignore[list-item]
    (lambda: Config(session_blob_encrypt=same), "session_blob_decrypt belong together"),
    (lambda: Config(seed_blob_decrypt=same), "Config: seed_blob_encrypt"),
    (lambda: Config(session_controls=["model"]), "needs show_session_controls"),
    (lambda: Config(show_session_controls=True, session_controls=[""]), "list of control ids"),
    (lambda: Config(welcome="x"), "a WelcomeCard or None, not str"),  # type: ignore[arg-type]
    (lambda: WelcomeCard({"en": " "}), "WelcomeCard.title must not be blank"),
    (lambda: WelcomeCard("x", icon=" "), "icon"),
    (lambda: WelcomeCard("x", min_height=True), "min_height"),
    (lambda: McpServer("a b", "https://x"), "the name 'a b'"),
    (lambda: McpServer("a", "ftp://x"), "url begins with http"),
    (lambda: McpServer("a", "http://x", {"A": "b\nC: d"}), "one line to one line"),
    (lambda: Config(able=False, mcp_servers=[McpServer("a", "http://x")]), "x does not support"),
    (lambda: Config(mcp_servers=[McpServer("a", "http://x")] * 2), "duplicate MCP server name: a"),
    (lambda: ControlSettings(), "at least one of"),
    (lambda: ControlSettings(""), "model=''"),
    (lambda: ControlSettings(permission_mode="yolo"), "permission_mode='yolo'.*acceptEdits"),
    (lambda: CustomOption("a.b", "x", ControlSettings("m")), "value 'a.b'"),
    (lambda: CustomOption("a", "x", {"model": "m"}), "not dict"),  # type: ignore[arg-type]
    (lambda: preset("a"), "at least 2 options"),
    (lambda: preset("a", "a"), "duplicate option value 'a'"),
    (lambda: dataclasses.replace(preset("a", "b"), default="c"), "default='c'"),
    (lambda: dataclasses.replace(preset("a", "b"), options=[1, 2]), "CustomOption and nothing"),
    (lambda: dataclasses.replace(preset("a", "b"), options=1), "a list of CustomOption"),
    (lambda: Config(custom_controls=1), "a list of CustomControl"),  # type: ignore[arg-type]
    (lambda: Config(able=False, custom_controls=[preset("a", "b")]), "x does not support"),
    (lambda: Config(custom_controls=[preset("a", "b")] * 2), "duplicate control id 'c'"),
    (
        lambda: Config(
            custom_controls=[preset("a", "b"), dataclasses.replace(preset("a", "b"), id="d")]
        ),
        "model is set by both 'c' and 'd'",
    ),
    (lambda: check_text({"en": 3}, what="label"), r"label\['en'\] must be"),
    (lambda: check_text({}, what="label"), "at least one language"),
    (lambda: check_text({"": "x"}, what="label"), "language codes"),
    (lambda: check_text("", what="label"), "label must not be empty"),
    (lambda: check_text(3, what="label"), "got int"),
    (lambda: resolve_text({}, "en"), "empty language map"),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def preset(*values: str) -> CustomControl:
    options = [CustomOption(value, value, ControlSettings("m")) for value in values]
    return CustomControl("c", None, values[0], options)


def test_what_is_right_is_taken() -> None:
    config = Config(
        session_blob_encrypt=same,
        session_blob_decrypt=same,
        show_session_controls=True,
        welcome=WelcomeCard({"en": "Hi"}, icon="a.png", min_height=2),
        custom_controls=[preset("a", "b")],
        extra_allowed_dirs=[AllowedDir("/x", "rox")],
    )
    assert (config.seed_encrypt, config.seed_decrypt) == (same, same)
    assert (config.settable_controls, Config().settable_controls) == (None, [])
    assert config.welcome_widget_data == {
        "title": {"en": "Hi"},
        "description": None,
        "icon": "/a.png",
        "minHeight": 2,
    }
    assert Config().welcome_widget_data is None
    assert not config.smooth_resume
    assert custom_controls.KNOWN_REASONING_EFFORTS[-1] == "max"


def test_text_is_in_the_language_asked_for_or_in_english_or_in_the_first() -> None:
    both = {"de": "Guten Tag", "en": "Hello"}
    assert [resolve_text(both, language) for language in ("de", "fr", None)] == [
        "Guten Tag",
        "Hello",
        "Hello",
    ]
    assert resolve_text({"de": "Guten Tag"}, "fr") == "Guten Tag"
    assert resolve_text("Hello", "de") == "Hello"
    assert check_text(both, what="x") == both


async def test_no_word_of_an_mcp_server_shows_its_headers() -> None:
    server = McpServer("a", "https://x", {"Authorization": "Bearer secret"})

    async def provider(process: str) -> list[McpServer]:
        return [server] if process == "p" else [{"headers": "secret"}]  # type: ignore[list-item]

    config = Config(mcp_servers=provider)
    assert await resolve_mcp_servers(config, "p") == [server]
    assert await resolve_mcp_servers(Config(mcp_servers=[server]), "p") == [server]
    assert await resolve_mcp_servers(Config(), "p") == []
    with pytest.raises(ValueError, match="list of McpServer") as refused:
        await resolve_mcp_servers(config, "q")
    shown = repr([server, Config(mcp_servers=[server])]) + str(refused.value)
    assert "secret" not in shown
    assert server.headers == {"Authorization": "Bearer secret"}


def test_an_account_is_limited_by_what_it_has_used_up() -> None:
    later = NOW + timedelta(hours=1)
    full, opus = UsageWindow("week", 100.0, later), UsageWindow("opus", 100.0, later, "opus")
    info = AccountInfo(name="Ada", email="a@b.c", plan="Pro", windows=(full, opus))
    assert info.summary == "Plan: Pro for Ada <a@b.c>"
    assert AccountInfo(provider="openai").summary == "openai · unknown account"
    assert account.EMPTY.summary is None
    assert account.is_limited(info, NOW)
    assert not account.is_limited(info, later)
    only_opus = dataclasses.replace(info, windows=(opus,))
    assert [account.is_limited(only_opus, NOW, models) for models in ((), ("opus",))] == [0, 1]
    assert account.any_usable([info, only_opus], NOW)
    assert info.next_reset() == later
    assert account.EMPTY.next_reset() is None
    kept = json.loads(json.dumps(account.accounts_to_metadata([info])))
    assert account.accounts_from_metadata({"accounts": kept}) == [info]
    assert account.accounts_from_metadata({"account": kept[0]}) == [info]
    assert account.accounts_from_metadata({}) == []
    assert kept[0]["summary"] == info.summary


def test_controls_are_told_in_camel_case() -> None:
    models = [
        {"id": "a", "description": "quick"},
        {"id": "b", "label": "B", "disabled": True, "disabledReason": "no plan", "group": "old"},
    ]
    told = session_controls.model_control(models=models, current="a").to_dict()
    assert (told["value"], told["disabled"], told["inlineDescriptions"]) == ("a", False, True)
    assert told["options"] == [
        {"value": "a", "label": "a", "disabled": False, "description": "quick"},
        {"value": "b", "label": "B", "disabled": True, "whyDisabled": "no plan", "group": "old"},
    ]
    alone = session_controls.model_control(models=models[:1], current=None).to_dict()
    assert (alone["disabled"], alone["whyDisabled"]) == (
        True,
        session_controls.SINGLE_OPTION_REASON,
    )
    effort = session_controls.effort_control(levels=["low", "high"], current=None).to_dict()
    assert (effort["kind"], effort["value"], effort["levels"]) == ("slider", "low", ["low", "high"])
    assert session_controls.filter_controls([told, effort], ["model"]) == [told]
    assert session_controls.filter_controls([told, effort], None) == [told, effort]
