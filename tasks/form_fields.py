"""Fields of forms that are described once: by the docstring of the dataclass that the form becomes."""

import inspect
import re
from typing import Any

from pydantic import Field

# An argument stands four spaces in; the lines after its first one stand deeper.
_ARGUMENT = re.compile(r"^ {4}(\w+): ", re.MULTILINE)


def field_like(values: object, name: str, **bounds: Any) -> Any:
    """A field with the default of a dataclass, described by what its docstring says of this argument.

    Args:
        values: an instance with the defaults.
        name: of the argument.
        bounds: what else the field is given, such as `ge` and `lt`.
    """
    return Field(getattr(values, name), description=describe_arguments(type(values)).get(name, ""), **bounds)


def describe_arguments(of: type) -> dict[str, str]:
    """What a docstring says of each argument, as a sentence; nothing where Python was told to leave docstrings out.

    Args:
        of: a class with an `Args` section.
    """
    section = (inspect.getdoc(of) or "").partition("Args:\n")[2].partition("\n\n")[0]
    _, *found = _ARGUMENT.split(section)
    return {name: _sentence(said) for name, said in zip(found[::2], found[1::2], strict=True)}


def _sentence(said: str) -> str:
    line = " ".join(said.split())
    return line[:1].upper() + line[1:]
