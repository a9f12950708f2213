"""Forms in the UI say what the dataclasses say that they become."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from hotcold.domain.plan import Plan
from hotcold.domain.shadow.limits import Limits
from tasks.form_fields import describe_arguments, field_like
from tasks.forms import BlueGreenPlan, ShadowPlan, Tolerated


class Oven:
    """What bakes.

    Args:
        heat: how hot it is, in degrees; more than
            that burns.
        door: `open` or `shut`.

    Raises:
        nothing: ever.
    """

    heat = 180
    door = "shut"


def test_a_field_says_what_the_docstring_says_and_keeps_default_and_bounds() -> None:
    class Form(BaseModel):
        heat: int = field_like(Oven(), "heat", le=250)

    assert {"heat": "How hot it is, in degrees; more than that burns.", "door": "`open` or `shut`."} == describe_arguments(Oven)
    shown = Form.model_json_schema()["properties"]["heat"]
    assert (180, 250, "How hot it is, in degrees; more than that burns.") == tuple(
        shown[name] for name in ("default", "maximum", "description")
    )
    with pytest.raises(ValidationError):
        Form(heat=300)


@pytest.mark.parametrize("form", [BlueGreenPlan, ShadowPlan, Tolerated])
def test_every_field_of_a_form_is_described(form: type[BaseModel]) -> None:
    fields = form.model_json_schema()["properties"]
    assert [] == [name for name, field in fields.items() if not field.get("description")]


def test_the_defaults_of_the_forms_are_those_of_the_plan() -> None:
    assert Plan() == BlueGreenPlan().to_plan()
    assert Plan("shadow") == ShadowPlan().to_plan()
    assert Limits() == Limits.from_json(Tolerated().model_dump())
