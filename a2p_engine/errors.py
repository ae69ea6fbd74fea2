"""Everything that can go wrong, as one tree.

A2PError
├── InputError            what the caller passed is unusable (audio, option, text)
│   ├── AudioError        audio cannot be read or has the wrong form
│   └── GlossaryError     a glossary cannot be read or edited
├── ModelError            weights are missing, damaged or of another shape
│   ├── DownloadError     weights could not be fetched
│   └── ModelUnavailable  a model behind a network gave no answer in time
├── UnknownSession        the session handle is not open
└── TrainingError         training data or a checkpoint is unusable

The streaming server adds its own branch (see streaming/errors.py) and gives each error a wire code.
"""

from __future__ import annotations


class A2PError(Exception):
    """Root of every error raised on purpose; its text is one line a user can act on."""


class InputError(A2PError):
    """What the caller passed is unusable; the text names what is wrong and what is accepted."""


class AudioError(InputError):
    """Audio cannot be read or has the wrong form."""


class GlossaryError(InputError):
    """A glossary cannot be read or edited."""


class ModelError(A2PError):
    """Model weights are missing, damaged or of another shape."""


class DownloadError(ModelError):
    """Model weights could not be fetched."""


class ModelUnavailable(ModelError):
    """A model behind a network gave no good answer in time; it may the next time."""


class UnknownSession(A2PError):
    """The session handle is not open."""


class TrainingError(A2PError):
    """Training data or a checkpoint is unusable."""
