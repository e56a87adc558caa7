"""The scanner that finds lines: it must agree with tomllib on every document, whatever its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aed.config.lines import Document, read
from aed.config.option import Fault
from tests.support import toml


def lines(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "x.toml"
    path.write_text(text)
    document = read(str(path))
    assert isinstance(document, Document), document
    return document


def test_headers_keys_strings_and_brackets(tmp_path: Path) -> None:
    document = lines(
        tmp_path,
        '''a = """
[not.a.header]
b = 1
"""
'c.d'.e = [ # [x]
  { f = "]" },
]
[ "g h" ] # [i]
j = \'\'\'
[k]\'\'\'
[[l]]
m = "\\"#["
[[l]]
m = 2
[l.n]
o = 1
p.q = {r = 1, s = [1,
 2]}
t = 1
''',
    )
    expected = {
        ("a",): 1,
        ("c.d", "e"): 5,
        ("g h",): 8,
        ("g h", "j"): 9,
        ("l", 0): 11,
        ("l", 0, "m"): 12,
        ("l", 1): 13,
        ("l", 1, "m"): 14,
        ("l", 1, "n"): 15,
        ("l", 1, "n", "o"): 16,
        ("l", 1, "n", "p", "q"): 17,
        ("l", 1, "n", "t"): 19,
    }
    assert document.lines == expected
    assert document.line(("l", 1, "n", "p", "q", "s")) == 17
    assert document.line(("nowhere",)) == 1


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = 1\r\n\r\n[b]\r\nc = 2\r\n")
    document = read(str(path))
    assert isinstance(document, Document)
    assert document.lines == {("a",): 1, ("b",): 3, ("b", "c"): 4}


@pytest.mark.parametrize("text", ["a = '''\n", "[a]\n[a]", "a = [" * 5000])
def test_broken_documents_are_one_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert isinstance(read(str(path)), Fault)


keys = st.text(st.sampled_from("ab.=#[]\"'\\ é\t"), min_size=1, max_size=4)
values = st.one_of(st.integers(-5, 5), st.booleans(), st.text(st.sampled_from("ab=#[]{}\"'\\\n é"), max_size=8))
tables = st.dictionaries(keys, st.one_of(values, st.lists(st.integers(0, 3), max_size=2)), max_size=3)
documents = st.dictionaries(keys, st.one_of(values, tables, st.lists(tables, min_size=1, max_size=3)), max_size=4)


@given(documents)
def test_every_key_of_every_document_is_found(tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]) -> None:
    text = toml.dumps(data)
    document = lines(tmp_path_factory.getbasetemp(), text)
    for name, value in data.items():
        inner = enumerate(value) if isinstance(value, list) and value and isinstance(value[0], dict) else [(None, value)]
        for index, table in inner:
            path = (name,) if index is None else (name, index)
            assert path in document.lines
            for key in table if isinstance(table, dict) else ():
                assert text.split("\n")[document.lines[(*path, key)] - 1].startswith('"')
