"""SpecError: the error for an invalid network or space, with its position in the spec."""

from __future__ import annotations


class SpecError(ValueError):
    """An invalid network or space. The message says what was found and what to write instead.

    `text` and `column` (counted from 0) are set where the mistake is in a written spec; the printed error then
    shows the text with a caret under the column.
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
    """Return at most `width` characters of the text around the column, on one line, and the column in them."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    start = max(0, min(column - width // 2, len(flat) - width))
    head = "..." if start else ""
    tail = "..." if start + width < len(flat) else ""
    return head + flat[start : start + width] + tail, len(head) + column - start
