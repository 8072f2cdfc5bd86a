"""What an anonymous record has in the place of paths."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perf.harness.record.anonymous import anonymous

FOLDERS = {"DATA": Path("/home/alice/set"), "REPOSITORY": Path("/home/alice/nets"), "~": Path("/home/alice")}
TEXTS = st.text() | st.sampled_from([f"in {path}/a" for path in FOLDERS.values()])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda of: st.lists(of) | st.dictionaries(TEXTS, of),
    max_leaves=20,
)


def test_each_folder_is_named_by_the_closest_and_the_root_by_none():
    text = "/home/alice/set/a, /home/alice/nets, /home/alice/other and /etc"
    found = anonymous({"note": [text]}, FOLDERS | {"STEPWATCH": Path("/")})
    assert found == {"note": ["DATA/a, REPOSITORY, ~/other and /etc"]}


def test_a_folder_is_also_found_under_the_name_that_it_is_linked_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = anonymous({"a": f"{tmp_path}/link/x", "b": f"{tmp_path}/real/x"}, {"DATA": tmp_path / "link"})
    assert found == {"a": "DATA/x", "b": "DATA/x"}


def test_the_commit_stays_and_its_repository_and_branch_go():
    commit = {"id": "abc", "dirty": True, "project": "alice", "branch": "alice/fix"}
    assert anonymous({"commit_info": commit}, {})["commit_info"] == commit | {"project": "", "branch": ""}


@pytest.mark.parametrize("commit", [None, "", "0", [], {}, {"id": "abc"}])
def test_what_names_no_repository_stays(commit):
    assert anonymous({"commit_info": commit}, {}) == {"commit_info": commit}


@given(st.dictionaries(TEXTS, JSON, max_size=4))
@example({"commit_info": "0"})
@example({"commit_info": {"project": "nets"}})
def test_no_text_has_a_path_and_what_has_none_stays(document):
    found = anonymous(document, FOLDERS)
    assert "/home/alice" not in str(found)
    if "/home/alice" not in str(document):  # the two tests above are about the commit
        assert found | {"commit_info": None} == document | {"commit_info": None}
