"""The forms of the bottleneck, one file each: a class, found by being there."""

from __future__ import annotations

from ibft.objectives.bottleneck.form import Form
from ibft.registry import classes_in

__all__ = ["FORMS", "forms_with"]

FORMS: dict[str, type[Form]] = {
    form.name: form for form in sorted(classes_in(__name__, Form), key=lambda form: form.place)
}
"""Name in the recipe to class, in the order in which they are listed."""


def forms_with(setting: str) -> tuple[str, ...]:
    """Return the forms in which a setting has an effect: all, unless some form claims it as one of its own."""
    names = tuple(name for name, form in FORMS.items() if setting in form.uses)
    return names or tuple(FORMS)
