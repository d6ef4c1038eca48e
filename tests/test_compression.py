import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import babble
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_charlm
from keras_charlm.errors import CompressionError
from keras_charlm.evaluation import compression
from keras_charlm.evaluation.compression import OVERHEAD

slow = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def model(text_model):
    return keras_charlm.load(text_model)


@pytest.fixture(scope="module")
def byte_model(text_model):
    """The same network, its symbols taken for bytes."""
    model = keras_charlm.load(text_model)
    model.vocabulary = replace(model.vocabulary, unit="byte")
    return model


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@slow
@given(
    st.binary(max_size=150)
    | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_every_byte_comes_back(model, byte_model, data):
    for either in (model, byte_model):
        assert either.decompress(either.compress(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"the cat\r\nsat\r\n",
        b"the cat\r\nsat\n",
        b"the\rcat",
        b"\xef\xbb\xbfthe cat",
        "e\N{COMBINING ACUTE ACCENT} \u00e9".encode(),
        b"the \xff\xfe cat \xc3",
        b"\xed\xb2\x80",
        "the \U0001f408 sat \ufffd".encode(),
        b"the\0cat",
    ],
)
def test_nothing_is_normalized_away(model, data):
    assert model.decompress(model.compress(data)) == data


def test_line_ends_cost_nothing_where_all_are_alike(model):
    text = babble(2000).encode()
    assert abs(len(model.compress(text.replace(b"\n", b"\r\n"))) - len(model.compress(text))) <= 4


def test_a_text_in_the_encoding_of_the_corpus(text_model):
    model = keras_charlm.load(text_model)
    config = {**model.card.corpus["config"], "encoding": "utf-16-le"}
    model.card = replace(model.card, corpus={**model.card.corpus, "config": config})
    content, report = compression.compress(model, babble(900).encode("utf-16-le"))
    assert (report.characters, report.bytes) == (900, 1800)
    assert model.decompress(content) == babble(900).encode("utf-16-le")
    assert model.decompress(model.compress(b"\0\xd8\xff")) == b"\0\xd8\xff"  # not UTF-16


def contents():
    return {
        "text": babble(20_000, seed=9).encode(),
        "source": Path(compression.__file__).read_bytes(),
        "random": random.Random(0).randbytes(3000),
        "empty": b"",
        "list": b"abc\nca\nbb\n" * 50,
    }


@pytest.mark.parametrize("kind", contents())
def test_files_through_the_command_line(kcharlm, here, text_model, kind):
    data = contents()[kind]
    Path("file").write_bytes(data)
    code, out, err = kcharlm("compress", text_model, "file")
    assert code == 0
    assert err == "" or "are unknown to the model" in err
    size = Path("file.kclm").stat().st_size
    assert out.startswith(f"file.kclm: {size:,} bytes for {len(data):,}\n")
    assert size <= len(data) + OVERHEAD
    assert ("stored uncompressed" in out) == (kind == "random")
    code, out, err = kcharlm("decompress", text_model, "file.kclm", "-o", "again")
    assert (code, out, err) == (0, f"again: {len(data):,} bytes\n", "")
    assert Path("again").read_bytes() == data
    assert Path("file").read_bytes() == data
    assert sorted(p.name for p in here.iterdir()) == ["again", "file", "file.kclm"]


def test_the_size_proves_the_bits_per_character(kcharlm, here, model):
    text = contents()["text"]
    Path("file").write_bytes(text)
    code, out, _ = kcharlm("compress", model.path, "file", "--json")
    assert code == 0
    report = json.loads(out)
    figure = model.evaluate(text.decode()).bits_per_character
    coded = 8 * (Path("file.kclm").stat().st_size - OVERHEAD) / len(text)
    assert coded == pytest.approx(figure, rel=0.01)
    assert report["written_bits_per_character"] == pytest.approx(coded)
    assert report["bits_per_character"] == pytest.approx(figure, rel=1e-4)
    assert report["compressed_bytes"] == Path("file.kclm").stat().st_size
    assert (report["characters"], report["bytes"], report["stored"]) == (20_000, 20_000, False)
    assert report["unknown"] == 0


def test_unknown_characters_are_counted(kcharlm, here, model):
    Path("file").write_text(babble(500) + "\u00e9 \u00e9")
    code, out, _ = kcharlm("compress", model.path, "file")
    assert code == 0
    assert "; 2 of them are not in its vocabulary\n" in out


def test_the_same_content_gives_the_same_file(model):
    text = babble(500).encode()
    assert model.compress(text) == model.compress(text)


def test_what_is_unknown_soon_becomes_cheap(model):
    data = "\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}".encode() * 500
    assert len(model.compress(data)) - OVERHEAD < len(data) / 8


def test_the_on_device_file_alone_is_the_same_model(model):
    alone = keras_charlm.load(model.path / "model.tflite")
    assert alone.decompress(model.compress(b"the cat")) == b"the cat"


@slow
@given(st.data())
def test_a_changed_file_is_refused(model, data):
    content = model.compress(b"the cat sat on a mat")
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        changed = content[:at]
    else:
        flip = data.draw(st.integers(1, 255))
        changed = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
    with pytest.raises(CompressionError, match=r"damaged|not a compressed file|format \d+"):
        model.decompress(changed)


@slow
@given(st.binary(max_size=60), st.integers(0, 7), st.integers(0, 200))
def test_a_forged_file_is_refused(model, payload, flags, characters):
    body = (
        compression._HEADER.pack(
            b"KCLM", 1, flags & ~1, compression._model_digest(model), b"?" * 16, characters
        )
        + payload
    )
    with pytest.raises(CompressionError, match="by its checksum"):
        model.decompress(body + compression._digest(body))


def test_another_arithmetic_is_noticed(model, monkeypatch):
    content = model.compress(babble(300).encode())
    advance = compression._Predictor._advance

    def otherwise(self, code):
        advance(self, code)
        self._p = self._p**1.1 / (self._p**1.1).sum()

    monkeypatch.setattr(compression._Predictor, "_advance", otherwise)
    with pytest.raises(CompressionError, match="computes differently"):
        model.decompress(content)


@pytest.mark.parametrize(
    "args, message",
    [
        (["compress", "none", "file"], "There is no model none"),
        (["compress", "MODEL", "none"], "There is no file none"),
        (["compress", "MODEL", "folder"], "folder cannot be read"),
        (["compress", "MODEL", "file", "-o", "file"], "file is the file to read"),
        (["compress", "MODEL", "file", "-o", "other"], "other exists; name another --output"),
        (["compress", "MODEL", "file", "-o", "folder"], "folder is a folder"),
        (["compress", "MODEL", "file", "-o", "none/x"], "no folder none for x"),
        (["decompress", "MODEL", "file"], "file does not end in .kclm"),
        (
            ["decompress", "MODEL", "file", "-o", "x"],
            "file cannot be decompressed. It is not a compressed file",
        ),
        (["decompress", "MODEL", "file.kclm"], "file exists"),
        (["decompress", "LIST", "file.kclm", "-o", "x"], "It was written with another model"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_everything_as_it_was(
    kcharlm, here, text_model, list_model, model, args, message
):
    Path("file").write_bytes(b"the cat")
    Path("other").write_bytes(b"precious")
    Path("file.kclm").write_bytes(model.compress(b"the mat"))
    Path("folder").mkdir()
    before = {p: p.read_bytes() for p in here.iterdir() if p.is_file()}
    named = {"MODEL": text_model, "LIST": list_model}
    code, out, err = kcharlm(*(named.get(arg, arg) for arg in args))
    assert code == 2
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert {p: p.read_bytes() for p in here.iterdir() if p.is_file()} == before


def test_overwrite_replaces_and_an_interrupt_does_not(model, here):
    Path("file").write_bytes(babble(2000).encode())
    Path("file.kclm").write_bytes(b"precious")

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compression.compress_file(model, "file", overwrite=True, watch=stop)
    assert Path("file.kclm").read_bytes() == b"precious"
    assert len(list(here.iterdir())) == 2
    seen = []
    compression.compress_file(
        model, "file", overwrite=True, watch=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, 2000)
    assert seen == sorted(seen)
    path, size = compression.decompress_file(model, "file.kclm", overwrite=True)
    assert (path, size) == (Path("file"), 2000)
