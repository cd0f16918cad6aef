from __future__ import annotations

import pytest

from demo.catalog_input import InputError
from demo.workfolder import work_folder


def test_it_is_emptied_and_ignored_by_git(tmp_path):
    (tmp_path / "work" / "old").mkdir(parents=True)
    (tmp_path / "work" / "old" / "file").touch()

    with work_folder(tmp_path / "work") as folder:
        assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "lock"]
        assert (folder / ".gitignore").read_text() == "*\n"


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "mine")

    with work_folder(tmp_path / "work") as folder:
        assert not (folder / "link").is_symlink()

    assert (tmp_path / "mine" / "file").exists()


def test_two_at_once_are_refused_and_nothing_is_removed(tmp_path):
    with work_folder(tmp_path) as folder:
        (folder / "file").touch()

        with pytest.raises(InputError, match="another demonstration is running"), work_folder(tmp_path):
            pass

        assert (folder / "file").exists()


def test_it_can_be_taken_again(tmp_path):
    for _ in range(2):
        with work_folder(tmp_path):
            pass
