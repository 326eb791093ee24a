"""Hypothesis strategies for specs: valid, repetitive (often ambiguous) and broken ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from hiri_search.kinds import Cffn, ConvStem, Hr, HrStem, Transformer, VitStem
from hiri_search.language import Net, Stage
from hiri_search.language.stages import Argument, arguments

KINDS = ("hr", "cffn", "t")
WORDS = {"hr": ("bn",), "cffn": ("bn", "ln"), "t": ("mix", "ln", "bn")}


@dataclass(frozen=True)
class WrittenSpec:
    """A spec and its lets."""

    text: str
    let: dict[str, str]


@cache
def _alternatives(values: tuple[str, ...], most: int) -> SearchStrategy[str]:
    """Draw one to `most` of the values in any order; one draw is much faster than a list of draws."""
    chosen = [words for count in range(1, most + 1) for words in permutations(values, count)]
    return st.sampled_from([separator.join(words) for words in chosen for separator in ("|", " | ")])


@cache
def _orders(letters: tuple[str, ...]) -> SearchStrategy[tuple[str, ...]]:
    return st.sampled_from(list(permutations(letters)))


@dataclass
class _Writer:
    """Draws the text of one valid space; the alternatives of a group begin with stages of different kinds."""

    draw: DrawFn
    max_values: int  # of one argument
    let: dict[str, str]

    def alternatives(self, values: tuple[str, ...]) -> str:
        return self.draw(_alternatives(values, self.max_values))

    def value(self, letter: str, kind: str = "") -> str:
        if letter == "w" and self.max_values > 1 and self.draw(st.booleans()):
            return self.draw(st.sampled_from(["64..128/64", "64..192/64", "64|128..256/64", "320..320"]))
        if letter in ("e", "n") and self.max_values > 1 and self.draw(st.booleans()):
            return self.draw(st.sampled_from(["1..2", "3..5", "2|4..6", "1..5/4"]))
        words = {
            "w": ("64", "128", "320", "512"),
            "e": ("1", "4", "6"),
            "n": ("1", "2", "9"),
            "d": ("16", "32", "64"),
            "sr": ("1", "2"),
            "ffn": ("conv", "plain"),
            "r": ("1", "2"),
            "s": ("1", "2"),
            "down": ("a", "b", "conv"),
        }
        return self.alternatives(words[letter] if letter != "norm" else WORDS[kind])

    def arguments(self, letters: list[str], kind: str = "") -> str:
        """Return arguments with drawn values, in a drawn order and style."""
        depth = "n" in letters and self.draw(st.booleans())
        written = []
        for letter in self.draw(_orders(tuple(x for x in letters if x != "n" or not depth))):
            without_letter = letter == "w" and self.draw(st.booleans())
            written.append(self.value(letter, kind) if without_letter else f"{letter}={self.value(letter, kind)}")
        parenthesised = f"({'  '.join(written)})" if written else ""
        return parenthesised + (f"*({self.value('n')})" if depth else "")

    def leaf(self, kind: str, required: set[str], optional: set[str]) -> str:
        own = {"hr": {"r", "norm"}, "cffn": {"norm"}, "t": {"d", "sr", "ffn", "norm"}}[kind]
        extra = self.draw(st.sets(st.sampled_from(sorted(own | optional)), max_size=2))
        return kind + self.arguments(sorted(required | extra), kind)

    def group(self, required: set[str], optional: set[str], level: int) -> str:
        letters = sorted(required | optional)
        own = self.draw(st.sets(st.sampled_from(letters), max_size=3)) if letters else set()
        kinds = self.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
        paths = " | ".join(self.path(required - own, optional - own, level - 1, kind) for kind in kinds)
        if level == 1 and self.draw(st.booleans()):
            name = f"block{len(self.let)}"
            self.let[name] = paths
            return name + self.arguments(sorted(own))
        return f"({paths})" + self.arguments(sorted(own))

    def path(self, required: set[str], optional: set[str], level: int, kind: str = "") -> str:
        """Return a sequence of stages, the first one of `kind` if a kind is given."""
        stages = [self.leaf(kind, required, optional)] if kind else []
        for _ in range(self.draw(st.integers(0 if kind else 1, 2))):
            if level and self.draw(st.booleans()):
                stages.append(self.group(required, optional, level))
            else:
                stages.append(self.leaf(self.draw(st.sampled_from(KINDS)), required, optional))
        return " -> ".join(stages)


@st.composite
def spaces(draw: DrawFn, max_values: int = 3, level: int = 2) -> WrittenSpec:
    """Draw valid spaces with groups, tied arguments, alternatives, ranges and lets."""
    writer = _Writer(draw, max_values, {})
    stem = draw(st.sampled_from(["", "hrstem -> ", "(hrstem(hs=48|64) | convstem) -> ", "vitstem -> "]))
    first = writer.group({"w", "e"}, {"n"}, level)
    rest = writer.path({"w", "e"}, {"n", "s", "down"}, level)
    return WrittenSpec(f"{stem}{first} -> {rest}", writer.let)


def small_spaces() -> SearchStrategy[WrittenSpec]:
    """Draw valid spaces of few networks."""
    return spaces(max_values=2, level=1)


_STAGES = ("hr(64 e=4)", "hr(64|128 e=4)", "hr(64 e=4|5)*1..2", "cffn(64 e=4)", "hr(64 e=4 r=1|2)")


def repetitive_specs(*more: str) -> SearchStrategy[str]:
    """Draw specs without tied arguments from a few similar stages, so that many write a network twice."""
    stages = st.sampled_from((*_STAGES, *more))
    return st.recursive(
        stages,
        lambda inner: st.lists(inner, min_size=2, max_size=3).flatmap(
            lambda terms: st.sampled_from([f"({' | '.join(terms)})", " -> ".join(terms)])
        ),
        max_leaves=6,
    )


_TOKENS = [*"()|*=/ ", "->", "..", "hr", "t", "cffn", "hrstem", "block", "w", "e", "n", "d", "down", "none"]
_TOKENS += ["s", "norm", "ln", "0", "1", "4", "64", "100000", "99999999", "h", ",", ".", "-", "é", "٣"]


def token_sequences() -> SearchStrategy[str]:
    """Draw sequences of tokens in any order."""
    return st.lists(st.sampled_from(_TOKENS), max_size=40).map("".join)


@st.composite
def mutated_specs(draw: DrawFn) -> WrittenSpec:
    """Draw valid spaces in which a substring is replaced by random text."""
    written = draw(spaces())
    start = draw(st.integers(0, len(written.text)))
    end = draw(st.integers(start, min(len(written.text), start + 6)))
    replacement = draw(token_sequences() | st.text(max_size=3))
    return WrittenSpec(written.text[:start] + replacement + written.text[end:], written.let)


@st.composite
def nets(draw: DrawFn) -> Net:
    """Draw networks built from values, without any text."""
    stages: list[Stage] = []
    for index in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([Hr, Cffn, Transformer]))
        fields = {"width": draw(st.integers(1, 256)) * 64, "expansion": draw(st.integers(1, 64))}
        fields["depth"] = draw(st.integers(1, 512))
        more = {letter: draw(st.sampled_from(argument.words)) for letter, argument in _word_arguments(kind)}
        if kind is Transformer:
            more |= {
                "head_size": draw(st.sampled_from([1, 16, 64])),
                "spatial_reduction": draw(st.integers(1, 64)),
            }
        if kind is Hr:
            more["reduction"] = draw(st.integers(1, 2))
        if index:
            more["down"] = draw(st.sampled_from([None, "a", "b", "conv", "none"]))
            more["stride"] = draw(st.integers(1, 2 if more["down"] != "none" else 1))
            fields["width"] = stages[-1].width if more["down"] == "none" else fields["width"]
        stages.append(kind(**fields, **more))
    stem = draw(st.sampled_from([HrStem(), HrStem(hidden=64), ConvStem(), ConvStem(hidden=48), VitStem()]))
    return Net.of([stem, *stages])


def _word_arguments(kind: type[Stage]) -> list[tuple[str, Argument]]:
    return [(letter, a) for letter, a in arguments(kind).items() if a.words and letter != "down"]
