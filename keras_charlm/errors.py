"""Every error that a user can cause.

CharLMError
├── OptionError        an option or argument out of range
├── CorpusError        a text that cannot be read, or is too small
├── PromptError        a prompt that the model cannot read
├── BundleError        a model folder that is missing, half-written, newer or damaged
├── TrainingError      a run that cannot start or go on
├── ExportError        a model that could not be written for another place
├── CompressionError   a compressed file that is damaged, or of another model
└── Interrupted        a run stopped by a signal, its work saved

Each message is one sentence that tells what came, what was needed and what to do.
"""


class CharLMError(Exception):
    """Base of all errors of this package; the command line prints it and exits with `exit_code`."""

    exit_code = 2


class OptionError(CharLMError, ValueError):
    """An option or argument is out of range or does not go with another."""


class CorpusError(CharLMError):
    """A text cannot be read, is not text, or is too small for what was asked."""


class PromptError(CharLMError, ValueError):
    """A prompt holds a character that the model does not know."""


class BundleError(CharLMError):
    """A model folder is missing, half-written, of another format or damaged."""


class TrainingError(CharLMError):
    """A training run cannot start or cannot go on."""


class ExportError(CharLMError):
    """A model could not be written for another place, or does not give the same there."""

    exit_code = 1


class CompressionError(CharLMError):
    """A file cannot be compressed, or what was compressed cannot be had back here."""


class Interrupted(CharLMError):
    """A signal stopped the run after its work was saved."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.exit_code = 128 + signal
