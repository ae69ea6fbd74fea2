"""Made-up terms of the kinds that glossaries hold: names, drugs, chemicals, companies, acronyms.

Most are built from the parts that real ones are built from, so that the heads hear many sound
sequences and few exact words of any glossary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from a2p_engine.retriever.spelling import UNITS, below_hundred

Rng = np.random.Generator

_FIRST = (
    "aisha alejandro amara anika arjun astrid beatriz bjorn boris camille chidi chloe dmitri elif "
    "emre fatima femi freya giulia goran hana hiroshi ingrid ivan jamal jiho joaquin kavya keiko "
    "kwame lars leila luca magnus mei mikhail naveen ngozi nikolai noor olga omar oksana pavel "
    "priya quentin rafael rohan saoirse sanjay sofia svetlana tariq tomasz ulrich valentina wei "
    "xavier yasmin yuki zainab zoran andrew barbara carlos deborah edward frances gregory heather "
    "jeffrey kathleen lawrence margaret nathan patricia raymond stephanie timothy vanessa walter"
).split()
_FAMILY_BEGINS = (
    "abdul ander bal bara berg bhatta bran cala chandra chen da dimi dra eich fari fitz gal "
    "gonza gruen gupta haber hakim hernan ishi ivan jaya kata kova kowal krish kuro lind lopez "
    "mac maki mar mats mendel mo mura nak nava ober okon or osei pal petro pra quin rama rodri "
    "ross sand santo schwar sing sokol stan suza taka tan tomo ulla vala van vasi vikra wad wein "
    "win yama yil zamo zel"
).split()
_FAMILY_ENDS = (
    "aga ashi ashvili auer bauer berger bert bury chenko chuk dahl dez dorf dottir endran enko "
    "escu esh ev eva ford gaard gard hara heim holm ian idis ielli ikova ins iro itz jee kamp kar "
    "kawa kins ko kov land ler ley lund man mann maru mori moto mura nathan nen nova oglu opoulos "
    "orski oto ova owski quist raj ram rell ridge rup sen sky son stein ström ton topoulos unga "
    "uri vall ville vitch wala walt wicz yan yama zadeh zaki"
).split()
_DRUG_BEGINS = (
    "aba abro ace ada alo ami apro ato axi bari beda belu beva bosu bre cabo cana capi cefta cele "
    "ceri cobi dabi dapa daru dasa dolu dona dupi edo elbe elo emi enca ensi erda esci eto everi "
    "fila fluo foste gali gefi glime guse ibru icati ida ima inco ixe ketoro laco lamo lapa leva "
    "lina lora lura macite mepo miri moxi nata nebi nila nivo obe ola ome osi oxca pali panto pazo "
    "pembro pera pioli pona prava quetia rami rano rego ribo rifa rilu riva roflu romi sacu sapro "
    "seku sela simva soli sora suni tacro tada tazo teli teno tica tofa topi trame tuca upada "
    "vande vareni vemu vene vila vori zana zole"
).split()
_DRUG_ENDS = (
    "bactam barb caine cillin cept ciclib coxib cycline dipine dronate farcept fenacin floxacin "
    "formin gabine gliflozin gliptin glitazone grel kinra lamide lisib lol lukast mab micin "
    "mycin nazole nib nidazole olol oxetine parib parin pezil phylline prazole pril profen "
    "racetam rafenib relin rubicin sartan semide setron statin stim taxel tecan teplase terol "
    "thiazide tide tinib tocin triptan tumab vastatin vaptan ximab xaban zepam zolamide zumab"
).split()
_CHEMICAL_BEGINS = (
    "acetyl amino azo benzo bromo butyl carboxy chloro cyano cyclo deoxy dichloro diethyl "
    "dihydroxy dimethyl ethoxy ethyl fluoro formyl glyco hepta hexa hydro hydroxy iodo isobutyl "
    "keto lauryl mercapto meta methoxy methyl naphtho nitro octa ortho oxo para penta perchloro "
    "phenyl phospho poly propyl pyro silico sulfo tetra thio trichloro trifluoro trimethyl vinyl"
).split()
_CHEMICAL_ENDS = (
    "acetate aldehyde amide amine anhydride aniline benzene borane butane carbonate chloride "
    "cinnamate citrate cyanide diamine dioxide ethane ethanol ferrocene fluoride furan glycol "
    "guanidine hexane hydrazine imidazole imine indole ketone lactone maleate mercaptan methane "
    "morpholine nitrile oleate oxalate oxide pentanone peroxide phenol phosphate piperidine "
    "propanol pyridine pyrrole quinone silane stearate styrene sulfate sulfonate tartrate thiol "
    "toluene triazine urea xylene"
).split()
_COMPANY_BEGINS = (
    "ada aero agri algo alta ami apex aqua arc astra aura auto axio bio blue bright byte cal "
    "carbo cata centi cera cipher cloud cog core crypto cyber data delta digi dyna echo eco edge "
    "ener equi evo fin flexi flux fusion gen geo giga glo grid helio hexa hyper indi info inno "
    "inter ion kine lumi macro mag medi mega meta micro mono neo nex nimbu nova octo omni opti "
    "orbi pan para pixel poly prima proto quanta qui radia robo sapi sona spectra star stratu "
    "sym syn tech tele terra theta trans trillia ultra uni vanta vector velo veri vita vox xeno "
    "zen zeta"
).split()
_COMPANY_ENDS = (
    "base bit bridge cast chain cision core corp cube desk dyne flow forge fy gen genics grid "
    "hub ica ify ium ix labs lane lens lia link ly max med mesh metric mind ney nomics "
    "nostics ora osity path pay plex point port pulse quest rise scale scape sense shift sive "
    "soft spark sphere stack stream sync systems tech thera tica tron vance vault verse via "
    "vion ware wave works xis yx"
).split()
_COMPANY_KINDS = ("", "", "", "", "health", "labs", "holdings", "systems", "capital", "pharma")
_CODE = (
    "get set is has load save parse format merge split push pull fetch cache build init start "
    "stop update delete insert select filter map reduce sort index token user session config "
    "client server buffer stream queue stack thread mutex async event handler callback list dict "
    "array string byte int float bool json yaml http url path file line count size max min sum "
    "hash key value node edge graph tree batch layer kernel tensor vector matrix loss grad step"
).split()
_FOREIGN = (
    "weltanschauung|schadenfreude|zeitgeist|wanderlust|doppelganger|kindergarten|gesundheit|"
    "fingerspitzengefuehl|vorsprung durch technik|realpolitik|raison d'etre|deja vu|"
    "savoir faire|joie de vivre|laissez faire|coup d'etat|hors d'oeuvre|je ne sais quoi|"
    "c'est la vie|mise en place|creme brulee|pain au chocolat|bouillabaisse|ratatouille|"
    "quesadilla|jalapeno|buenas noches|hasta manana|muchas gracias|vamos a la playa|que pasa|"
    "la dolce vita|prosciutto|bruschetta|gnocchi|tagliatelle|chiaroscuro|a cappella|al dente|"
    "arrivederci|sotto voce|karaoke|tsunami|kaizen|omakase|edamame|origami|ramen|teriyaki|"
    "perestroika|glasnost|babushka|namaste|chai|biryani|paneer tikka|dal makhani|ubuntu|safari|"
    "feng shui|tai chi|dim sum|ni hao|kimchi|bulgogi|smorgasbord|hygge|lagom|fjord|saudade"
).split("|")
_MEASURES = "percent dollars euros milligrams kilometers degrees hours points million".split()


def _pick(rng: Rng, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _person(rng: Rng) -> str:
    family = _pick(rng, _FAMILY_BEGINS) + _pick(rng, _FAMILY_ENDS)
    return family if rng.random() < 0.4 else f"{_pick(rng, _FIRST)} {family}"


def _drug(rng: Rng) -> str:
    return _pick(rng, _DRUG_BEGINS) + _pick(rng, _DRUG_ENDS)


def _chemical(rng: Rng) -> str:
    name = _pick(rng, _CHEMICAL_BEGINS) + _pick(rng, _CHEMICAL_ENDS)
    return name if rng.random() < 0.7 else _pick(rng, _CHEMICAL_BEGINS) + name


def _company(rng: Rng) -> str:
    name = _pick(rng, _COMPANY_BEGINS) + _pick(rng, _COMPANY_ENDS)
    return f"{name} {_pick(rng, _COMPANY_KINDS)}".strip()


def _acronym(rng: Rng) -> str:
    letters = rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), size=int(rng.integers(2, 6)))
    return "".join(letters)


def _identifier(rng: Rng) -> str:
    return " ".join(_pick(rng, _CODE) for _ in range(int(rng.integers(2, 4))))


def _foreign(rng: Rng) -> str:
    return _pick(rng, _FOREIGN)


def _number(rng: Rng) -> str:
    kind = rng.random()
    if kind < 0.3:  # digit by digit, as a telephone number
        return " ".join(UNITS[int(n)] for n in rng.integers(0, 10, int(rng.integers(3, 8))))
    if kind < 0.6:  # a year
        century, rest = int(rng.integers(15, 21)), int(rng.integers(10, 100))
        return f"{below_hundred(century)} {below_hundred(rest)}"
    amount = below_hundred(int(rng.integers(2, 100)))
    if rng.random() < 0.4:
        amount = f"{UNITS[int(rng.integers(1, 10))]} hundred and {amount}"
    return f"{amount} {_pick(rng, _MEASURES)}"


KINDS: dict[str, Callable[[Rng], str]] = {
    "person": _person,
    "drug": _drug,
    "chemical": _chemical,
    "company": _company,
    "acronym": _acronym,
    "identifier": _identifier,
    "foreign": _foreign,
    "number": _number,
}
_SHARES = np.array([0.30, 0.18, 0.10, 0.16, 0.08, 0.06, 0.06, 0.06])


def made_up_term(rng: Rng) -> str:
    """A term of a random kind, in the spelling it is spoken from."""
    kind = list(KINDS)[int(rng.choice(len(KINDS), p=_SHARES))]
    return KINDS[kind](rng)
