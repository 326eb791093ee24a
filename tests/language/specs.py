"""Hypothesis strategies for specs: valid ones, crowded ones, broken ones."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from hiri_search.language import Cffn, ConvStem, Hr, HrStem, Net, Stage, Transformer, VitStem
from hiri_search.language.stages import Argument, arguments

KINDS = ("hr", "cffn", "t")
WORDS = {"hr": ("bn",), "cffn": ("bn", "ln"), "t": ("mix", "ln", "bn")}


@dataclass(frozen=True)
class Written:
    """A spec and the lets it is pasted from."""

    text: str
    let: dict[str, str]


@dataclass
class _Writer:
    """Draws the text of one valid space, in which alternatives always begin with stages of unlike kinds."""

    draw: DrawFn
    most: int  # values of one argument
    let: dict[str, str]

    def some(self, values: list[str] | tuple[str, ...]) -> str:
        chosen = self.draw(st.lists(st.sampled_from(values), min_size=1, max_size=self.most, unique=True))
        return self.draw(st.sampled_from(["|", " | "])).join(chosen)

    def value(self, letter: str, kind: str = "") -> str:
        if letter == "w" and self.most > 1 and self.draw(st.booleans()):
            return self.draw(st.sampled_from(["64..128/64", "64..192/64", "64|128..256/64", "320..320"]))
        if letter in ("e", "n") and self.most > 1 and self.draw(st.booleans()):
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
        return self.some(words[letter] if letter != "norm" else WORDS[kind])

    def arguments(self, letters: list[str], kind: str = "") -> str:
        """The letters with drawn values, in drawn order and style."""
        depth = "n" in letters and self.draw(st.booleans())
        shown = []
        for letter in self.draw(st.permutations([x for x in letters if x != "n" or not depth])):
            bare = letter == "w" and self.draw(st.booleans())
            shown.append(self.value(letter, kind) if bare else f"{letter}={self.value(letter, kind)}")
        inside = f"({'  '.join(shown)})" if shown else ""
        return inside + (f"*({self.value('n')})" if depth else "")

    def leaf(self, kind: str, needs: set[str], free: set[str]) -> str:
        own = {"hr": {"r", "norm"}, "cffn": {"norm"}, "t": {"d", "sr", "ffn", "norm"}}[kind]
        extra = self.draw(st.sets(st.sampled_from(sorted(own | free)), max_size=2))
        return kind + self.arguments(sorted(needs | extra), kind)

    def group(self, needs: set[str], free: set[str], level: int) -> str:
        here = self.draw(st.sets(st.sampled_from(sorted(needs | free)), max_size=3)) if needs | free else set()
        kinds = self.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
        inside = " | ".join(self.path(needs - here, free - here, level - 1, kind) for kind in kinds)
        if level == 1 and self.draw(st.booleans()):
            name = f"block{len(self.let)}"
            self.let[name] = inside
            return name + self.arguments(sorted(here))
        return f"({inside})" + self.arguments(sorted(here))

    def path(self, needs: set[str], free: set[str], level: int, kind: str = "") -> str:
        """Stages in a row; the first of the given kind, so that its siblings differ from it."""
        stages = [self.leaf(kind, needs, free)] if kind else []
        for _ in range(self.draw(st.integers(0 if kind else 1, 2))):
            if level and self.draw(st.booleans()):
                stages.append(self.group(needs, free, level))
            else:
                stages.append(self.leaf(self.draw(st.sampled_from(KINDS)), needs, free))
        return " -> ".join(stages)


@st.composite
def spaces(draw: DrawFn, most: int = 3, level: int = 2) -> Written:
    """Valid spaces: groups, ties, alternatives, ranges, lets."""
    writer = _Writer(draw, most, {})
    stem = draw(st.sampled_from(["", "hrstem -> ", "(hrstem(hs=48|64) | convstem) -> ", "vitstem -> "]))
    first = writer.group({"w", "e"}, {"n"}, level)
    behind = writer.path({"w", "e"}, {"n", "s", "down"}, level)
    return Written(f"{stem}{first} -> {behind}", writer.let)


def small_spaces() -> SearchStrategy[Written]:
    """Valid spaces of few networks."""
    return spaces(most=2, level=1)


_STAGES = ("hr(64 e=4)", "hr(64|128 e=4)", "hr(64 e=4|5)*1..2", "cffn(64 e=4)", "hr(64 e=4 r=1|2)")


def crowded(*more: str) -> SearchStrategy[str]:
    """Specs without ties, of so few unlike stages that many write a network twice."""
    stages = st.sampled_from((*_STAGES, *more))
    return st.recursive(
        stages,
        lambda inner: st.lists(inner, min_size=2, max_size=3).flatmap(
            lambda terms: st.sampled_from([f"({' | '.join(terms)})", " -> ".join(terms)])
        ),
        max_leaves=6,
    )


_PIECES = [*"()|*=/ ", "->", "..", "hr", "t", "cffn", "hrstem", "block", "w", "e", "n", "d", "down", "none"]
_PIECES += ["s", "norm", "ln", "0", "1", "4", "64", "100000", "99999999", "h", ",", ".", "-", "é", "٣"]


def soups() -> SearchStrategy[str]:
    """Tokens in any order."""
    return st.lists(st.sampled_from(_PIECES), max_size=40).map("".join)


@st.composite
def mutants(draw: DrawFn) -> Written:
    """Valid spaces with a piece cut out, and another put in its place."""
    written = draw(spaces())
    start = draw(st.integers(0, len(written.text)))
    end = draw(st.integers(start, min(len(written.text), start + 6)))
    return Written(written.text[:start] + draw(soups() | st.text(max_size=3)) + written.text[end:], written.let)


@st.composite
def nets(draw: DrawFn) -> Net:
    """Networks made without any text."""
    stages: list[Stage] = []
    for index in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([Hr, Cffn, Transformer]))
        fields = {"width": draw(st.integers(1, 256)) * 64, "expansion": draw(st.integers(1, 64))}
        fields["depth"] = draw(st.integers(1, 512))
        more = {letter: draw(st.sampled_from(argument.words)) for letter, argument in _words(kind)}
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


def _words(kind: type[Stage]) -> list[tuple[str, Argument]]:
    return [(letter, a) for letter, a in arguments(kind).items() if a.words and letter != "down"]
