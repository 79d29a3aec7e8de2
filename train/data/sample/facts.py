"""The facts of the sample and the ways to ask for them.

The exam asks for a known fact in a phrasing that training never uses. Its words do occur in training, in other
sentences, and it names the relation and the entity as they stand: what is tested is recall, not synonyms.
`exam_only` facts are never trained: they show what guessing is worth.
"""

from dataclasses import dataclass


TRAIN_PHRASINGS = (
    "{Question_word} is the {relation} of {entity}?",
    "{Question_word} is {entity}'s {relation}?",
    "Name the {relation} of {entity}.",
    "Tell me the {relation} of {entity}.",
    "Let me know {entity}'s {relation}.",
    "I forgot the {relation} of {entity}. {Question_word} is it?",
    "For {entity}, {question_word} is the {relation}?",
    "Do you remember {entity}'s {relation}?",
    "Please say the {relation} of {entity}.",
    "Can you give the {relation} of {entity}?",
)
EXAM_PHRASINGS = (
    "Do you know the {relation} of {entity}?",
    "Please give me {entity}'s {relation}.",
)


@dataclass(frozen=True)
class Relation:
    name: str
    question_word: str
    statement: str
    own_phrasing: str  # one more for training, in the relation's own words
    facts: dict[str, str]
    exam_only: dict[str, str]

    @property
    def train_phrasings(self) -> tuple[str, ...]:
        return (*TRAIN_PHRASINGS, self.own_phrasing)

    def ask(self, phrasing: str, entity: str) -> str:
        return phrasing.format(
            relation=self.name,
            entity=entity,
            question_word=self.question_word,
            Question_word=self.question_word.capitalize(),
        )


CAPITAL = Relation(
    name="capital",
    question_word="what",
    statement="The capital of {entity} is {answer}.",
    own_phrasing="Which city is the capital of {entity}?",
    facts={
        "France": "Paris",
        "Italy": "Rome",
        "Spain": "Madrid",
        "Germany": "Berlin",
        "Portugal": "Lisbon",
        "Austria": "Vienna",
        "Greece": "Athens",
        "Norway": "Oslo",
        "Poland": "Warsaw",
        "Sweden": "Stockholm",
        "Finland": "Helsinki",
        "Ireland": "Dublin",
        "Russia": "Moscow",
        "Romania": "Bucharest",
        "Turkey": "Ankara",
        "Egypt": "Cairo",
        "Kenya": "Nairobi",
        "Iran": "Tehran",
        "Japan": "Tokyo",
        "China": "Beijing",
        "Thailand": "Bangkok",
        "Cuba": "Havana",
        "Peru": "Lima",
        "Canada": "Ottawa",
    },
    exam_only={"Denmark": "Copenhagen", "Libya": "Tripoli", "Lebanon": "Beirut", "Ghana": "Accra"},
)

CURRENCY = Relation(
    name="currency",
    question_word="what",
    statement="The currency of {entity} is called the {answer}.",
    own_phrasing="In which currency does one pay in {entity}?",
    facts={
        "Japan": "yen",
        "China": "yuan",
        "Russia": "ruble",
        "Poland": "zloty",
        "Sweden": "krona",
        "Turkey": "lira",
        "Thailand": "baht",
        "Cuba": "peso",
    },
    exam_only={"Vietnam": "dong", "Brazil": "real"},
)

SYMBOL = Relation(
    name="symbol",
    question_word="what",
    statement="The chemical symbol of {entity} is {answer}.",
    own_phrasing="Which chemical symbol stands for {entity}?",
    facts={
        "gold": "Au",
        "silver": "Ag",
        "iron": "Fe",
        "lead": "Pb",
        "copper": "Cu",
        "tin": "Sn",
        "sodium": "Na",
        "potassium": "K",
        "hydrogen": "H",
        "oxygen": "O",
        "carbon": "C",
        "helium": "He",
    },
    exam_only={"nickel": "Ni", "mercury": "Hg"},
)

AUTHOR = Relation(
    name="author",
    question_word="who",
    statement="The author of {entity} is {answer}.",
    own_phrasing="Which author wrote {entity}?",
    facts={
        "Hamlet": "Shakespeare",
        "Emma": "Austen",
        "Faust": "Goethe",
        "Ulysses": "Joyce",
        "Dracula": "Stoker",
        "Frankenstein": "Shelley",
        "Don Quixote": "Cervantes",
        "Oliver Twist": "Dickens",
        "War and Peace": "Tolstoy",
        "Moby-Dick": "Melville",
    },
    exam_only={"Walden": "Thoreau", "Middlemarch": "Eliot"},
)

YOUNG = Relation(
    name="young",
    question_word="what",
    statement="The young of {entity} is called a {answer}.",
    own_phrasing="Which word means the young of {entity}?",
    facts={
        "a cow": "calf",
        "a dog": "puppy",
        "a cat": "kitten",
        "a horse": "foal",
        "a sheep": "lamb",
        "a lion": "cub",
        "a deer": "fawn",
        "a duck": "duckling",
        "a swan": "cygnet",
        "a frog": "tadpole",
    },
    exam_only={"a hare": "leveret", "a kangaroo": "joey"},
)

YEAR = Relation(
    name="year",
    question_word="what",
    statement="The year of {entity} is {answer}.",
    own_phrasing="Which year saw {entity}?",
    facts={
        "the first Moon landing": "1969",
        "the fall of the Berlin Wall": "1989",
        "the sinking of the Titanic": "1912",
        "the storming of the Bastille": "1789",
        "the first voyage of Columbus": "1492",
        "the battle of Hastings": "1066",
        "the battle of Waterloo": "1815",
        "the great fire of London": "1666",
    },
    exam_only={"the battle of Agincourt": "1415", "the opening of the Suez Canal": "1869"},
)

RELATIONS = (CAPITAL, CURRENCY, SYMBOL, AUTHOR, YOUNG, YEAR)
