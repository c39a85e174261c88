"""Text for people: a string, or one for each language."""

from collections.abc import Mapping
from typing import TypeAlias

__all__ = ["Text", "check_text", "resolve_text"]

Text: TypeAlias = str | Mapping[str, str]


def check_text(value: object, *, what: str) -> str | dict[str, str]:
    """*value* if it is text, a mapping as a copy. Raises ValueError, which names *what*."""
    if isinstance(value, str):
        if not value:
            raise ValueError(f"{what} must not be empty")
        return value
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        words = f"{what} must be a string or a map of language code to string, got {kind}"
        raise ValueError(words)  # noqa: TRY004 - misuse is ValueError everywhere
    if not value:
        raise ValueError(f"{what} must have at least one language entry")
    for language, text in value.items():
        if not isinstance(language, str) or not language:
            raise ValueError(f"{what}: language codes must be non-empty strings")
        if not isinstance(text, str) or not text:
            raise ValueError(f"{what}[{language!r}] must be a non-empty string")
    return dict(value)


def resolve_text(text: Text, language: str | None) -> str:
    """*text* in *language*, else in English, else in the first that there is."""
    if isinstance(text, str):
        return text
    if not text:
        raise ValueError("an empty language map has no text")
    for wanted in (language, "en"):
        if wanted is not None and wanted in text:
            return text[wanted]
    return next(iter(text.values()))
