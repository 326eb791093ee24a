"""SpecError: a network or space that cannot exist, with the place in its text."""

from __future__ import annotations


class SpecError(ValueError):
    """A network that cannot be: what was found, where, and what to write instead.

    `text` and `column` (counted from 0) are known where the mistake stands in a written spec;
    the printed error then shows the text with a caret under the column.
    """

    def __init__(self, message: str, text: str | None = None, column: int = 0) -> None:
        super().__init__(message)
        self.message, self.text, self.column = message, text, column

    def __str__(self) -> str:
        if self.text is None:
            return self.message
        shown, column = _window(self.text, self.column)
        return f"{self.message}\n  {shown}\n  {' ' * column}^"


def _window(text: str, column: int, width: int = 96) -> tuple[str, int]:
    """At most `width` characters of the text around the column, on one line."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    start = max(0, min(column - width // 2, len(flat) - width))
    head = "..." if start else ""
    tail = "..." if start + width < len(flat) else ""
    return head + flat[start : start + width] + tail, len(head) + column - start
