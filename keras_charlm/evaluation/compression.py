"""A file as small as the model predicts it: range coding with the model's probabilities.

The model's bits per character are what such a coder needs (Shannon, "A Mathematical Theory of
Communication", 1948), so the size of the written file proves the figure. The on-device file
computes the probabilities, in one thread and one character after the other: encoder and decoder
make the very same calls and get the very same bits. Another processor or another version of LiteRT
may not; the checksum of the content tells.

A compressed file, little-endian:

    4 bytes   KCLM
    1 byte    format
    1 byte    flags: how the content was read, see below
    32 bytes  SHA-256 of the on-device file that computes
    16 bytes  BLAKE2b of the content
    8 bytes   number of characters
    ...       32-bit words of the range coder, or the content itself where that is shorter
    16 bytes  BLAKE2b of everything before

Any file goes in. What the model does not know is announced by the unknown symbol and spelled; bytes
that do not decode are such characters too.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_charlm.config import CorpusConfig
from keras_charlm.errors import CompressionError
from keras_charlm.files import replace_file
from keras_charlm.generation.runner import Runner
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.vocabulary import UNKNOWN

SUFFIX = ".kclm"


MAGIC, FORMAT = b"KCLM", 1


_HEADER = struct.Struct("<4sBB32s16sQ")


_DIGEST = 16  # bytes of a BLAKE2b


OVERHEAD = _HEADER.size + _DIGEST  # bytes of a compressed file that do not hold the content


# Flags: nothing was coded; the text is in the encoding of the corpus, else it is UTF-8; every line
# ended in \r\n, and the model has read \n.
_STORED, _ENCODED, _CRLF = 1, 2, 4


_LEARN = 32  # what a spelled character adds to its counts of 1: new ones soon become cheap


Watch = Callable[[int, int], None]  # characters done, and of how many


@dataclass(frozen=True)
class Compression:
    """What compression gave.

    Attributes:
        characters: Characters (of a byte model: bytes) of the content.
        unknown: Those that the model does not know, and that were spelled.
        bytes: Bytes of the content.
        compressed_bytes: Bytes of the compressed file, OVERHEAD included.
        written_bits_per_character: Bits of the coded content by its characters, without OVERHEAD.
        bits_per_character: Mean of -log2 p by the model, what `evaluate` gives; the spelling of
            unknown characters is not in it.
        stored: The content was kept as it is, for coded it would be longer.
    """

    characters: int
    unknown: int
    bytes: int
    compressed_bytes: int
    written_bits_per_character: float
    bits_per_character: float
    stored: bool

    def to_dict(self) -> dict:
        return asdict(self)


def compress(
    model: TrainedModel, data: bytes, watch: Watch | None = None
) -> tuple[bytes, Compression]:
    """Code a file's content by a model.

    Args:
        model: The model; only it can decompress.
        data: Any bytes.
        watch: Is called now and then.

    Returns:
        The content of a compressed file, and the figures.
    """
    import constriction

    flags, codes = _to_codes(data, model)
    predictor, encoder = _Predictor(model), constriction.stream.queue.RangeEncoder()
    ids = model.vocabulary.lookup(codes).tolist()
    nats = 0.0
    for at, (code, id_) in enumerate(zip(codes.tolist(), ids, strict=True)):
        if watch and not at % 256:
            watch(at, len(ids))
        nats += predictor.cost(id_)
        encoder.encode(id_, predictor.distribution())
        if id_ == UNKNOWN:
            for table, part in zip(predictor.spelling, divmod(code, 256), strict=True):
                encoder.encode(part, table.distribution())
                table.add(part)
        predictor.read(code, id_)
    payload = encoder.get_compressed().astype("<u4").tobytes()
    if stored := len(payload) > len(data):
        flags, payload = _STORED, data
    header = _HEADER.pack(MAGIC, FORMAT, flags, _model_digest(model), _digest(data), len(codes))
    content = header + payload
    content += _digest(content)
    count = max(len(ids), 1)
    return content, Compression(
        len(ids),
        ids.count(UNKNOWN),
        len(data),
        len(content),
        8 * len(payload) / count,
        nats / np.log(2) / count,
        stored,
    )


def decompress(model: TrainedModel, content: bytes, watch: Watch | None = None) -> bytes:
    """Give back the content that `compress` was given.

    Args:
        model: The model that compressed it.
        content: Content of a compressed file.
        watch: Is called now and then.

    Raises:
        CompressionError: It is no such file, is damaged, or another model or machine wrote it.
    """
    import constriction

    if content[: len(MAGIC)] != MAGIC:
        raise CompressionError(
            "It does not begin like a compressed file; name one that kcharlm compress wrote."
        )
    if len(content) > len(MAGIC) and content[len(MAGIC)] > FORMAT:
        raise CompressionError(
            f"It has format {content[len(MAGIC)]}, and this program reads up to "
            f"{FORMAT}; update keras_charlm."
        )
    body = content[:-_DIGEST]
    if len(content) < OVERHEAD or _digest(body) != content[-_DIGEST:]:
        raise CompressionError(
            "It is damaged (truncated, or changed since it was written); copy it again."
        )
    _, _, flags, wrote, digest, characters = _HEADER.unpack_from(body)
    payload, have = body[_HEADER.size :], _model_digest(model)
    if wrote != have:
        raise CompressionError(
            f"It was written with another model (SHA-256 {wrote.hex()[:12]}...) than {model.path} "
            f"({have.hex()[:12]}...); name the one that wrote it."
        )
    if flags & _STORED:
        return payload
    predictor = _Predictor(model)
    known = (0, *model.vocabulary.codes)
    codes = np.zeros(0, np.int64)
    try:
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").copy())
        found = []
        for at in range(characters):
            if watch and not at % 256:
                watch(at, characters)
            id_ = decoder.decode(predictor.distribution())
            code = known[id_]
            if id_ == UNKNOWN:
                code = 0
                for table in predictor.spelling:
                    part = decoder.decode(table.distribution())
                    table.add(part)
                    code = 256 * code + part
            found.append(code)
            predictor.read(code, id_)
        codes = np.array(found, np.int64)
        data = _from_codes(codes, flags, model)
    except (AssertionError, ValueError, UnicodeError):  # words that the coder could not have made
        data = None
    if data is None or _digest(data) != digest:
        raise CompressionError(
            "What came out is not what went in (its checksum differs): this machine or its version "
            "of LiteRT computes otherwise than the one that wrote it; decompress it there."
        )
    return data


def compress_file(
    model: TrainedModel,
    source: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> tuple[Path, Compression]:
    """Compress a file; the source stays.

    Args:
        model: The model; only it can decompress.
        source: Any file.
        output: Where to write; by default the source's name with '.kclm' behind it.
        overwrite: Replace what is there.
        watch: Is called now and then.

    Returns:
        What was written, and the figures.

    Raises:
        CompressionError: A file cannot be read or written, or is there already.
    """
    output = _output(output or f"{source}{SUFFIX}", source, overwrite)
    content, report = compress(model, _read(source), watch)
    _write(output, content)
    return output, report


def decompress_file(
    model: TrainedModel,
    source: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> tuple[Path, int]:
    """Write what a compressed file holds; the compressed file stays.

    Args:
        model, overwrite, watch: As for `compress_file`.
        source: A compressed file.
        output: Where to write; by default the source's name without '.kclm'.

    Returns:
        What was written, and its bytes.

    Raises:
        CompressionError: As for `decompress`; or a file cannot be read or written.
    """
    if output is None:
        if not str(source).endswith(SUFFIX):
            raise CompressionError(
                f"{source} does not end in {SUFFIX}, so the name of its content "
                "is not known; give one with --output."
            )
        output = str(source).removesuffix(SUFFIX)
    output = _output(output, source, overwrite)
    try:
        data = decompress(model, _read(source), watch)
    except CompressionError as error:
        raise CompressionError(f"{source} cannot be decompressed. {error}") from error
    _write(output, data)
    return output, len(data)


class _Table:
    """Counts of symbols spelled so far, which are the probabilities of the next."""

    def __init__(self, size: int):
        self.counts = np.ones(size)

    def distribution(self):
        return _categorical(self.counts)

    def add(self, symbol: int) -> None:
        self.counts[symbol] += _LEARN


class _Predictor:
    """Reads a text and tells the probabilities of each next symbol, alike on both ways.

    They are the network's. It never met the unknown symbol in training, though, and cannot tell how
    frequent it is here: once one has come, its share is at least the one so far, and the other
    symbols divide the rest.

    Attributes:
        spelling: Counts of the higher part and of the lowest byte of unknown characters.
    """

    def __init__(self, model: TrainedModel):
        self._runner = Runner(model.device_file, num_threads=1)
        self._state = np.zeros((1, self._runner.state_size), np.float32)
        self._read, self._unknown = 0, 0
        self.spelling = (_Table(0x110000 // 256), _Table(256))
        self._advance(model.card.start)

    def cost(self, id_: int) -> float:
        """-ln p of a symbol by the network alone."""
        return -float(np.log(max(self._p[id_], np.finfo(np.float64).tiny)))

    def distribution(self):
        """The next symbol's distribution, for constriction's coders."""
        p, share = self._p, self._unknown / (self._read + 1)
        if share > p[UNKNOWN]:
            p = p * ((1 - share) / (1 - p[UNKNOWN]))
            p[UNKNOWN] = share
        return _categorical(p)

    def read(self, code: int, id_: int) -> None:
        """Go on behind a character."""
        self._read += 1
        self._unknown += id_ == UNKNOWN
        self._advance(code)

    def _advance(self, code: int) -> None:
        out = self._runner("step", text=np.int32([code]), state=self._state)
        self._state = out["state"]
        logits = out["logits"][0].astype(np.float64)  # (V,)
        p = np.exp(logits - logits.max())
        self._p = p / p.sum()


def _categorical(weights: np.ndarray):
    """Weights (V,) of 24-bit precision, none of them zero."""
    import constriction

    return constriction.stream.model.Categorical(weights, lazy=True)


def _to_codes(data: bytes, model: TrainedModel) -> tuple[int, np.ndarray]:
    """The characters of a file as the model reads them, int64 (N,), and how to go back."""
    if model.vocabulary.unit == "byte":
        return 0, model.vocabulary.to_codes(data)
    config, flags = model.card.corpus_config, 0
    text = data.decode("utf-8", "surrogateescape")
    try:
        decoded = data.decode(config.encoding)
        if decoded.encode(config.encoding) == data:
            text, flags = decoded, _ENCODED
    except (UnicodeError, LookupError):
        pass
    if not config.keep_line_ends and "\r\n" in text:
        folded = text.replace("\r\n", "\n")
        if folded.replace("\n", "\r\n") == text:
            text, flags = folded, flags | _CRLF
    return flags, model.vocabulary.to_codes(text)


def _from_codes(codes: np.ndarray, flags: int, model: TrainedModel) -> bytes:
    """The file that `_to_codes` was given."""
    text = model.vocabulary.from_codes(codes)
    if isinstance(text, bytes):
        return text
    if flags & _CRLF:
        text = text.replace("\n", "\r\n")
    config: CorpusConfig = model.card.corpus_config
    return (
        text.encode(config.encoding)
        if flags & _ENCODED
        else text.encode("utf-8", "surrogateescape")
    )


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _model_digest(model: TrainedModel) -> bytes:
    return hashlib.sha256(model.device_file.read_bytes()).digest()


def _output(output: str | Path, source: str | Path, overwrite: bool) -> Path:
    output = Path(output)
    if output.is_dir():
        raise CompressionError(f"{output} is a folder; name a file with --output.")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise CompressionError(f"{output} is the file to read; name another --output.")
    if output.exists() and not overwrite:
        raise CompressionError(
            f"{output} is there already; name another --output, or replace it with --overwrite."
        )
    return output


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise CompressionError(f"There is no file {path}; check the path.") from None
    except OSError as error:
        raise CompressionError(
            f"{path} cannot be read ({error.strerror or error}); name a file."
        ) from error


def _write(path: Path, content: bytes) -> None:
    try:
        replace_file(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise CompressionError(
            f"{path} cannot be written ({error.strerror or error}); name another --output."
        ) from error
