import gzip
import io
import os
import sys
import tempfile
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError, OptionError
from keras_charlm.text import corpus, decoding, hints, preparation
from keras_charlm.text.cache import cache_folder
from keras_charlm.text.vocabulary import normalize


def read(corpus):
    """The whole prepared text."""
    return corpus.text(0, len(corpus.symbols))


def prepared(data, **config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.txt"
        path.write_bytes(data)
        return corpus.prepare([path], CorpusConfig(**config))


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(min_size=1).filter(lambda t: "\0" not in t and t != "\ufeff"),
    size=st.sampled_from([1, 2, 3, 5, 1 << 22]),
    form=st.sampled_from(["nfc", "nfkc", "none"]),
)
def test_blocks_change_nothing(text, size, form):
    whole = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if form != "none":
        whole = unicodedata.normalize(form.upper(), whole)
    kept, decoding.BLOCK = decoding.BLOCK, size
    try:
        # The content decides what is cached, and the block size is no part of it: look afresh.
        with tempfile.TemporaryDirectory() as cache:
            old, os.environ["KERAS_CHARLM_CACHE"] = os.environ["KERAS_CHARLM_CACHE"], cache
            try:
                assert read(prepared(text.encode(), normalize=form)).decode() == whole
            finally:
                os.environ["KERAS_CHARLM_CACHE"] = old
    finally:
        decoding.BLOCK = kept


@given(st.binary(min_size=1, max_size=300))
@settings(max_examples=30, deadline=None)
def test_bytes_are_kept_losslessly(data):
    assert read(prepared(data, unit="byte")) == data


def test_the_standard_library_normalizes_as_tensorflow_text_does(monkeypatch):
    pytest.importorskip("tensorflow_text")
    # Every assigned character of the basic plane with a mark behind it.
    text = "".join(
        f"{chr(c)}\u0301 "
        for c in range(0x80, 0xD7FF)
        if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")
    )
    for form in ("nfc", "nfkc"):
        ours = normalize(text, form)
        assert decoding._normalizer(form)(text) == ours


def test_symbols_take_the_smallest_type():
    assert prepared(b"abc").symbols.dtype == np.uint8
    assert prepared("caf\u00e9 \u2014 \U0001f600".encode()).symbols.dtype == np.uint8
    many = "".join(chr(c) for c in range(0x4E00, 0x4E00 + 300))
    wide = prepared(("abc" + many + "abc").encode())
    assert wide.symbols.dtype == np.uint16
    assert read(wide).decode() == "abc" + many + "abc"


def test_widening_in_the_middle_keeps_what_was_written(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 64)
    text = "plain " * 30 + "".join(chr(c) for c in range(0x4E00, 0x4E00 + 400)) + " plain" * 30
    assert read(prepared(text.encode())).decode() == text


def test_line_ends_and_byte_order_marks():
    assert read(prepared(b"\xef\xbb\xbfa\r\nb\rc\n")) == b"a\nb\nc\n"
    assert read(prepared(b"a\r\nb\rc\n", keep_line_ends=True)) == b"a\r\nb\rc\n"
    assert read(prepared("a\u00e9".encode("utf-16"), encoding="utf-16")) == "a\u00e9".encode()


def test_a_bad_byte_is_told_with_file_and_offset(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 4)
    with pytest.raises(CorpusError, match=r"x\.txt is not utf-8: byte 0xFF at offset 9 "):
        prepared(b"caf\xc3\xa9 abc\xff etc")


@pytest.mark.parametrize(
    "data, config, message",
    [
        (b"", {}, "is empty"),
        (b"a\0b", {}, "looks binary: there is a NUL at about offset 1"),
        (b"abc", {"encoding": "klingon"}, "no encoding 'klingon'"),
        (b"\n\n", {"lines": True}, "no line that is not empty"),
    ],
)
def test_texts_that_are_none(data, config, message):
    with pytest.raises(CorpusError, match=message):
        prepared(data, **config).lines()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(CorpusError, match="There is no file"):
        corpus.prepare([tmp_path / "no.txt"])
    with pytest.raises(CorpusError, match="is a folder; say which"):
        corpus.prepare([tmp_path])
    with pytest.raises(CorpusError, match="no file named like"):
        corpus.prepare([tmp_path], CorpusConfig(glob="*.c"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello" * 100)[:-9])
    with pytest.raises(CorpusError, match="not a complete gzip file"):
        corpus.prepare([tmp_path / "cut.gz"])


def test_folders_are_read_in_sorted_order_and_bad_files_skipped_on_request(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.c").write_bytes(b"two\n")
    (tmp_path / "1.c").write_bytes(b"one\n")
    (tmp_path / "z.c").write_bytes(b"\xff\xfe")
    (tmp_path / "n.c").write_bytes(b"half\0binary")
    (tmp_path / "no.h").write_bytes(b"no\n")
    with pytest.raises(CorpusError, match=r"n\.c looks binary"):
        corpus.prepare([tmp_path], CorpusConfig(glob="*.c"))
    config = CorpusConfig(glob="*.c", skip_unreadable=True)
    for _ in range(2):  # read, then from the cache
        found = corpus.prepare([tmp_path], config)
        assert read(found) == b"one\ntwo\n"
        assert len(found.notices) == 2
        assert all(notice.startswith("Skipped: ") for notice in found.notices)


GLOBS = ["/abs/*.c"] + ["**.c"] * (sys.version_info < (3, 13))  # 3.13 takes it for *.c


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_that_can_match_nothing_gets_one_sentence(tmp_path, glob):
    with pytest.raises(CorpusError, match=r"--glob '.*' cannot match .*; write e\.g\. '\*\.c'"):
        corpus.prepare([tmp_path], CorpusConfig(glob=glob))


def test_a_text_with_skipped_files_is_found_in_the_cache_again(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 4)  # the bad byte is not in the last block
    (tmp_path / "a.txt").write_bytes(b"good text\n")
    (tmp_path / "b.txt").write_bytes(b"bad \xff and more text\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(bytes(range(256)) * 9)[:-20])
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "cut.gz", "no.txt")]
    config = CorpusConfig(skip_unreadable=True)
    first = corpus.prepare(paths, config)
    monkeypatch.setattr(preparation, "read_pieces", None)  # nothing is prepared a second time
    second = corpus.prepare(paths, config)
    assert read(first) == read(second) == b"good text\n"
    assert first.sha256 == second.sha256
    for reason in ("b.txt is not utf-8", "cut.gz is not a complete gzip file", "There is no file"):
        assert sum(reason in notice for notice in first.notices) == 1
    assert sorted(first.notices) == sorted(second.notices)


def test_a_cached_text_hides_no_file_that_is_skipped_now(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"some good text\n")
    (tmp_path / "b.txt").write_bytes(b"some bad text \xff\n")
    both, config = [tmp_path / "a.txt", tmp_path / "b.txt"], CorpusConfig(skip_unreadable=True)
    assert not corpus.prepare(both[:1], config).notices
    assert "There is no file" in corpus.prepare([both[0], "no.txt"], config).notices[0]
    corpus.prepare(both, config)
    with pytest.raises(CorpusError, match=r"b\.txt is not utf-8"):
        corpus.prepare(both)


@pytest.mark.parametrize(
    "name, data, reason",
    [("no.txt", None, "There is no file"), ("bad.txt", b"\xff", "bad.txt is not utf-8")],
)
def test_where_every_file_is_skipped_the_error_says_why(tmp_path, name, data, reason):
    if data:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=f"Nothing is left to read without the skipped.*{reason}"):
        corpus.prepare([tmp_path / name], CorpusConfig(skip_unreadable=True))


def test_the_cache_is_the_user_s_unless_a_variable_names_another(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("KERAS_CHARLM_CACHE")
    assert cache_folder().name.startswith("keras_charlm") or sys.platform == "win32"
    if sys.platform == "linux":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert cache_folder() == Path.home() / ".cache" / "keras_charlm"


@pytest.mark.skipif(sys.platform == "win32", reason="users have no entries there")
def test_a_user_without_an_entry_and_a_home_has_a_cache(monkeypatch):
    for name in ("KERAS_CHARLM_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # whom no system knows
    monkeypatch.setattr("keras_charlm.text.cache._substitute", lambda: Path("substitute"))
    assert cache_folder() == Path("substitute")


@pytest.mark.parametrize("name", ["hex", "zip", "rot13", "a\0b", ""])
def test_what_is_no_encoding_of_text_is_refused(name):
    with pytest.raises(CorpusError, match="There is no encoding"):
        decoding.check_encoding(name)


@pytest.mark.parametrize("stdin", [io.StringIO("hello\n"), "hello\n"])
def test_stdin_is_bytes(stdin):
    with pytest.raises(OptionError, match="takes a file opened in binary mode"):
        corpus.prepare(["-"], stdin=stdin)


def test_gz_stdin_and_plain_are_the_same_text(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"hello\n"))
    (tmp_path / "a.txt").write_bytes(b"hello\n")
    texts = [
        corpus.prepare([tmp_path / "a.gz"]),
        corpus.prepare([tmp_path / "a.txt"]),
        corpus.prepare(["-"], stdin=io.BytesIO(b"hello\n")),
    ]
    assert {read(t) for t in texts} == {b"hello\n"}
    assert len({t.sha256 for t in texts}) == 1


def test_the_cache_is_by_content(tmp_path, cache):
    path = tmp_path / "a.txt"
    path.write_bytes(b"first text")
    one = corpus.prepare([path])
    assert corpus.prepare([path]).symbols.filename == one.symbols.filename
    path.write_bytes(b"other text")
    assert read(corpus.prepare([path])) == b"other text"
    assert not list(cache.glob("*.tmp"))


def test_a_changed_text_cannot_be_reopened(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"first text")
    one = corpus.prepare([path])
    path.write_bytes(b"changed")
    # The old text is still in the cache ...
    assert read(corpus.reopen(one.files, one.config, one.sha256)) == b"first text"
    # ... but not in another one.
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path / "new"))
    with pytest.raises(CorpusError, match="changed since"):
        corpus.reopen(one.files, one.config, one.sha256)


def test_an_unusable_cache_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("KERAS_CHARLM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CorpusError, match="KERAS_CHARLM_CACHE"):
        prepared(b"some text")


def test_lines_are_distinct_and_not_empty(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 16)
    data = b"Ann\nBob\n\nAnn\nA long name of many characters\nBob\nZoe"
    found = prepared(data, lines=True)
    lines = found.lines().distinct()
    assert len(found.lines()) == 6
    texts = [found.text(s, s + n) for s, n in zip(lines.starts, lines.lengths, strict=True)]
    assert texts == [b"Ann", b"Bob", b"A long name of many characters", b"Zoe"]
    assert read(found).endswith(b"Zoe\n")


def test_memory_does_not_grow_with_the_text(tmp_path):
    path = tmp_path / "big.txt"
    path.write_bytes(("A line of plain text, and then caf\u00e9 again.\n" * 800_000).encode())
    tracemalloc.start()
    found = corpus.prepare([path])
    found.counts([(0, len(found.symbols))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.symbols) == 800_000 * 43
    assert peak < 100e6  # blocks of 4 MB, as code points, symbols and int64 counts


def test_lists_are_recognised():
    assert hints.looks_like_list(hints.beginning(corpus.prepare([])))
    prose = "It was a dark night.\n\nThe rain fell in torrents,\nexcept at intervals.\n" * 20
    assert not hints.looks_like_list(prose.encode())


def test_the_embedded_list_is_clean():
    header, *rows = (row.split(",") for row in corpus.NAMES.read_text().splitlines())
    assert header == ["name", "gender"] and {gender for _, gender in rows} == {"female", "male"}
    assert len(set(map(tuple, rows))) == len(rows) == 5494
    names = {name for name, _ in rows}
    assert len(names) == 5163
    assert all(name.isalpha() and name == name.capitalize() for name in names)


def test_one_path_is_as_good_as_a_list_of_one(tmp_path):
    path = tmp_path / "ab.txt"
    path.write_text("a text\nof two lines\n", encoding="utf-8")
    digests = {corpus.prepare(paths).sha256 for paths in (path, str(path), [path], (str(path),))}
    assert len(digests) == 1
    with pytest.raises(OptionError, match="corpus is 5; it takes a path, or several in a list"):
        corpus.prepare(5)
