"""The user's own code: files and packages that a study imports, in this process and in each worker.

A study's code is read once, by the process that starts the study. Workers get these bytes, not the path of a file:
every trial runs the code whose digest the ledger has, also on a node that cannot see the file, and after it was edited.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from hiri_search.language.stages import forget_kinds
from hiri_search.system.temp_dir import temporary_directory
from hiri_search.system.text import printable

MAX_CODE_BYTES = 32 << 20  # of all files of a study's code
_FORM = "write a file such as my_blocks.py, or a module such as my_package.blocks"


class UserCodeError(ValueError):
    """Code of the user that is missing, or that cannot be imported."""


class NotImportedError(UserCodeError):
    """A study's own code that this process has not imported."""


@dataclass(frozen=True)
class UserCode:
    """The modules that a study imports, with the content of their files."""

    modules: tuple[str, ...] = ()  # in the order of `imports`
    files: tuple[tuple[str, bytes], ...] = ()  # by path below one folder; those of installed packages are not here
    installed: tuple[tuple[str, str], ...] = ()  # digest of each installed package; every node must have it

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each top-level file or package."""
        by_top: dict[str, dict[str, bytes]] = {}
        for path, content in self.files:
            by_top.setdefault(path.partition("/")[0], {})[path] = content
        return {name: _digest(files) for name, files in by_top.items()} | dict(self.installed)

    @property
    def digest(self) -> str:
        """One digest of everything; empty without code."""
        return combined(self.digests)

    def load(self) -> None:
        """Import the modules in this process from these files; nothing happens where it has them already."""
        if self != _loaded.code:
            folder = _loaded.new_folder()
            for path, content in self.files:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            _loaded.replace(self, {name: f"module {name}" for name in self.modules}, [folder])


@dataclass
class _Loaded:
    """The user's part of sys.modules and sys.path: the code of one study at a time."""

    code: UserCode = UserCode()
    folders: list[str] = field(default_factory=list)
    temporary: ExitStack = field(default_factory=ExitStack)

    def new_folder(self) -> Path:
        """Return a folder for the files of a worker, which is removed when the process ends."""
        atexit.register(self.temporary.close)
        return self.temporary.enter_context(temporary_directory())

    def replace(self, code: UserCode, entries: Mapping[str, str], folders: Iterable[Path]) -> list[ModuleType]:
        """Import the modules of another study: an edited file is read again, and a namesake elsewhere is not taken.

        `entries` are the names of modules, each with its entry in `imports`.
        """
        mine = {Path(name).stem for name in self.code.digests if name not in dict(self.code.installed)}
        forget_kinds(mine)
        for module in [name for name in sys.modules if name.partition(".")[0] in mine]:
            del sys.modules[module]
        sys.path[:] = [folder for folder in sys.path if folder not in self.folders]
        self.code = UserCode()
        self.folders = [str(folder) for folder in dict.fromkeys(folders) if str(folder) not in sys.path]
        sys.path += self.folders  # behind the others, so that the user's files hide no installed module
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # a file edited twice in a second is read twice
        try:
            modules = [_import(name, entry) for name, entry in entries.items()]
        finally:
            sys.dont_write_bytecode = before
        self.code = code
        return modules


_loaded = _Loaded()


def import_user_code(imports: Sequence[str], folder: Path) -> UserCode:
    """Import the modules of a study: files, relative to its `folder`, or names of modules there or on Python's path.

    Raises UserCodeError, with the entry of `imports`, where one is missing, cannot be imported, or has the name of
    another module.
    """
    if not imports:
        return UserCode()
    entries = {_module_name(text): f"imports: {printable(text)}" for text in imports}
    if len(entries) < len(imports):
        raise UserCodeError(f"imports: two of {', '.join(imports)} have one module name; rename a file")
    roots = [_root(text, folder.resolve()) for text in imports]
    code = _read_code(entries, roots)
    if code != _loaded.code:
        _loaded.replace(code, entries, roots)
        _check_places(code, roots)
    return code


def loaded_digests() -> dict[str, str]:
    """Return the digests of the code that this process has imported."""
    return _loaded.code.digests


def loaded_code(digests: Mapping[str, str]) -> UserCode:
    """Return the code of these digests, which this process has imported. Raises UserCodeError where it has not."""
    if _loaded.code.digests == digests:
        return _loaded.code
    other = [name for name, digest in digests.items() if _loaded.code.digests.get(name, digest) != digest]
    if other:
        raise UserCodeError(f"{', '.join(other)}: this is not the code that the study was run with")
    raise NotImportedError(f"the study's own code is not imported: {', '.join(digests)}")


def combined(digests: Mapping[str, str]) -> str:
    """Return one digest of all code of a study; empty without code."""
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16] if digests else ""


def named_object(text: str) -> Any:
    """Return the object that `module:name` names, as in `my_package.metrics:ece`.

    Raises UserCodeError where the text has another form, the module cannot be imported, or has no such name.
    """
    module_name, colon, name = text.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UserCodeError(f"{text!r} does not name an object; write module:name, as in my_package.metrics:ece")
    module = _import(module_name, text)
    if not hasattr(module, name):
        raise UserCodeError(f"{text}: module {module_name} has no {name}")
    return getattr(module, name)


def said(error: BaseException) -> str:
    """Return an exception of the user's code in one line."""
    return " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())


def _module_name(text: str) -> str:
    name = Path(text).stem if text.endswith(".py") else text
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserCodeError(f"imports: {printable(text)} has no valid name of a module; {_FORM}")
    return name


def _root(text: str, folder: Path) -> Path:
    """Return the folder of a file, or of the top-level package of a module: the study's, or one on Python's path."""
    if text.endswith(".py"):
        if not (folder / text).is_file():
            raise UserCodeError(f"imports: there is no file {folder / text}; write a path relative to the study file")
        return (folder / text).parent.resolve()  # a link has the name of its own place
    top = text.partition(".")[0]
    if (folder / top).is_dir() or (folder / f"{top}.py").is_file():
        return folder
    spec = find_spec(top)
    places = spec and (spec.submodule_search_locations or [spec.origin or ""])
    if not places or not Path(next(iter(places))).exists():
        raise UserCodeError(f"imports: there is no module {text}, in {folder} or on Python's path; {_FORM}")
    return Path(next(iter(places))).resolve().parent


def _read_code(entries: Mapping[str, str], roots: Sequence[Path]) -> UserCode:
    files: dict[str, bytes] = {}
    installed: dict[str, str] = {}
    for (name, entry), root in zip(entries.items(), roots, strict=True):
        top = name.partition(".")[0]
        if root in _installed_roots():
            installed[top] = _digest(dict(_files(root, top)))
            continue
        for path, content in _with_siblings(root, top).items():
            if files.setdefault(path, content) != content:
                raise UserCodeError(f"{entry}: another folder of imports has a {path} too; rename one")
    if (size := sum(map(len, files.values()))) > MAX_CODE_BYTES:
        problem = f"the files of this code have {size >> 20} MB, and {MAX_CODE_BYTES >> 20} MB is the most"
        raise UserCodeError(f"imports: {problem}; keep data out of the package, or install it on every node")
    return UserCode(tuple(entries), tuple(sorted(files.items())), tuple(sorted(installed.items())))


def _installed_roots() -> set[Path]:
    paths = sysconfig.get_paths()
    return {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def _is_installed(name: str) -> bool:
    """Return whether Python takes a top-level module from its own library or an installed package."""
    if name in sys.stdlib_module_names:
        return True
    try:
        spec = find_spec(name)
    except ValueError:  # such as __main__
        return False
    return (
        spec is not None and bool(spec.origin) and any(map(Path(spec.origin or "").is_relative_to, _installed_roots()))
    )


def _files(root: Path, top: str) -> Iterator[tuple[str, bytes]]:
    """Yield a top-level file, or all files of a package, by their paths below `root`."""
    if (root / f"{top}.py").is_file():
        yield f"{top}.py", (root / f"{top}.py").read_bytes()
        return
    for path in sorted((root / top).rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if path.is_file() and not hidden:
            yield relative.as_posix(), path.read_bytes()


def _with_siblings(root: Path, top: str) -> dict[str, bytes]:
    """Return the files of a top-level name, and those beside it that they import, directly or through others."""
    found: dict[str, bytes] = {}
    unread, seen = [top], {"hiri_search"}
    while unread:
        if (name := unread.pop()) not in seen:
            seen.add(name)
            new = dict(_files(root, name))
            found |= new
            for path, content in new.items():
                imported = _imported_names(content) if path.endswith(".py") else ()
                unread += [each for each in imported if not _is_installed(each)]
    return found


def _imported_names(source: bytes) -> set[str]:
    """Return the top-level names that a source imports anywhere in it; none of a source that cannot be parsed."""
    names: set[str] = set()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return names  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _check_places(code: UserCode, roots: Iterable[Path]) -> None:
    """Raise UserCodeError where Python took a module of the same name that lies earlier on its path."""
    for name in (name for name in code.digests if name not in dict(code.installed)):
        module = sys.modules.get(name.removesuffix(".py"))
        place = module and (module.__file__ or next(iter(module.__path__)))
        if place and not any(_is_at(Path(place), root / name) for root in roots):
            raise UserCodeError(f"imports: {name} has the name of another module, {place}; rename it")


def _is_at(place: Path, top: Path) -> bool:
    """Return whether the file of a module is `top`, or lies in it."""
    return (place.parent.resolve() / place.name).is_relative_to(top)


def _import(name: str, entry: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the user's code: any error means that it cannot be used
        shown = said(error)
        relative = (
            "relative import" in shown and "; a file of a package is imported by its name, as in my_package.blocks"
        )
        raise UserCodeError(f"{entry} cannot be imported: {shown}{_line(error)}{relative or ''}") from error


def _line(error: BaseException) -> str:
    """Return the last line of the user's code that an error of an import went through."""
    trace, place = error.__traceback__, ""
    foreign = {*_installed_roots(), Path(__file__).parent}
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if "importlib" not in file and not any(map(Path(file).is_relative_to, foreign)):
            place = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return "" if isinstance(error, SyntaxError) else place  # a SyntaxError names its own place


def _digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of files and their names."""
    lines = (f"{path} {hashlib.sha256(content).hexdigest()}\n" for path, content in files.items())
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
