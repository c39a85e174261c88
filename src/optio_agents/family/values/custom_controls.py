"""Presets: what a task lets people choose, each a combination of a session's own settings."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from .text import Text, check_text

__all__ = [
    "KNOWN_PERMISSION_MODES",
    "KNOWN_REASONING_EFFORTS",
    "ControlSettings",
    "CustomControl",
    "CustomControlsConfigMixin",
    "CustomOption",
]

KNOWN_REASONING_EFFORTS = ("low", "medium", "high", "xhigh", "max")
KNOWN_PERMISSION_MODES = ("default", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions")
_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class ControlSettings:
    """What an option sets; None leaves it as it is."""

    model: str | None = None
    reasoning_effort: str | None = None
    permission_mode: str | None = None

    def __post_init__(self) -> None:
        if not self.to_dict():
            raise ValueError("ControlSettings sets at least one of model, reasoning_effort, "
                             "permission_mode")  # fmt: skip
        if self.model is not None and (not isinstance(self.model, str) or not self.model):
            raise ValueError(f"ControlSettings: model={self.model!r} is no name of a model")
        for name, known in (
            ("reasoning_effort", KNOWN_REASONING_EFFORTS),
            ("permission_mode", KNOWN_PERMISSION_MODES),
        ):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"ControlSettings: {name}={value!r} is none of {known}")

    def to_dict(self) -> dict[str, str]:
        """What is set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class CustomOption:
    """One choice."""

    value: str
    label: Text
    settings: ControlSettings
    description: Text | None = None

    def __post_init__(self) -> None:
        _check_id(self.value, what="CustomOption: value")
        _check_texts(self, what=f"CustomOption {self.value!r}")
        if not isinstance(self.settings, ControlSettings):
            kind = type(self.settings).__name__
            words = f"CustomOption {self.value!r}: settings are ControlSettings, not {kind}"
            raise ValueError(words)  # noqa: TRY004 - misuse is ValueError everywhere


@dataclass(frozen=True)
class CustomControl:
    """At least two options, one of them the default."""

    id: str
    label: Text | None
    default: str
    options: list[CustomOption]
    description: Text | None = None

    def __post_init__(self) -> None:
        _check_id(self.id, what="CustomControl: id")
        what = f"CustomControl {self.id!r}"
        _check_texts(self, what=what)
        if not isinstance(self.options, list | tuple):
            words = f"{what}: options is a list of CustomOption"
            raise ValueError(words)  # noqa: TRY004 - misuse is ValueError everywhere
        if not all(isinstance(option, CustomOption) for option in self.options):
            raise ValueError(f"{what}: options holds CustomOption and nothing else")
        object.__setattr__(self, "options", list(self.options))
        if len(self.options) < 2:
            raise ValueError(f"{what} needs at least 2 options")
        seen = set[str]()
        for option in self.options:
            if option.value in seen:
                raise ValueError(f"{what}: duplicate option value {option.value!r}")
            seen.add(option.value)
        if self.default not in seen:
            raise ValueError(f"{what}: default={self.default!r} is none of its options")

    @property
    def sets(self) -> set[str]:
        """The settings that are its own: what any of its options sets."""
        return {name for option in self.options for name in option.settings.to_dict()}


@dataclass(frozen=True)
class CustomControlsConfigMixin:
    """A task's own controls, where its agent can apply them."""

    _: KW_ONLY
    custom_controls: list[CustomControl] | None = None

    def _validate_custom_controls(self, *, supported: bool, agent: str) -> None:
        controls: Any = self.custom_controls
        if controls is None:
            return
        if not isinstance(controls, list | tuple) or not all(
            isinstance(control, CustomControl) for control in controls
        ):
            raise ValueError("custom_controls is a list of CustomControl, or None")
        if controls and not supported:
            raise ValueError(f"{agent} does not support custom_controls yet")
        owners = dict[str, str]()
        ids = set[str]()
        for control in controls:
            if control.id in ids:
                raise ValueError(f"custom_controls: duplicate control id {control.id!r}")
            ids.add(control.id)
            for setting in sorted(control.sets):
                if setting in owners:
                    both = f"{owners[setting]!r} and {control.id!r}"
                    raise ValueError(f"custom_controls: {setting} is set by both {both}")
                owners[setting] = control.id


def _check_id(value: object, *, what: str) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{what} {value!r} is not made of letters, digits, _ and -")


def _check_texts(item: CustomOption | CustomControl, *, what: str) -> None:
    for name in "label", "description":
        text = getattr(item, name)
        optional = name == "description" or isinstance(item, CustomControl)
        if text is not None or not optional:
            object.__setattr__(item, name, check_text(text, what=f"{what}: {name}"))
