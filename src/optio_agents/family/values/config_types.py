"""The words of a task's configuration that every engine has, and how they are checked.

An engine's own configuration inherits the mixins and calls their `_validate_…` methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias, get_args

from .session_controls import validate_session_controls
from .text import Text, check_text

__all__ = [
    "TOOL_VERBOSITIES",
    "AllowedDir",
    "BlobCryptoConfigMixin",
    "ClaustrumConfigMixin",
    "ConversationMode",
    "ResumeConfigMixin",
    "SeedProvider",
    "SeedUnavailableError",
    "SessionControlsConfigMixin",
    "ThinkingVerbosity",
    "ToolVerbosity",
    "WelcomeCard",
    "WelcomeConfigMixin",
]

ConversationMode: TypeAlias = Literal["iframe", "conversation"]
ThinkingVerbosity: TypeAlias = Literal["hidden", "visible"]
ToolVerbosity: TypeAlias = Literal[
    "silent", "description-while-active", "description-only", "verbose"
]
TOOL_VERBOSITIES = frozenset(get_args(ToolVerbosity))

SeedProvider: TypeAlias = Callable[[str], Awaitable[str | None]]
"""`provider(process_id)`: the seed whose login the task uses, None for none."""

BlobTransform: TypeAlias = Callable[[bytes], bytes]


class SeedUnavailableError(Exception):
    """There is no login for this task now."""


_DIR_MODES = ("ro", "rw", "rox", "rwx")


@dataclass(frozen=True)
class AllowedDir:
    """A directory that a confined agent may touch: read, write, execute what is in it."""

    path: str
    mode: Literal["ro", "rw", "rox", "rwx"]

    def __post_init__(self) -> None:
        if self.mode not in _DIR_MODES:
            raise ValueError(f"AllowedDir.mode={self.mode!r} is none of {', '.join(_DIR_MODES)}")


@dataclass(frozen=True)
class ClaustrumConfigMixin:
    """Whether the agent is confined, to what, and whom to tell of a newer sandbox."""

    fs_isolation: bool = True
    extra_allowed_dirs: list[AllowedDir] | None = None
    delivery_type: str | None = None

    def _validate_claustrum(self) -> None:
        name = type(self).__name__
        if self.fs_isolation and not self.delivery_type:
            raise ValueError(f"{name}: fs_isolation requires a delivery_type, for its notices")
        for entry in self.extra_allowed_dirs or ():
            if not isinstance(entry, AllowedDir):
                words = f"{name}: extra_allowed_dirs holds AllowedDir, not {type(entry).__name__}"
                raise ValueError(words)  # noqa: TRY004 - misuse is ValueError everywhere


@dataclass(frozen=True)
class BlobCryptoConfigMixin:
    """How what is kept of a session, and of a login, is encrypted; None for not at all."""

    session_blob_encrypt: BlobTransform | None = None
    session_blob_decrypt: BlobTransform | None = None
    seed_blob_encrypt: BlobTransform | None = None
    seed_blob_decrypt: BlobTransform | None = None

    def _validate_blob_crypto(self) -> None:
        for what in "session_blob", "seed_blob":
            encrypt, decrypt = f"{what}_encrypt", f"{what}_decrypt"
            if (getattr(self, encrypt) is None) != (getattr(self, decrypt) is None):
                raise ValueError(
                    f"{type(self).__name__}: {encrypt} and {decrypt} belong together: "
                    "give both or none"
                )

    @property
    def seed_encrypt(self) -> BlobTransform | None:
        """For logins: their own, or that of sessions."""
        return self.seed_blob_encrypt or self.session_blob_encrypt

    @property
    def seed_decrypt(self) -> BlobTransform | None:
        return self.seed_blob_decrypt or self.session_blob_decrypt


@dataclass(frozen=True)
class SessionControlsConfigMixin:
    """Whether a conversation's view shows the session's controls, and which."""

    show_session_controls: bool = False
    session_controls: list[str] | None = None

    def _validate_session_controls(self) -> None:
        validate_session_controls(
            self.session_controls,
            show_session_controls=self.show_session_controls,
            owner=type(self).__name__,
        )

    @property
    def settable_controls(self) -> list[str] | None:
        """The ids that may be set from the view; None for all."""
        return self.session_controls if self.show_session_controls else []


@dataclass(frozen=True)
class WelcomeCard:
    """What stands above a conversation until somebody has said something."""

    title: Text
    description: Text | None = None
    icon: str | None = None
    min_height: int | None = None  # CSS pixels

    def __post_init__(self) -> None:
        title = check_text(self.title, what="WelcomeCard.title")
        if not all(text.strip() for text in _texts(title)):
            raise ValueError("WelcomeCard.title must not be blank")
        object.__setattr__(self, "title", title)
        if self.description is not None:
            checked = check_text(self.description, what="WelcomeCard.description")
            object.__setattr__(self, "description", checked)
        if self.icon is not None and (not isinstance(self.icon, str) or not self.icon.strip()):
            raise ValueError("WelcomeCard.icon must be a path or an address")
        height = self.min_height
        if height is not None and (type(height) is not int or height <= 0):
            raise ValueError("WelcomeCard.min_height must be a positive number of CSS pixels")

    def to_widget_data(self) -> dict[str, Any]:
        """What the view is given; a path that is none of a web server's begins at its root."""
        icon = self.icon
        if icon is not None and not icon.startswith("/") and "://" not in icon:
            icon = f"/{icon}"
        return {
            "title": self.title,
            "description": self.description,
            "icon": icon,
            "minHeight": self.min_height,
        }


def _texts(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


@dataclass(frozen=True)
class WelcomeConfigMixin:
    """A card above the conversation."""

    welcome: WelcomeCard | None = None

    def _validate_welcome(self) -> None:
        if self.welcome is not None and not isinstance(self.welcome, WelcomeCard):
            kind = type(self.welcome).__name__
            words = f"{type(self).__name__}: welcome is a WelcomeCard or None, not {kind}"
            raise ValueError(words)

    @property
    def welcome_widget_data(self) -> dict[str, Any] | None:
        return self.welcome.to_widget_data() if self.welcome else None


@dataclass(frozen=True)
class ResumeConfigMixin:
    """How a suspended session goes on."""

    _: KW_ONLY
    smooth_resume: bool = False  # a message to it resumes it, without asking
