"""Expressions over the arguments of a network, such as `w3 >= w2`: values, text and partial evaluation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

Value: TypeAlias = int | float | str | bool
Expression: TypeAlias = "Constant | Name | Operation"

_CACHE_SIZE = 2**14


@dataclass(frozen=True)
class Constant:
    """A number, a word or a truth value; None: unknown, as what an argument decides that a network lacks."""

    value: Value | None

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Name:
    """An argument of a network; `stage` is 0 for an argument of the stem, or of a builder of timm."""

    text: str
    stage: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Operation:
    """An operator with its operands: one for `not` and `-`, else two."""

    operator: str
    operands: tuple[Expression, ...]

    def __str__(self) -> str:
        own = PRECEDENCE[self.operator]
        if len(self.operands) == 1:
            space = " " if self.operator == "not" else ""
            return f"{self.operator}{space}{_nested(self.operands[0], UNARY_PRECEDENCE.get(self.operator, own))}"
        left, right = self.operands  # operators of one level are read from the left; comparisons are not nested
        before = _nested(left, own + (self.operator in COMPARISONS))
        return f"{before} {self.operator} {_nested(right, own + 1)}"


COMPARISONS: Mapping[str, Callable[..., bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
PRECEDENCE = {
    "or": 1,
    "and": 2,
    "not": 3,
    **dict.fromkeys(COMPARISONS, 4),
    **dict.fromkeys("+-", 5),
    **dict.fromkeys(("*", "//", "%"), 6),
}
UNARY_PRECEDENCE = {"-": 7}
_UNKNOWN = Constant(None)


def _nested(expression: Expression, least: int) -> str:
    """Return the text of an operand, in parentheses if its operator binds less than `least`."""
    if not isinstance(expression, Operation):
        return str(expression)
    unary = len(expression.operands) == 1
    own = UNARY_PRECEDENCE.get(expression.operator) if unary else None
    return str(expression) if (own or PRECEDENCE[expression.operator]) >= least else f"({expression})"


def apply(symbol: str, *operands: Expression) -> Expression:
    """Return the operation, or its value where the operands decide it.

    What depends on an unknown value, or divides by 0, is unknown; `or` is true all the same where one side is true,
    and `and` is false where one side is false.
    """
    constants = [operand.value for operand in operands if isinstance(operand, Constant)]
    if symbol in ("and", "or"):
        decided = symbol == "or"
        if decided in constants:
            return Constant(decided)
        if (not decided) in constants:  # the other side decides
            return operands[operands[0] == Constant(not decided)]
        return _UNKNOWN if len(constants) == len(operands) else Operation(symbol, operands)
    if None not in constants and len(constants) < len(operands):
        return Operation(symbol, operands)
    return _UNKNOWN if None in constants else Constant(_value(symbol, constants))


def _value(symbol: str, operands: Sequence[Any]) -> Value | None:
    if symbol == "not":
        return not operands[0]
    if len(operands) == 1:
        return -operands[0]  # type: ignore[no-any-return]
    try:
        return (COMPARISONS.get(symbol) or _ARITHMETIC[symbol])(*operands)
    except ZeroDivisionError:
        return None


def names_in(expression: Expression) -> Iterator[Name]:
    """Yield the names of an expression, each as often as it occurs."""
    if isinstance(expression, Name):
        yield expression
    elif isinstance(expression, Operation):
        for operand in expression.operands:
            yield from names_in(operand)


@lru_cache(_CACHE_SIZE)
def substituted(expression: Expression, values: tuple[tuple[str, Value | None], ...]) -> Expression:
    """Return the expression with the values of these names (None: unknown), evaluated as far as they decide it."""
    return _substituted(expression, dict(values))


def _substituted(expression: Expression, values: Mapping[str, Value | None]) -> Expression:
    if isinstance(expression, Operation):
        return apply(expression.operator, *(_substituted(operand, values) for operand in expression.operands))
    if isinstance(expression, Name) and expression.text in values:
        return Constant(values[expression.text])
    return expression
