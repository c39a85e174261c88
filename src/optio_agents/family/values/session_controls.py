"""The knobs of a running session, as data for whoever shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = [
    "EFFORT_DESCRIPTION",
    "MODEL_DESCRIPTION",
    "SINGLE_OPTION_REASON",
    "ControlOption",
    "SessionControl",
    "control_allowed",
    "effort_control",
    "filter_controls",
    "model_control",
    "validate_session_controls",
]

SINGLE_OPTION_REASON = "There is only one to choose from."
MODEL_DESCRIPTION = "Which model answers here?"
EFFORT_DESCRIPTION = "How much is the model to think before it answers?"

Kind: TypeAlias = Literal["select", "segmented", "slider", "boolean"]


@dataclass(frozen=True)
class ControlOption:
    """One choice of a select."""

    value: str
    label: str
    description: str | None = None
    disabled: bool = False
    why_disabled: str | None = None
    variant: str | None = None  # "primary" or "danger"
    confirm: str | None = None  # what is asked before it is chosen
    group: str | None = None

    def to_dict(self) -> dict[str, Any]:
        shown = {
            "description": self.description,
            "whyDisabled": self.why_disabled,
            "variant": self.variant,
            "confirm": self.confirm,
            "group": self.group,
        }
        given = {name: value for name, value in shown.items() if value is not None}
        return {"value": self.value, "label": self.label, "disabled": self.disabled, **given}


@dataclass(frozen=True)
class SessionControl:
    """One knob and how it stands."""

    id: str
    kind: Kind
    label: str
    value: str | bool
    category: str | None = None
    description: str | None = None
    options: list[ControlOption] | None = None
    levels: list[str] | None = None
    disabled: bool = False
    why_disabled: str | None = None
    inline_descriptions: bool = False

    def to_dict(self) -> dict[str, Any]:
        """In camelCase; what is not there is left out."""
        data: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "label": self.label,
            "value": self.value,
            "disabled": self.disabled,
        }
        more: dict[str, Any] = {
            "category": self.category,
            "description": self.description,
            "options": self.options and [one.to_dict() for one in self.options],
            "levels": self.levels if self.levels is None else list(self.levels),
            "whyDisabled": self.why_disabled,
            "inlineDescriptions": self.inline_descriptions or None,
        }
        return data | {name: value for name, value in more.items() if value is not None}


def model_control(
    *,
    models: Iterable[Mapping[str, Any]],
    current: str | None,
    label: str = "Model",
    description: str = MODEL_DESCRIPTION,
) -> SessionControl:
    """A select of *models*: `id`, and perhaps `label description disabled disabledReason group`.

    With one model alone it cannot be changed.
    """
    options = [
        ControlOption(
            model["id"],
            model.get("label") or model["id"],
            description=model.get("description"),
            disabled=bool(model.get("disabled")),
            why_disabled=model.get("disabledReason"),
            group=model.get("group"),
        )
        for model in models
    ]
    single = len(options) == 1
    return SessionControl(
        "model",
        "select",
        label,
        current or "",
        category="model",
        description=description,
        options=options,
        disabled=single,
        why_disabled=SINGLE_OPTION_REASON if single else None,
        inline_descriptions=True,
    )


def effort_control(
    *,
    levels: Sequence[str],
    current: str | None,
    label: str = "Effort",
    description: str = EFFORT_DESCRIPTION,
    disabled: bool = False,
    why_disabled: str | None = None,
) -> SessionControl:
    """A slider over *levels*, on the first where nobody said."""
    return SessionControl(
        "reasoning_effort",
        "slider",
        label,
        current or next(iter(levels), ""),
        category="thought_level",
        description=description,
        levels=list(levels),
        disabled=disabled,
        why_disabled=why_disabled,
    )


def control_allowed(control_id: str, allowed: Sequence[str] | None) -> bool:
    """Whether *control_id* may be set; None allows all."""
    return allowed is None or control_id in allowed


def filter_controls(
    controls: Iterable[dict[str, Any]], allowed: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Those of *controls* that may be set, in their order."""
    return [control for control in controls if control_allowed(control["id"], allowed)]


def validate_session_controls(
    session_controls: object, *, show_session_controls: bool, owner: str
) -> None:
    """Raise ValueError unless they are ids, or None, of controls that are shown."""
    if session_controls is None:
        return
    ids = session_controls if isinstance(session_controls, list) else [None]
    if not all(isinstance(one, str) and one for one in ids):
        raise ValueError(f"{owner}: session_controls is a list of control ids, or None")
    if not show_session_controls:
        raise ValueError(f"{owner}: session_controls needs show_session_controls=True")
