"""Every error that a user can cause.

CharLMError
├── OptionError        an option or argument out of range
├── CorpusError        a text that cannot be read, or is too small
├── PromptError        a prompt that the model cannot read
├── BundleError        a model folder that is missing, incomplete, newer or damaged
├── TrainingError      a training that cannot start or continue
├── ExportError        an export that failed or differs from the model
├── CompressionError   a compressed file that is damaged, or was written by another model
└── Interrupted        a training stopped by a signal, its work saved

Each message is one sentence: what was given, what was needed and what to do.
"""

_VALUE = 200  # characters of a given value that a message shows at most
_MESSAGE = 700  # characters of a whole message, with several such values in it


def brief(value: object, longest: int = _VALUE) -> str:
    """A given value, or a whole message, in one line and without its middle if it is long.

    Args:
        value: What was given; as text.
        longest: Characters to show at most.
    """
    text = " ".join(str(value).splitlines())
    if len(text) <= longest:
        return text
    end = longest // 5
    return f"{text[: longest - end - 3]}...{text[-end:]}"


class OptionNote(UserWarning):
    """A setting or argument is accepted, but has no effect or another one than it seems.

    Args:
        message: One sentence, as for errors.
    """

    def __init__(self, message: object = ""):
        super().__init__(brief(message, _MESSAGE))


class CharLMError(Exception):
    """Base of all errors of this package; the command line prints it and exits with `exit_code`.

    Args:
        message: One sentence; it becomes one line of limited length, whatever was given.
    """

    exit_code = 2

    def __init__(self, message: object = ""):
        super().__init__(brief(message, _MESSAGE))


class OptionError(CharLMError, ValueError):
    """An option or argument is out of range or conflicts with another."""


class CorpusError(CharLMError):
    """A text cannot be read, is not text, or is too small for what was asked."""


class PromptError(CharLMError, ValueError):
    """A prompt has a character outside the model's vocabulary."""


class BundleError(CharLMError):
    """A model folder is missing, incomplete, of another format or damaged."""


class TrainingError(CharLMError):
    """A training cannot start or cannot continue."""


class ExportError(CharLMError):
    """A model could not be exported, or the export computes different results."""

    exit_code = 1


class CompressionError(CharLMError):
    """A file cannot be compressed, or a compressed file cannot be restored here."""


class Interrupted(CharLMError):
    """A signal stopped the training after its work was saved.

    Args:
        message: One sentence, as for all errors.
        signal: The signal's number; the exit code is 128 + signal.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_code = 128 + signal
