"""TBX of both versions and styles, and documents that mean harm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from a2p_engine import glossary
from a2p_engine.errors import GlossaryError
from a2p_engine.glossary_formats import AS_USUAL, Languages
from a2p_engine.types import Term

VERSION_2 = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE martif SYSTEM "TBXBasiccoreStructV02.dtd">
<martif type="TBX-Basic" xml:lang="en">
 <martifHeader><fileDesc><sourceDesc><p>from a termbase</p></sourceDesc></fileDesc></martifHeader>
 <text><body>
  <termEntry id="c1">
   <descrip type="definition">an anticoagulant, taken by mouth</descrip>
   <langSet xml:lang="en">
    <tig><term id="t1">api<hi>xaban</hi></term><termNote type="partOfSpeech">noun</termNote></tig>
    <ntig><termGrp><term>Eliquis</term></termGrp></ntig>
   </langSet>
   <langSet xml:lang="de">
    <tig><term>Blutverdünner</term>
     <termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></tig>
    <tig><term>Apixaban</term>
     <termNote type="administrativeStatus">preferredTerm-admn-sts</termNote></tig>
   </langSet>
  </termEntry>
  <termEntry id="c2">
   <langSet><tig><term>stroke &amp; shock</term></tig></langSet>
  </termEntry>
 </body></text>
</martif>"""

VERSION_3_DCA = """<?xml version="1.0" encoding="UTF-8"?>
<tbx type="TBX-Basic" style="dca" xml:lang="en" xmlns="urn:iso:std:iso:30042:ed-2">
 <tbxHeader><fileDesc><sourceDesc><p>x</p></sourceDesc></fileDesc></tbxHeader>
 <text><body><conceptEntry id="c1">
  <langSec xml:lang="en-US"><termSec><term>invoice</term>
   <termNote type="administrativeStatus">preferredTerm-admn-sts</termNote></termSec></langSec>
  <langSec xml:lang="de">
   <termSec><term>Faktura</term>
    <termNote type="administrativeStatus">supersededTerm-admn-sts</termNote></termSec>
   <termSec><term>Rechnung</term></termSec></langSec>
 </conceptEntry></body></text>
</tbx>"""

VERSION_3_DCT = """<?xml version="1.0" encoding="UTF-8"?>
<tbx type="TBX-Basic" style="dct" xml:lang="en" xmlns="urn:iso:std:iso:30042:ed-2"
 xmlns:min="http://www.tbxinfo.net/ns/min" xmlns:basic="http://www.tbxinfo.net/ns/basic">
 <tbxHeader><fileDesc><sourceDesc><p>x</p></sourceDesc></fileDesc></tbxHeader>
 <text><body><conceptEntry id="c1"><min:subjectField>trade</min:subjectField>
  <langSec xml:lang="en-US"><termSec><term>invoice</term>
   <basic:termType>fullForm</basic:termType></termSec></langSec>
  <langSec xml:lang="de">
   <termSec><term>Faktura</term>
    <min:administrativeStatus>supersededTerm-admn-sts</min:administrativeStatus></termSec>
   <termSec><term>Rechnung</term></termSec></langSec>
 </conceptEntry></body></text>
</tbx>"""

MINIMAL = """<TBX dialect="TBX-Min"><body><conceptEntry id="C002">
 <langGroup xml:lang="ja-JP"><termGroup><term>NICE nice</term></termGroup></langGroup>
 <langGroup xml:lang="en-US"><termGroup><term>NICE property</term></termGroup></langGroup>
</conceptEntry></body></TBX>"""


def read(document: str, languages: Languages = AS_USUAL) -> list[Term]:
    """Terms of a document, all of which can be used."""
    parsed = glossary.parse(document.encode(), "tbx", languages)
    assert parsed.rejected == []
    return parsed.terms


def test_version_2_with_synonyms_markup_and_inherited_language() -> None:
    """Each term of the language is one; a deprecated translation gives way; the DTD is not read."""
    assert read(VERSION_2) == [
        Term(text="apixaban", target="Apixaban"),
        Term(text="Eliquis", target="Apixaban"),
        Term(text="stroke & shock"),
    ]


def test_a_deprecated_term_may_still_be_spoken() -> None:
    """It is a term of its own, after those that are preferred."""
    german = read(VERSION_2, Languages(spoken="de", target="en"))
    assert german == [
        Term(text="Apixaban", target="apixaban"),
        Term(text="Blutverdünner", target="apixaban"),
    ]


@pytest.mark.parametrize("document", [VERSION_3_DCA, VERSION_3_DCT])
def test_version_3_in_both_styles(document: str) -> None:
    """Data categories as attributes and as tags say the same."""
    assert read(document) == [Term(text="invoice", target="Rechnung")]


def test_tbx_min() -> None:
    """The small dialect calls sections groups."""
    assert read(MINIMAL) == [Term(text="NICE property", target="NICE nice")]


def test_other_encodings() -> None:
    """The document says how it is encoded."""
    german = VERSION_3_DCA.replace("invoice", "Gödel")
    for encoding in ("iso-8859-1", "utf-16"):
        data = german.replace("UTF-8", encoding).encode(encoding)
        assert glossary.parse(data, "tbx").terms[0].text == "Gödel"


def test_unusable_terms_are_rejected_one_by_one() -> None:
    """The rules are those of all other forms."""
    parsed = glossary.parse(VERSION_3_DCA.replace("invoice", "!!!").encode(), "tbx")
    assert parsed.rejected == [("{'term': '!!!', 'target': 'Rechnung'}", "has no letter or digit")]


BILLION_LAUGHS = """<?xml version="1.0"?><!DOCTYPE martif [<!ENTITY a "lol">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
<!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;">]>
<martif><text>&g;</text></martif>"""


def external(secret: Path) -> str:
    """A document whose term is the content of a file."""
    return (
        f'<!DOCTYPE martif [<!ENTITY x SYSTEM "{secret.as_uri()}">]><martif><termEntry>'
        '<langSet xml:lang="en"><tig><term>a &x;</term></tig></langSet></termEntry></martif>'
    )


def parameter(secret: Path) -> str:
    """A document whose type is the content of a file."""
    return f'<!DOCTYPE martif [<!ENTITY % x SYSTEM "{secret.as_uri()}"> %x;]><martif/>'


def test_billion_laughs_are_refused_at_once() -> None:
    """Entities are refused where they are declared, before any is expanded."""
    began = time.perf_counter()
    with pytest.raises(GlossaryError, match=r"line 1: .*declares the entity 'a'"):
        glossary.parse(BILLION_LAUGHS.encode(), "tbx")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("document", [external, parameter])
def test_no_other_file_is_read(tmp_path: Path, document: object) -> None:
    """External entities of both kinds are refused; the error tells nothing of them."""
    secret = tmp_path / "secret.txt"
    secret.write_text("open sesame")
    with pytest.raises(GlossaryError, match="declares the entity 'x'") as caught:
        glossary.parse(document(secret).encode(), "tbx")  # type: ignore[operator]
    assert "sesame" not in str(caught.value)


def test_an_external_document_type_is_not_fetched(tmp_path: Path) -> None:
    """What it would declare is unknown: an error inside a term, of no interest elsewhere."""
    (tmp_path / "types.dtd").write_text('<!ENTITY nbsp "open sesame">')
    typed = VERSION_2.replace("TBXBasiccoreStructV02.dtd", (tmp_path / "types.dtd").as_uri())
    assert len(read(typed.replace("an anticoagulant", "an&nbsp;anticoagulant"))) == 3
    with pytest.raises(GlossaryError, match="the entity 'nbsp' is not known"):
        read(typed.replace("Eliquis", "Eli&nbsp;quis"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("apixaban", "not XML: syntax error: line 1"),
        ("<html><body/></html>", "not TBX: it begins with <html>"),
        ("<tbx><text>", "not XML: no element found"),
        ('<?xml version="1.0" encoding="klingon"?><tbx/>', "unknown encoding"),
        ("<tbx><termSec><term>x</term></termSec></tbx>", "belongs to no concept"),
        (
            "<tbx><conceptEntry><langSec><termSec><term>x</term></termSec></langSec>"
            "</conceptEntry></tbx>",
            "or to no language",
        ),
    ],
)
def test_what_is_not_tbx_is_named(document: str, message: str) -> None:
    """The error says what is wrong and where."""
    with pytest.raises(GlossaryError, match=message):
        glossary.parse(document.encode(), "tbx")


def test_deep_nesting_costs_no_stack() -> None:
    """A hundred thousand elements inside one another are read like any other."""
    deep = VERSION_3_DCA.replace("invoice", "<x>" * 100_000 + "invoice" + "</x>" * 100_000)
    assert read(deep)[0].text == "invoice"
