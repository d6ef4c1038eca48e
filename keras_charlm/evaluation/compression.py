"""Compression of files: range coding with the model's probabilities.

The coded size is the model's bits per character (Shannon, "A Mathematical Theory of Communication",
1948), so the size of the written file confirms the score of `evaluate`. The on-device file
computes the probabilities in one thread, one character at a time, so that encoder and decoder make
the same calls and get identical results. Another processor or version of LiteRT may round
differently; the checksum of the content detects that.

A compressed file, little-endian:

    4 bytes   KCLM
    1 byte    format
    1 byte    flags: how the content was read, see `evaluation.folding`
    32 bytes  SHA-256 of the on-device file that computes the probabilities
    16 bytes  BLAKE2b of the content
    8 bytes   number of characters
    1 + n     length and name of the content's encoding, with the flag NAMED only
    1 + 2n    number of labels and the number of each, with the flag LABELLED only
    ...       32-bit words of the range coder, or the content itself where that is shorter
    16 bytes  BLAKE2b of everything before

Any file can be compressed. A character outside the vocabulary is coded as the unknown symbol
followed by its code point; bytes that do not decode are treated as such characters.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_charlm.errors import CompressionError, OptionError, brief
from keras_charlm.evaluation import Watch, folding
from keras_charlm.files import check_name, check_output, is_kind, write_file, writing
from keras_charlm.generation.litert import Runner
from keras_charlm.saved.trained import TrainedModel
from keras_charlm.text.labels import FIRST_CODE
from keras_charlm.text.vocabulary import UNKNOWN

SUFFIX = ".kclm"
MAGIC, FORMAT = b"KCLM", 2
_HEADER = struct.Struct("<4sBB32s16sQ")
_DIGEST = 16  # bytes of a BLAKE2b digest
OVERHEAD = _HEADER.size + _DIGEST  # bytes of a compressed file besides the coded content
_STORED = 1  # flag: the content is stored, not coded; the other flags are those of `folding`
_LABELLED = 128  # flag: the text, or each line, has labels
_LEARN = 32  # added to the count of a coded part (initially 1), so that repeats soon become cheap
_EVERY = 256  # characters between two calls of `watch`


@dataclass(frozen=True)
class Compression:
    """The figures of a compression.

    Attributes:
        characters: Characters (of a byte model: bytes) of the content.
        unknown: Characters outside the vocabulary, whose code points were coded.
        bytes: Bytes of the content.
        compressed_bytes: Bytes of the compressed file, OVERHEAD included.
        written_bits_per_character: Bits of the coded content per character, without OVERHEAD.
        bits_per_character: Mean of the model's -log2 p, as in `evaluate`, without the code points
            of unknown characters.
        stored: Whether the content was stored uncompressed, because coding made it longer.
    """

    characters: int
    unknown: int
    bytes: int
    compressed_bytes: int
    written_bits_per_character: float
    bits_per_character: float
    stored: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compress(
    model: TrainedModel,
    data: bytes,
    watch: Watch | None = None,
    encoding: str | None = None,
    labels: str | Sequence[str] = (),
) -> tuple[bytes, Compression]:
    """Compress bytes.

    Args:
        model: The model; only it can decompress.
        data: Any bytes.
        watch: Called with the progress.
        encoding: Their encoding, if it is neither the corpus's nor UTF-8.
        labels: Labels of the text, or of each of its lines for a model of lines.

    Returns:
        The content of a compressed file, and the figures.

    Raises:
        CompressionError: They are not in `encoding`.
        OptionError: The model has no such label.
    """
    import constriction

    given = [label.code for label in model.labels(labels)]
    codes, flags, name = _to_codes(data, model, encoding)
    predictor, encoder = _Predictor(model, given), constriction.stream.queue.RangeEncoder()
    ids = model.vocabulary.lookup(codes).tolist()
    bits = 0.0
    for at, (code, id_) in enumerate(zip(codes.tolist(), ids, strict=True)):
        if watch and not at % _EVERY:
            watch(at, len(ids))
        bits += predictor.bits(id_)
        encoder.encode(id_, predictor.distribution())
        if id_ == UNKNOWN:
            for table, part in zip(predictor.spelling, divmod(code, 256), strict=True):
                encoder.encode(part, table.distribution())
                table.add(part)
        predictor.read(code, id_)
    payload = encoder.get_compressed().astype("<u4").tobytes()
    if given:
        flags |= _LABELLED
        numbers = np.array([code - FIRST_CODE for code in given], "<u2")
        payload = bytes([len(given)]) + numbers.tobytes() + payload
    if stored := len(payload) > len(data):
        flags, name, payload = _STORED, "", data
    header = _HEADER.pack(MAGIC, FORMAT, flags, _model_digest(model), _digest(data), len(codes))
    content = header + (bytes([len(name)]) + name.encode() if name else b"") + payload
    content += _digest(content)
    count = max(len(ids), 1)
    return content, Compression(
        len(ids),
        ids.count(UNKNOWN),
        len(data),
        len(content),
        8 * len(payload) / count,
        bits / count,
        stored,
    )


def decompress(model: TrainedModel, content: bytes, watch: Watch | None = None) -> bytes:
    """Restore the bytes that `compress` read.

    Args:
        model: The model that compressed them.
        content: Content of a compressed file.
        watch: Called with the progress.

    Raises:
        CompressionError: It is not a compressed file, is damaged, or was written by another model
            or on a machine that computes differently.
    """
    packed = _unpack(model, content)
    if packed.flags & _STORED:
        return packed.payload
    try:
        codes = _decode(model, packed.payload, packed.flags, packed.characters, watch)
        data = _from_codes(codes, packed, model)
    except (AssertionError, ValueError, UnicodeError, LookupError):  # words that no encoder wrote
        data = None
    if data is None or _digest(data) != packed.digest:
        raise CompressionError(
            "The restored content differs from the original (by its checksum): this machine or its "
            "version of LiteRT computes differently from where it was written; decompress it there."
        )
    return data


class _Packed(NamedTuple):
    """The fields of a compressed file; digest, length and encoding are those of its content."""

    flags: int
    digest: bytes
    characters: int
    encoding: str
    payload: bytes


def _unpack(model: TrainedModel, content: bytes) -> _Packed:
    """Check a compressed file and unpack its fields."""
    if content[: len(MAGIC)] != MAGIC:
        raise CompressionError("It is not a compressed file; name one that kcharlm compress wrote.")
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
    _, _, flags, writer, digest, characters = _HEADER.unpack_from(body)
    if writer != (own := _model_digest(model)):
        raise CompressionError(
            f"It was written with another model (SHA-256 {writer.hex()[:12]}...) than {model.path} "
            f"({own.hex()[:12]}...); name the one that wrote it."
        )
    rest = body[_HEADER.size :]
    size = 1 + rest[0] if flags & folding.NAMED and rest else 0
    encoding = rest[1:size].decode("ascii", "replace")
    return _Packed(flags, digest, characters, encoding, rest[size:])


def _decode(
    model: TrainedModel, payload: bytes, flags: int, characters: int, watch: Watch | None
) -> np.ndarray:
    """The codes that a payload holds, int64 (characters,).

    Raises:
        AssertionError, ValueError: No encoder wrote it.
    """
    import constriction

    labels: list[int] = []
    if flags & _LABELLED:
        size = 1 + 2 * payload[0]
        labels = [FIRST_CODE + int(n) for n in np.frombuffer(payload[1:size], "<u2")]
        payload = payload[size:]
    predictor, known = _Predictor(model, labels), (0, *model.vocabulary.codes)
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").copy())
    codes = []
    for at in range(characters):
        if watch and not at % _EVERY:
            watch(at, characters)
        id_ = decoder.decode(predictor.distribution())
        code = known[id_]
        if id_ == UNKNOWN:
            code = 0
            for table in predictor.spelling:
                part = decoder.decode(table.distribution())
                table.add(part)
                code = 256 * code + part
        codes.append(code)
        predictor.read(code, id_)
    return np.array(codes, np.int64)


def compress_file(
    model: TrainedModel,
    source: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
    encoding: str | None = None,
    labels: str | Sequence[str] = (),
) -> tuple[Path, Compression]:
    """Compress a file; the source is kept.

    Args:
        model: The model; only it can decompress.
        source: Any file.
        output: The file to write; by default the source's name with '.kclm' appended.
        overwrite: Replace an existing file.
        watch: Called with the progress.
        encoding: The source's encoding, if it is neither the corpus's nor UTF-8.
        labels: As for `compress`.

    Returns:
        The file that was written, and the figures.

    Raises:
        CompressionError: The source cannot be read, or is not in `encoding`.
        OptionError: The output exists or cannot be written, or the model has no such label.
    """
    output = Path(output or f"{source}{SUFFIX}")
    _check(output, source, overwrite)
    content, figures = compress(model, _read(source), watch, encoding, labels)
    with writing(output):
        write_file(output, content)
    return output, figures


def decompress_file(
    model: TrainedModel,
    source: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> tuple[Path, int]:
    """Restore the file that `compress_file` read; the compressed file is kept.

    Args:
        model: The model that compressed it.
        source: A compressed file.
        output: The file to write; by default the source's name without '.kclm'.
        overwrite: Replace an existing file.
        watch: Called with the progress.

    Returns:
        The file that was written, and its size in bytes.

    Raises:
        CompressionError: As for `decompress`; or the source cannot be read.
        OptionError: No name for the output is given or known, or it exists or cannot be written.
    """
    if output is None:
        if not str(source).endswith(SUFFIX):
            raise OptionError(
                f"{brief(source)} does not end in {SUFFIX}, so the name of its content "
                "is not known; give one with --output."
            )
        output = str(source).removesuffix(SUFFIX)
    output = Path(output)
    _check(output, source, overwrite)
    try:
        data = decompress(model, _read(source), watch)
    except CompressionError as error:
        raise CompressionError(f"{brief(source)} cannot be decompressed. {error}") from error
    with writing(output):
        write_file(output, data)
    return output, len(data)


class _Table:
    """Adaptive distribution of one part of the code points of unknown characters."""

    def __init__(self, size: int):
        self.counts = np.ones(size)

    def distribution(self) -> Any:
        """The next part's distribution, for constriction's coders."""
        return _categorical(self.counts)

    def add(self, part: int) -> None:
        """Count a part that was coded."""
        self.counts[part] += _LEARN


class _Predictor:
    """Reads a text and predicts each next symbol, identically for encoder and decoder.

    The probabilities are the network's, with one exception. The network has not seen the unknown
    symbol in training, so it cannot estimate its frequency: after the first one, its probability is
    at least its share of the text so far, and the other symbols are scaled to the rest.

    Args:
        model: The model.
        labels: Codes of the labels, read before the text, or before each line of a model of lines.

    Attributes:
        spelling: Tables of the higher bits and of the lowest byte of unknown code points.
    """

    def __init__(self, model: TrainedModel, labels: Sequence[int] = ()):
        self._labels = labels
        self._newline = model.card.start if model.card.lines else None
        self._runner = Runner(model.device_file, num_threads=1)
        self._state = np.zeros((1, self._runner.state_size), np.float32)
        self._read, self._unknown = 0, 0
        self.spelling = (_Table(0x110000 // 256), _Table(256))
        for code in (model.card.start, *labels):
            self._advance(code)

    def bits(self, id_: int) -> float:
        """-log2 p of a symbol according to the network alone."""
        return -float(np.log2(max(self._p[id_], np.finfo(np.float64).tiny)))

    def distribution(self) -> Any:
        """The next symbol's distribution, for constriction's coders."""
        p, share = self._p, self._unknown / (self._read + 1)
        if share > p[UNKNOWN]:
            p = p * ((1 - share) / (1 - p[UNKNOWN]))
            p[UNKNOWN] = share
        return _categorical(p)

    def read(self, code: int, id_: int) -> None:
        """Advance the state by the actual next character."""
        self._read += 1
        self._unknown += id_ == UNKNOWN
        self._advance(code)
        if code == self._newline:
            for label in self._labels:
                self._advance(label)

    def _advance(self, code: int) -> None:
        out = self._runner("step", text=np.array([code], np.int32), state=self._state)
        self._state = out["state"]
        logits = out["logits"][0].astype(np.float64)  # (V,)
        p = np.exp(logits - logits.max())
        self._p = p / p.sum()


def _categorical(weights: np.ndarray) -> Any:
    """The distribution proportional to weights (V,), quantized to 24 bits without zeros."""
    import constriction

    return constriction.stream.model.Categorical(weights, lazy=True)


def _to_codes(
    data: bytes, model: TrainedModel, encoding: str | None
) -> tuple[np.ndarray, int, str]:
    """The characters of a file as the model reads them (N,); flags and encoding to restore it."""
    if model.vocabulary.unit == "byte":
        return model.vocabulary.to_codes(data), 0, ""
    folded = folding.fold(data, model.card.corpus_config, encoding)
    return model.vocabulary.to_codes(folded.text), folded.flags, folded.encoding


def _from_codes(codes: np.ndarray, packed: _Packed, model: TrainedModel) -> bytes:
    """The bytes that `_to_codes` read, from codes (N,)."""
    text = model.vocabulary.from_codes(codes)
    if isinstance(text, bytes):
        return text
    folded = folding.Folded(text, packed.flags, packed.encoding)
    return folding.unfold(folded, model.card.corpus_config)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _model_digest(model: TrainedModel) -> bytes:
    return hashlib.sha256(model.device_file.read_bytes()).digest()


def _check(output: Path, source: str | Path, overwrite: bool) -> None:
    """Raise OptionError if the output is the source, or cannot be written."""
    check_name(output)
    if output.is_file() and is_kind(source, Path.exists) and output.samefile(source):
        raise OptionError(f"{brief(output)} is the file to read; name another --output.")
    check_output(output, overwrite)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        if str(path) == "-":
            raise CompressionError("Standard input cannot be read here; name a file.") from None
        raise CompressionError(f"There is no file {brief(path)}; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise CompressionError(
            f"{brief(path)} cannot be read ({getattr(error, 'strerror', None) or error}); name a "
            "file."
        ) from error
