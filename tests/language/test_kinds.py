"""Kinds of stages, stems and downsamplings: canonical text as ever, and kinds of a user's own."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hiri_search.kinds import Downsampling, Rule, Stage, Stem, number, register, word
from hiri_search.language import SpecError, parse, parse_net, sample, uniform
from hiri_search.language.stages import KINDS
from tests.own_code import own_kinds

GOLDEN = list(csv.DictReader((Path(__file__).parent / "golden_spaces.csv").read_text().splitlines()))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["spec"][:40])
def test_spaces_keep_their_text_their_decisions_and_the_keys_of_their_networks(golden: dict[str, str]):
    space = parse(golden["spec"])
    assert (str(space), str(space.size)) == (golden["canonical"], golden["size"])
    names: set[str] = set()
    for seed in range(200):
        names |= {*space.walk(uniform(Random(seed)))[1]}
    assert sorted(names) == golden["decisions"].split()
    assert [sample(space, Random(seed)).key for seed in range(4)] == golden["keys"].split()


@pytest.fixture
def mixer() -> Iterator[type[Stage]]:
    def check_odd(kernel: int) -> None:
        if kernel % 2 == 0:
            raise SpecError(f"kernel {kernel} is even; write k={kernel + 1}")

    with own_kinds():

        @register
        @dataclass(frozen=True, kw_only=True)
        class Mixer(Stage):
            kind = "mixer"
            rules = (*Stage.rules, Rule(("k",), check_odd))
            tokens: int = number("tk", 64, scales=True)
            kernel: int = number("k", 7, default=3)
            form: str = word("form", "plain", "gated", default="plain")

            @property
            def grid_multiple(self) -> int:
                return 7

            def block(self, grid: int, *, drop_path: float = 0.0) -> Any:
                raise NotImplementedError

        yield Mixer


@pytest.mark.usefixtures("mixer")
def test_an_own_kind_is_a_word_of_the_language():
    net = parse_net("hr(64 e=2) -> mixer(form=gated k=5 64 tk=16)*3")
    assert str(net) == "hr(64 e=2) -> mixer(64 tk=16 k=5 form=gated)*3"
    assert net.canonical_text.endswith(
        "mixer(w=64 n=3 tk=16 k=5 form=gated down=b s=2)".replace("w=64 n=3", "64") + "*3"
    )
    assert str(net.scaled_down(width=4, depth=2)) == "hrstem(hs=8) -> hr(16 e=2) -> mixer(16 tk=4 k=5 form=gated)*2"
    assert net.side_unit == 56  # 7 positions at stride 8
    space = parse("hr(64 e=2) -> (mixer(tk=8|16 k=3..7/2) | t(e=1|2))(64)*(1|2)")
    assert space.size == 2 * (2 * 3 + 2) == len({net.key for net in space})


MISTAKES = {
    "mixer(64)": "this mixer has no tokens (tk); write it as in mixer(64 tk=1)",
    "mixer(64 tk=65)": "tk=65 is not supported; tk must be an integer from 1 to 64",
    "mixer(64 tk=8 k=4)": "kernel 4 is even; write k=5",
    "mixer(64 tk=8 e=4)": "mixer has no argument e; expected one of w, n, tk, k, form, down, s",
    "mixer(64 tk=8 form=open)": "form=open is not supported; form must be one of plain, gated",
    "mixr(64 tk=8)": "unknown name mixr; did you mean mixer?",
    "hr(64 e=4) -> mixer(64 tk=8 down=pool)": "down=pool is not supported; down must be one of a, b, conv, none",
}


@pytest.mark.usefixtures("mixer")
@pytest.mark.parametrize("spec", MISTAKES)
def test_mistakes_with_an_own_kind_say_what_to_write(spec: str):
    with pytest.raises(SpecError) as caught:
        parse(spec)
    assert MISTAKES[spec] in caught.value.message


def _class(base: type = Stage, /, *, frozen: bool = True, builds: bool = True, **content: Any) -> type:
    name = "module" if base is not Stage else "block"
    own = ({name: lambda self, *args, **kwargs: None} if builds else {}) | content
    own["__annotations__"] = {key: int for key in content if key not in ("kind", "rules")}
    return dataclass(frozen=frozen, kw_only=True)(type("Own", (base,), own))


REFUSED = {
    "no dataclass": (lambda: type("Own", (Stage,), {"kind": "own"}), "under @dataclass(frozen=True, kw_only=True)"),
    "not of the language": (lambda: dataclass(frozen=True)(type("Own", (), {})), "must be a subclass of Stage, Stem"),
    "builds nothing": (lambda: _class(Stem, builds=False, kind="own"), "builds nothing; write its method module"),
    "no name": (lambda: _class(), "has no valid name"),
    "a capital": (lambda: _class(kind="Own"), "has no valid name"),
    "a letter as name": (lambda: _class(kind="norm"), "'norm' is already the letter of an argument"),
    "the word which": (lambda: _class(kind="which"), "'which' is already the letter of an argument"),
    "a name of ours": (lambda: _class(kind="hr"), "'hr' is already the name of hiri_search.kinds.Hr"),
    "a letter twice": (lambda: _class(kind="own", speed=number("w", 4)), "'w' is not possible as a letter here"),
    "a kind as letter": (lambda: _class(kind="own", speed=number("hr", 4)), "'hr' is not possible as a letter here"),
    "no argument": (lambda: _class(kind="own", speed=3), "Own.speed is no argument; write number(...) or word(...)"),
    "a wrong default": (lambda: _class(kind="own", speed=number("v", 4, default=9)), "v=9 is not supported"),
    "a default that is no number": (lambda: _class(kind="own", v=number("v", 4, default=False)), "v=False is not"),
    "a word with a space": (lambda: _class(kind="own", v=word("v", "a b")), "v has words that no spec can write"),
    "no words": (lambda: _class(kind="own", v=word("v")), "v has no words; write them"),
    "from 4 to 1": (lambda: _class(kind="own", v=number("v", 1, low=4)), "v needs words, or numbers from low to high"),
    "a negative number": (lambda: _class(kind="own", v=number("v", 1, low=-4)), "v needs words, or numbers from low"),
    "a rule on nothing": (
        lambda: _class(kind="own", rules=(Rule(("zz",), print),)),
        "a rule names zz; its letters are w",
    ),
    "the name of its parent": (
        lambda: dataclass(frozen=True)(type("Child", (_class(kind="own"),), {})),
        "no valid name",
    ),
    "arguments of a downsampling": (lambda: _class(Downsampling, kind="own", v=number("v", 4)), "takes none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_kind_that_the_language_cannot_have_is_refused(name: str):
    make, message = REFUSED[name]
    before = dict(KINDS)
    with pytest.raises(SpecError) as caught:
        register(make())
    assert message in str(caught.value)
    assert before == KINDS


def test_two_kinds_of_one_file_have_two_names():
    with own_kinds():
        register(_class(kind="own"))
        second = _class(kind="own")
        second.__qualname__ = "Second"
        with pytest.raises(SpecError, match=r"'own' is already the name of tests\.language\.test_kinds\.Own"):
            register(second)


def _raises(*values: object) -> None:
    raise ValueError("not like this")


RULES = {
    "raises": (Rule(("w",), _raises), "the rule on w raises ValueError: not like this"),
    "takes one": (Rule(("w", "n"), lambda width: None), "the rule on w, n raises TypeError"),
    "is false": (Rule(("w",), lambda width: False), "the rule on w is False; raise SpecError with what to write"),
}


@pytest.mark.parametrize("name", RULES)
def test_a_faulty_rule_is_one_sentence(name: str):
    rule, message = RULES[name]
    with own_kinds():
        register(_class(kind="own", rules=(*Stage.rules, rule)))
        for spec in ("own(8)", "own(8|16)*1..2"):
            with pytest.raises(SpecError) as caught:
                parse(spec)
            assert message in caught.value.message


@pytest.mark.parametrize("multiple", [0, None, 1.5, property(_raises), len])
def test_a_faulty_grid_multiple_is_one_sentence(multiple: Any):
    value = multiple if isinstance(multiple, property) else property(lambda self: multiple)
    with own_kinds():
        kind = _class(kind="own")
        kind.grid_multiple = value  # type: ignore[attr-defined]
        register(kind)
        with pytest.raises(SpecError, match=r"grid_multiple of own (is|raises)"):
            parse_net("own(8)").grids(64)


def test_a_module_that_is_imported_again_replaces_its_kinds():
    with own_kinds():
        for high in (4, 8):
            register(_class(kind="own", speed=number("v", high, default=1)))
            assert parse_net(f"own(8 v={high})").key
        with pytest.raises(SpecError, match="an integer from 1 to 8"):
            parse_net("own(8 v=9)")
