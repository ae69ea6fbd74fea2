"""Reading TBX (ISO 30042), the interchange form of terminology databases.

Version 2 has ``martif``, ``termEntry``, ``langSet``, ``tig`` or ``ntig``; version 3 has ``tbx``,
``conceptEntry``, ``langSec``, ``termSec``; TBX-Min has groups for sections. What a term is called
is all that is read, so the styles (data categories as attributes or as tags) differ in one place
only: where a term is said to be deprecated.

A document type is common in version 2 and harmless, since nothing it refers to is ever fetched. A
document that declares entities is refused: they can make a small file huge and read other files.
"""

from __future__ import annotations

from typing import NoReturn
from xml.parsers import expat

from a2p_engine.errors import GlossaryError

Concept = dict[str, list[str]]  # terms by language tag in lower case, deprecated ones last

ROOTS = ("martif", "tbx")
_CONCEPTS = ("termEntry", "conceptEntry")
_LANGUAGES = ("langSet", "langSec", "langGroup")
_TERM_GROUPS = ("tig", "ntig", "termSec", "termGroup")
_DISCOURAGED = ("deprecated", "superseded", "forbidden", "obsolete")


def read_concepts(data: bytes) -> list[Concept]:
    """The concepts of a TBX document, each with its terms in all languages.

    Raises:
        GlossaryError: it is not well-formed, not TBX, or declares entities.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise GlossaryError(f"not XML: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know or have
        raise GlossaryError(f"XML that cannot be decoded: {error}") from None
    return reader.concepts


class _Reader:
    """Follows the elements of a document; a language or term belongs to the one around it."""

    def __init__(self) -> None:
        self.concepts: list[Concept] = []
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._refuse_entity
        parser.SkippedEntityHandler = self._missing_entity
        self._document_language = ""
        self._language = ""
        self._begun = False
        self._text: list[str] | None = None  # of the element that is being read
        self._terms: list[str] = []  # of a group: one, or none if it is empty
        self._discouraged = False
        self._last: list[tuple[str, str]] = []  # discouraged terms of the concept

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        language = attributes.get("xml:lang", attributes.get("lang", ""))
        if not self._begun:
            self._begin(name, language)
        elif name in _CONCEPTS:
            self.concepts.append({})
            self._last = []
        elif name in _LANGUAGES:
            self._language = (language or self._document_language).replace("_", "-").lower()
        elif name in _TERM_GROUPS:
            self._terms, self._discouraged = [], False
        elif name == "term" or _is_status(name, attributes):
            self._text = []

    def _begin(self, name: str, language: str) -> None:
        if name.lower() not in ROOTS:
            raise GlossaryError(f"not TBX: it begins with <{name}>; accepted: martif, tbx")
        self._begun, self._document_language = True, language

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if name == "term" and self._text is not None:
            self._terms.append("".join(self._text))
            self._text = None
        elif name in ("termNote", "administrativeStatus") and self._text is not None:
            self._discouraged = "".join(self._text).strip().lower().startswith(_DISCOURAGED)
            self._text = None
        elif name in _TERM_GROUPS:
            self._keep_terms()
        elif name in _CONCEPTS:
            for language, term in self._last:
                self.concepts[-1].setdefault(language, []).append(term)

    def _keep_terms(self) -> None:
        if not self._terms:
            return
        if not self.concepts or not self._language:
            self._fail("a term belongs to no concept or to no language (xml:lang)")
        if self._discouraged:
            self._last += [(self._language, term) for term in self._terms]
        else:
            self.concepts[-1].setdefault(self._language, []).extend(self._terms)
        self._terms = []

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _refuse_entity(self, name: str, *_: object) -> NoReturn:
        self._fail(f"the document type declares the entity {name!r}; entities are not accepted")

    def _missing_entity(self, name: str, is_parameter: bool) -> None:
        if self._text is not None and not is_parameter:
            self._fail(f"the entity {name!r} is not known; write the character itself")

    def _fail(self, trouble: str) -> NoReturn:
        raise GlossaryError(f"line {self.parser.CurrentLineNumber}: {trouble}")


def _is_status(name: str, attributes: dict[str, str]) -> bool:
    """Whether an element says how a term is to be used, in either style."""
    return name == "administrativeStatus" or (
        name == "termNote" and attributes.get("type") == "administrativeStatus"
    )
