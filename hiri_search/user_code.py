"""The user's own code: objects named as `module:name` in a study."""

from __future__ import annotations

import importlib
from typing import Any


class UserCodeError(ValueError):
    """Code of the user that is missing, or that cannot be imported."""


def named_object(text: str) -> Any:
    """Return the object that `module:name` names, as in `my_package.metrics:ece`.

    Raises UserCodeError where the text has another form, the module cannot be imported, or has no such name.
    """
    module_name, colon, name = text.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UserCodeError(f"{text!r} does not name an object; write module:name, as in my_package.metrics:ece")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # foreign code: any error means that it cannot be used
        raise UserCodeError(
            f"{text}: module {module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        raise UserCodeError(f"{text}: module {module_name} has no {name}")
    return getattr(module, name)
