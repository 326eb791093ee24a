"""The user's cache directory: which folder it is, and the reason where there is none."""

import os
from pathlib import Path

import pytest

from hiri_search.system.cache_dir import user_cache
from hiri_search.system.files import expanded

UNKNOWN_USER = 2**31 - 7  # without a name, as in many containers

# The environment, with {tmp} for a temporary folder that is also the working directory; and the folder.
FOLDERS = {
    "chosen": ({"HIRI_SEARCH_CACHE": "{tmp}/a/b"}, "a/b"),
    "chosen with ~": ({"HIRI_SEARCH_CACHE": "~/a", "HOME": "{tmp}/me"}, "me/a"),
    "chosen as a relative path": ({"HIRI_SEARCH_CACHE": "a/b"}, "a/b"),
    "chosen through a link": ({"HIRI_SEARCH_CACHE": "{tmp}/link"}, "link"),
    "an empty choice": ({"HIRI_SEARCH_CACHE": "", "HOME": "{tmp}/me"}, "me/.cache/hiri_search/images"),
    "the user's": ({"HOME": "{tmp}/me"}, "me/.cache/hiri_search/images"),
    "XDG": ({"XDG_CACHE_HOME": "{tmp}/xdg", "HOME": "{tmp}/me"}, "xdg/hiri_search/images"),
    "an empty XDG": ({"XDG_CACHE_HOME": "", "HOME": "{tmp}/me"}, "me/.cache/hiri_search/images"),
    "a relative XDG, which is invalid": ({"XDG_CACHE_HOME": "xdg", "HOME": "{tmp}/me"}, "me/.cache/hiri_search/images"),
}
NO_FOLDER = {
    "a file": ({"HIRI_SEARCH_CACHE": "{tmp}/file"}, "it is not a folder"),
    "below a file": ({"HIRI_SEARCH_CACHE": "{tmp}/file/a"}, "Not a directory"),
    "a link to nothing": ({"HIRI_SEARCH_CACHE": "{tmp}/dangling"}, "it is not a folder"),
    "too long": ({"HIRI_SEARCH_CACHE": "{tmp}/" + "a" * 300}, "File name too long"),
    "the home of nobody": ({"HIRI_SEARCH_CACHE": "~nobody_of_this_name/a"}, "there is no home folder"),
    "~ without a home": ({"HIRI_SEARCH_CACHE": "~/a"}, "there is no home folder"),
    "no home": ({}, "there is no home folder"),
    "a file as home": ({"HOME": "{tmp}/file"}, "Not a directory"),
    "a file as XDG": ({"XDG_CACHE_HOME": "{tmp}/file", "HOME": "{tmp}/me"}, "Not a directory"),
}


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: UNKNOWN_USER)
    for name in ("HIRI_SEARCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)


def _set(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))


@pytest.mark.parametrize(("environment", "expected"), FOLDERS.values(), ids=FOLDERS)
def test_the_cache_is_a_folder_with_an_absolute_path(
    environment: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _set(environment, tmp_path, monkeypatch)
    folder = user_cache("images")
    assert folder == tmp_path / expected
    assert folder.is_dir()


@pytest.mark.parametrize(("environment", "reason"), NO_FOLDER.values(), ids=NO_FOLDER)
def test_a_cache_that_cannot_be_made_is_an_os_error_with_its_reason(
    environment: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _set(environment, tmp_path, monkeypatch)
    with pytest.raises(OSError, match=reason):
        user_cache("images")


HOMES = {  # a path, and the same with the home folder of the user
    "~": "{tmp}/me",
    "~/a/../b": "{tmp}/me/a/../b",
    "~nobody_of_this_name/a": "~nobody_of_this_name/a",
    "a/~": "a/~",
    "": ".",
}


@pytest.mark.parametrize(("path", "expected"), HOMES.items())
def test_a_path_has_the_home_folder_in_place_of_its_tilde(
    path: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert expanded(path) == Path(path), "without a home folder"
    monkeypatch.setenv("HOME", f"{tmp_path}/me")
    assert expanded(path) == Path(expected.format(tmp=tmp_path))


@pytest.mark.parametrize("chosen", [True, False])
def test_only_a_chosen_cache_may_be_read_only(chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    monkeypatch.setenv("HIRI_SEARCH_CACHE" if chosen else "HOME", str(tmp_path / "me"))
    if chosen:
        assert user_cache("images") == tmp_path / "me"
        return
    with pytest.raises(PermissionError, match="permissions do not allow"):
        user_cache("images")
