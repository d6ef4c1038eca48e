"""What a file is: its text is read, or one sentence says what it is and what to do."""

import bz2
import copy
import functools
import gzip
import io
import json
import lzma
import random
import re
import tarfile
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CorpusError
from keras_charlm.evaluation import folding
from keras_charlm.text import corpus, hints

PLAIN = "Anna met Bob.\nBob met Zoe, and left.\n"
FRENCH = "Le café était fermé.\n« Déjà vu », dit-il à l’hôtelière.\n"
RUSSIAN = "Привет, как дела?\nВсё хорошо.\n"
WORDS = tuple(f"{a}{b}" for a in ("sea", "moon", "calm", "old") for b in ("", "s", "like", "ing"))


def prose(width, words=800, seed=0):
    """Words wrapped at a width."""
    drawn = random.Random(seed).choices(WORDS, k=words)
    return textwrap.fill(" ".join(drawn), width) + "\n"


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 50)
    return content.getvalue()


def tarred(mode="w"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return content.getvalue()


def rows(kind, *inputs):
    return [pytest.param(*row, id=f"{kind}-{i}") for i, row in enumerate(inputs)]


def prepare(folder, data, name="in.txt", **config):
    (folder / name).write_bytes(data)
    return corpus.prepare([folder / name], CorpusConfig(**config))


def whole(text):
    return text.text(0, len(text.symbols)).decode()


REFUSED = [
    *rows(
        "marked",
        (PLAIN.encode("utf-16"), "is utf-16, as its byte-order mark says.*--encoding utf-16"),
        (RUSSIAN.encode("utf-32"), "is utf-32, as its byte-order mark says.*--encoding utf-32"),
        (b"\xfe\xff" + FRENCH.encode("utf-16-be"), "--encoding utf-16"),
    ),
    *rows(
        "unmarked",
        (PLAIN.encode("utf-16-le"), "utf-16-le without a byte-order mark.*'Anna met Bob.'"),
        (RUSSIAN.encode("utf-16-be"), "utf-16-be without.*'Привет, как дела\\?'"),
        (FRENCH.encode("utf-32-le"), "utf-32-le without.*'Le café était fermé.'"),
        (("这是一个中文文本。" * 3).encode("utf-16-le"), "utf-16-le without.*'这是一个"),
    ),
    *rows(
        "cut",
        (PLAIN.encode() + "and more".encode("utf-16"), "utf-8 at first and then UTF-16, from"),
        (PLAIN.encode() + "and more".encode("utf-16-le"), "utf-8 at first and then UTF-16, from"),
        (PLAIN.encode("utf-16-le")[21:], "utf-16-be without a byte-order mark"),
    ),
    *rows(
        "code page",
        (FRENCH.encode("cp1252"), "0xE9 at offset 6 .*--encoding cp1252 reads .* 'Le café était"),
        (RUSSIAN.encode("cp1251"), "--encoding cp1251 reads the line as 'Привет, как дела?"),
        (RUSSIAN.encode("koi8-r"), "--encoding koi8-r reads the line as 'Привет, как дела?"),
        ("Die Straße ist schön.".encode("cp437"), "--encoding cp437 .*'Die Straße ist schön.'"),
        ("これは日本語です。\n".encode("cp932"), "--encoding cp932 reads .*'これは日本語です。'"),
        ("שלום עולם, מה שלומך?\n".encode("cp1255"), "cp1255 as 'שלום עולם, מה שלומך\\?'"),
        ("مرحبا بكم في البيت\n".encode("cp1256"), "cp1256 (?:as|reads the line as) 'مرحبا بكم في"),
        ("안녕하세요 여러분.\n".encode("euc-kr"), "--encoding euc_kr reads .*'안녕하세요 여러분.'"),
        (PLAIN.encode() * 400_000 + b"caf\xe9", "offset 14,800,003 .*cp1252 reads .* 'café'"),
    ),
    *rows(
        "archive",
        (zipped("a.txt", "b.txt"), "is a ZIP archive and not plain text; unpack it"),
        (tarred(), "is a tar archive"),
        (tarred("w:xz"), "is a tar archive"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "is a RAR archive"),
    ),
    *rows(
        "cut archive",
        (gzip.compress(PLAIN.encode())[:-4], "is not a complete gzip file"),
        (bz2.compress(PLAIN.encode())[:-4], "is not a complete bzip2 file"),
        (lzma.compress(PLAIN.encode())[:-4], "is not a complete xz file"),
        (zstandard.compress(PLAIN.encode())[:-4], "is not a complete zstd file"),
        (gzip.compress(gzip.compress(PLAIN.encode())), "compressed twice"),
    ),
    *rows(
        "PDF",
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF file .*pdftotext"),
        (b"\n%PDF-1.4\nonly ASCII\n", "is a PDF file"),
        (gzip.compress(b"%PDF-1.4\n"), "is a PDF file"),
    ),
    *rows(
        "RTF",
        (b"{\\rtf1\\ansi Hello}", "is an RTF document .*pandoc"),
        (b"\r\n{\\rtf1 Hello}", "is an RTF document"),
        (b"{\\rtf\\mac Hello}", "is an RTF document"),
    ),
    *rows(
        "document",
        (b"%!PS-Adobe-3.0\n(hi) show\n", "is a PostScript file .*ps2ascii"),
        (bytes(60) + b"BOOKMOBI" + bytes(9), r"is an e-book \(MOBI\)"),
        (lzma.compress(PLAIN.encode(), format=lzma.FORMAT_ALONE), "is a compressed file"),
    ),
    *rows(
        "office",
        (zipped("[Content_Types].xml", "word/document.xml"), r"Word document \(DOCX\).*pandoc"),
        (zipped("word/document.xml"), "is a Word document"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Office document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", r"Office document \(DOC"),
    ),
    *rows(
        "binary",
        (b"\x89PNG\r\n\x1a\n", "is an image"),
        (b"\x7fELF\2\1\1\0", "is a program"),
        (b"SQLite format 3\0", "is an SQLite database"),
        (b"MZ\x90\0" + bytes(60), "is a program"),
        (b"\xff\xfb\x90\0" + bytes(30), "is a sound or video file"),
        (b"PAR1" + bytes(20), "is a table of columns"),
        (b"abc" + bytes(90), "looks binary"),
        (b"\x0b\x02\x80abc\x03", "looks binary: byte 0x80 at offset 2 .* control characters"),
        (PLAIN.encode() + b"\0" + PLAIN.encode() * 9, r"remove the 1 NUL in .* \(tr -d"),
    ),
]


@pytest.mark.parametrize("data, message", REFUSED)
def test_what_is_not_plain_text_says_what_it_is_and_what_to_do(tmp_path, data, message):
    with pytest.raises(CorpusError, match=message) as error:
        prepare(tmp_path, data)
    assert str(error.value).startswith(str(tmp_path / "in.txt"))
    assert (
        "--skip-unreadable" in str(error.value)
        or "--encoding" in message + str(error.value)
        or ("create or download" in str(error.value) or "convert its parts" in str(error.value))
    )
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


UNPACKED = [
    *rows("gzip", ("a.gz", gzip.compress), ("a.txt", gzip.compress), ("a", gzip.compress)),
    *rows("bzip2", ("a.bz2", bz2.compress), ("a.txt", bz2.compress), ("a", bz2.compress)),
    *rows("xz", ("a.xz", lzma.compress), ("a.txt", lzma.compress), ("a", lzma.compress)),
    *rows(
        "zstd",
        ("a.zst", zstandard.compress),
        ("a.txt", zstandard.compress),
        ("a", lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:])),
    ),
]


@pytest.mark.parametrize("name, compress", UNPACKED)
def test_compressed_files_are_unpacked_whatever_their_name(tmp_path, name, compress):
    packed = compress(PLAIN.encode())
    assert whole(prepare(tmp_path, packed, name)) == PLAIN
    assert whole(corpus.prepare(["-"], stdin=io.BytesIO(packed))) == PLAIN
    by_name = prepare(tmp_path, packed, name, unit="byte")
    expected = PLAIN.encode() if name not in ("a", "a.txt") else packed
    assert by_name.text(0, len(by_name.symbols)) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_text_that_is_cut_in_a_character(tmp_path, encoding):
    with pytest.raises(CorpusError, match=f"not complete {encoding}: it ends in the middle"):
        prepare(tmp_path, PLAIN.encode(encoding)[:-1], encoding=encoding)


LIST = "".join(f"{a}{b} {'xyz' * n}\n" for a in "ABCDE" for b in "abcde" for n in (1, 2, 3))
NOTICED = [
    *rows(
        "HTML",
        ("<!DOCTYPE html>\n<html><body>Hello\n</body></html>\n", "HTML"),
        ("<p>One</p>\n<p>Two</p>\n", "HTML"),
        ('<?xml version="1.0"?>\n<html xmlns="x">\n</html>\n', "HTML"),
    ),
    *rows(
        "table",
        ("name,age\nAnn,3\nBob,4\nZoe,5\n", "columns name, age"),
        ("name\tage\nAnn\t3\nBob\t4\n", "columns name, age"),
        ('title;year\n"A; B";1990\nC;1991\n', "columns title, year"),
    ),
    *rows(
        "JSON lines",
        ('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n', "fields id, text"),
        ('{"text": "a"}\n{"text": "b"}\n' * 200, "fields text"),
        ('{"a": {"b": 1}}\n{"c": []}\n', "fields a, c"),
    ),
    *rows(
        "JSON",
        ('[\n {"text": "a"},\n {"text": "b"}\n]\n', "looks like JSON:"),
        ('{\n "cells": [],\n "nbformat": 4\n}\n', "looks like JSON:"),
        ('{"a": {\n  "b": "c"\n}}\n', "looks like JSON:"),
    ),
    *rows(
        "subtitles",
        ("1\n00:00:01,000 --> 00:00:02,500\nHello.\n\n2\n00:00:03,000 --> 00:00:04,000\nBye.\n",
         "subtitles"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nHello.\n", "subtitles"),
        ("00:00:01.000 --> 00:00:02.000\nHello.\n" * 3, "subtitles"),
    ),
    *rows(
        "odd",
        ("a\ufeffb\n\ufeffc\n", "2 byte-order marks inside"),
        ("a\ufffdb\n\u200bc\u200b\n", r"1 U\+FFFD \(replacement character\), 2 zero-width"),
        ("a\u200eb\n\u202ec\n", "2 direction marks"),
        ("a\x85b\nc\u2028\u2028d\n", r"1 U\+0085, 2 U\+2028"),
    ),
    *rows(
        "line ends",
        ("a\r\nb\nc\n", r"all read as \\n: 2 \\n, 1 \\r\\n\."),
        ("a\rb\n", r"1 \\n, 1 \\r\."),
        ("a\r\nb\r\nc\rd\n", r"1 \\n, 2 \\r\\n, 1 \\r\."),
    ),
    *rows(
        "long lines",
        ("one line", "only 1 line of 8 characters"),
        ("one line\n", "only 1 line of 8 characters"),
        ("x" * 30_000 + "\nb\n" * 3, "1 line of 6 is longer than 20,000 characters"),
    ),
    *rows(
        "list",
        (LIST, "looks like a list"),
        ("".join(f"{n:05}\n" for n in range(100)), "looks like a list"),
        ("\n".join(f"The {w} of {v}" for w in WORDS[:9] for v in WORDS[:9]), "looks like a list"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("text, message", NOTICED)
def test_what_is_odd_in_a_text_gets_a_line(tmp_path, text, message):
    found = prepare(tmp_path, text.encode())
    notices = [*found.notices, *hints.hints(found)]
    assert sum(bool(re.search(message, notice)) for notice in notices) == 1, notices
    again = prepare(tmp_path, text.encode())  # from the cache
    assert [*again.notices, *hints.hints(again)] == notices


def fasta(width, seed=0):
    rng = random.Random(seed)
    return "".join(
        f">seq{n}\n" + "".join("".join(rng.choices("ACGT", k=width)) + "\n" for _ in range(7))
        for n in range(12)
    )


def verse(lines):
    rng = random.Random(0)
    stanza = lambda: "\n".join(" ".join(rng.choices(WORDS, k=5)) for _ in range(lines))  # noqa: E731
    return "\n\n".join(stanza() for _ in range(200 // lines)) + "\n"


QUIET = [
    *rows("one length", (fasta(60),), (fasta(50),), ("".join(f"{n:064x}\n" for n in range(99)),)),
    *rows("wrapped", (prose(58),), (prose(50),), (prose(72),)),
    *rows("verse", (verse(4),), (verse(14),), (verse(25),)),
    *rows(
        "headers",
        ("# Part\n" + LIST,),
        ("".join(f"> a{n}\nreply {n * n}\n" for n in range(50)),),
        ("== A ==\n" + LIST,),
    ),
    *rows("plain", (PLAIN,), (FRENCH * 20,), (PLAIN * 50,)),
]


@pytest.mark.parametrize("text", [pytest.param(row.values[0], id=row.id) for row in QUIET])
def test_text_that_is_no_list_is_not_called_one(tmp_path, text):
    assert hints.hints(prepare(tmp_path, text.encode())) == []


# What fit reads, every other verb reads alike.

ENDS = ("\n", "\r\n", "\r")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "iso8859-15")
LETTERS = st.text(st.sampled_from("abz AÉé€ß,.\t\u00a0"), max_size=12)


@functools.cache
def shipped(name):
    return keras_charlm.load(Path(keras_charlm.__file__).parents[1] / "saved_models" / name)


def opened(name, **config):
    """A shipped model as if its corpus had been read in this way."""
    model = copy.copy(shipped(name))
    config = {**model.card.corpus["config"], **config}
    model.card = replace(model.card, corpus={**model.card.corpus, "config": config})
    return model


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(LETTERS, min_size=1, max_size=6),
    final=st.booleans(),
    end=st.sampled_from(ENDS),
    keep=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    own=st.booleans(),
)
def test_every_verb_reads_a_text_as_fit_does(tmp_path, lines, final, end, keep, encoding, own):
    """`own`: the encoding is that of the corpus; otherwise the verb is told."""
    text = end.join(lines) + end * final
    if not text:
        return
    path = tmp_path / "in.txt"
    path.write_bytes(data := text.encode(encoding))
    config = {"keep_line_ends": keep, "lines": False}
    fitted = whole(corpus.prepare([path], CorpusConfig(encoding=encoding, **config)))
    assert fitted == (text if keep else "\n".join(lines) + "\n" * final)
    model = opened("english", encoding=encoding if own else "utf-8", **config)
    told = None if own else encoding
    given_text = model.read(path, told)
    assert model.vocabulary.from_codes(given_text.codes()) == fitted
    np.testing.assert_array_equal(
        given_text.stream(model.vocabulary).read(np.array([0]), len(fitted))[0],
        model.vocabulary.encode(fitted),
    )
    assert model.read_prompt(path, told) == fitted
    assert "\n".join(model.read_lines(path, told)) == fitted.removesuffix("\n")
    folded = folding.fold(data, model.card.corpus_config, told)
    assert folded.text == fitted
    assert folding.unfold(folded, model.card.corpus_config) == data


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(LETTERS, min_size=1, max_size=6),
    final=st.booleans(),
    end=st.sampled_from((*ENDS, "\x85", "\u2028")),
    keep=st.booleans(),
    unit=st.sampled_from(["char", "byte"]),
)
def test_every_verb_reads_a_list_as_fit_does(tmp_path, lines, final, end, keep, unit):
    if unit == "byte":
        end, lines = "\n", [line.replace("\u00a0", "") for line in lines]
    path = tmp_path / "in.txt"
    path.write_bytes((end.join(lines) + end * final).encode())
    items = [line if keep else line.strip() for line in lines if line.strip()]
    if not items:
        return
    config = {"keep_blanks": keep, "unit": unit}
    fitted = corpus.prepare([path], CorpusConfig(lines=True, **config))
    found = fitted.lines()
    read = [
        fitted.text(start, start + size).decode()
        for start, size in zip(found.starts, found.lengths, strict=True)
    ]
    assert read == items
    assert list(found.fingerprints) == list(
        corpus.fingerprints(item.strip().encode() for item in items)
    )
    model = opened("names", **config)
    codes = model.read(path).codes()
    text = (bytes(codes.tolist()) if unit == "byte" else "".join(map(chr, codes)).encode()).decode()
    assert text == "".join(item + "\n" for item in items)
    scored = [line.decode() if isinstance(line, bytes) else line for line in model.read_lines(path)]
    assert [line for line in scored if line.strip()] == items


def test_a_prompt_for_a_list_is_without_the_newline_that_ends_its_file(tmp_path):
    model = opened("names")
    for data, prompt in (
        (b"Ann\n", "Ann"),
        (b"Ann \r\n", "Ann "),
        (b"Ann\n\n", "Ann\n"),
        ("\ufeffAnn\u2028Bo\x85".encode(), "Ann\nBo"),
    ):
        (tmp_path / "p.txt").write_bytes(data)
        assert model.read_prompt(tmp_path / "p.txt") == prompt
    (tmp_path / "p.txt").write_bytes(b"Ann\n")
    assert opened("english").read_prompt(tmp_path / "p.txt") == "Ann\n"


NAMES = "Ann\nBob\nCharlotte\n"
VERBS = [
    ("score", "MODEL", "FILE", "--json"),
    ("evaluate", "MODEL", "FILE", "--json"),
    ("inspect", "MODEL", "FILE", "--json"),
    ("compress", "MODEL", "FILE", "--json"),
]


@pytest.mark.parametrize("verb", [pytest.param(verb, id=verb[0]) for verb in VERBS])
def test_verbs_take_an_encoding_and_name_it_where_it_is_missing(kcharlm, tmp_path, verb):
    folder = Path(keras_charlm.__file__).parents[1] / "saved_models" / "names"
    model = folder / "model.tflite" if verb[0] == "evaluate" else folder  # without TensorFlow

    def run(name, data, *more):
        (tmp_path / name).write_bytes(data)
        args = [{"MODEL": model, "FILE": tmp_path / name}.get(arg, arg) for arg in verb]
        code, out, err = kcharlm(*args, *more)
        return code, out.replace(name, "NAME"), err

    plain = run("plain.txt", NAMES.encode())
    assert plain[0] == 0
    marked = run("marked.txt", b"\xef\xbb\xbf" + NAMES.encode())
    wide = run("wide.txt", NAMES.encode("utf-16"), "--encoding", "utf-16")
    if verb[0] != "compress":
        assert marked[:2] == wide[:2] == plain[:2]
        code, _, err = run("wide.txt", NAMES.encode("utf-16"))
        assert (code, "--encoding utf-16" in err, "--unit" in err) == (2, True, False)
    else:
        figures = [json.loads(out[1]) for out in (plain, marked, wide)]
        assert len({each["bits_per_character"] for each in figures}) == 1
    assert "klingon" in run("other.txt", NAMES.encode(), "--encoding", "klingon")[2]
    assert "are unknown to the model" in run("greek.txt", "Άννα\n".encode())[2]
