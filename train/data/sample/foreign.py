"""The few rows that are not English: capitals in French, German, Spanish and Italian, answers in that language."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignCapitals:
    language: str
    key_word: str
    train_phrasings: tuple[str, ...]
    exam_phrasing: str
    facts: dict[str, tuple[str, str]]  # English country (names the seed) -> (country, capital) in this language


FRENCH = ForeignCapitals(
    language="fr",
    key_word="capitale",
    train_phrasings=(
        "Quelle est la capitale de la {country} ?",
        "Quelle ville est la capitale de la {country} ?",
        "Nomme la capitale de la {country}.",
    ),
    exam_phrasing="Dis-moi la capitale de la {country}.",
    facts={"France": ("France", "Paris"), "Norway": ("Norvège", "Oslo"), "Russia": ("Russie", "Moscou")},
)

GERMAN = ForeignCapitals(
    language="de",
    key_word="Hauptstadt",
    train_phrasings=(
        "Was ist die Hauptstadt von {country}?",
        "Welche Stadt ist die Hauptstadt von {country}?",
        "Nenne die Hauptstadt von {country}.",
    ),
    exam_phrasing="Wie heißt die Hauptstadt von {country}?",
    facts={"Italy": ("Italien", "Rom"), "Japan": ("Japan", "Tokio"), "Peru": ("Peru", "Lima")},
)

SPANISH = ForeignCapitals(
    language="es",
    key_word="capital",
    train_phrasings=(
        "¿Cuál es la capital de {country}?",
        "¿Qué ciudad es la capital de {country}?",
        "Nombra la capital de {country}.",
    ),
    exam_phrasing="Dime la capital de {country}.",
    facts={"Spain": ("España", "Madrid"), "Cuba": ("Cuba", "La Habana"), "Peru": ("Perú", "Lima")},
)

ITALIAN = ForeignCapitals(
    language="it",
    key_word="capitale",
    train_phrasings=(
        "Qual è la capitale di {country}?",
        "Quale città è la capitale di {country}?",
        "Nomina la capitale di {country}.",
    ),
    exam_phrasing="Dimmi la capitale di {country}.",
    facts={"Egypt": ("Egitto", "Il Cairo"), "Portugal": ("Portogallo", "Lisbona"), "Cuba": ("Cuba", "L'Avana")},
)

FOREIGN_CAPITALS = (FRENCH, GERMAN, SPANISH, ITALIAN)
