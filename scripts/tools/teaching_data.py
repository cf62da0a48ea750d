"""Builds the teaching data that ships with the package, in aigc_text/data/teaching_data.

    python scripts/tools/teaching_data.py DATA

DATA is a folder with `coco_captions`, `tinyshakespeare`, `fairytales`, `songci` and `python_code`. Each data set
becomes a `train` and a `test` split, compressed with xz; `catalog.json` lists their licenses, sources, sizes and
checksums. The questions and answers come from the facts below. The same input gives the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "aigc_text" / "data" / "teaching_data"

TALES = [
    "Grimms’ Fairy Tales",
    "Alice's Adventures in Wonderland",
    "The Wonderful Wizard of Oz",
    "Just So Stories",
    "The Happy Prince, and Other Tales",
]
HELD_OUT_TALES, HELD_OUT_CHARACTERS = "Andersen's Fairy Tales", 150_000
POEMS, HELD_OUT_POEMS = 3_000, 300
PYTHON_FOLDERS = ("data_structures", "dynamic_programming", "searches", "sorts", "strings", "graphs", "maths")
PYTHON_CHARACTERS = 800_000

CAPITALS = {
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna", "Belgium": "Brussels",
    "Brazil": "Brasília", "Bulgaria": "Sofia", "Canada": "Ottawa", "Chile": "Santiago", "China": "Beijing",
    "Colombia": "Bogotá", "Croatia": "Zagreb", "Cuba": "Havana", "Denmark": "Copenhagen", "Ecuador": "Quito",
    "Egypt": "Cairo", "Estonia": "Tallinn", "Ethiopia": "Addis Ababa", "Finland": "Helsinki", "France": "Paris",
    "Germany": "Berlin", "Ghana": "Accra", "Greece": "Athens", "Hungary": "Budapest", "Iceland": "Reykjavík",
    "India": "New Delhi", "Indonesia": "Jakarta", "Iran": "Tehran", "Iraq": "Baghdad", "Ireland": "Dublin",
    "Italy": "Rome", "Japan": "Tokyo", "Jordan": "Amman", "Kenya": "Nairobi", "Latvia": "Riga", "Lithuania": "Vilnius",
    "Malaysia": "Kuala Lumpur", "Mexico": "Mexico City", "Mongolia": "Ulaanbaatar", "Morocco": "Rabat",
    "Nepal": "Kathmandu", "New Zealand": "Wellington", "Nigeria": "Abuja", "Norway": "Oslo", "Pakistan": "Islamabad",
    "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon", "Romania": "Bucharest", "Senegal": "Dakar",
    "Serbia": "Belgrade", "Slovakia": "Bratislava", "Slovenia": "Ljubljana", "South Korea": "Seoul", "Spain": "Madrid",
    "Sweden": "Stockholm", "Thailand": "Bangkok", "Tunisia": "Tunis", "Turkey": "Ankara", "Ukraine": "Kyiv",
    "Uruguay": "Montevideo", "Vietnam": "Hanoi",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "light": "dark", "hard": "soft", "wet": "dry", "full": "empty",
    "early": "late", "high": "low", "long": "short", "wide": "narrow", "old": "young", "rich": "poor",
    "strong": "weak", "loud": "quiet", "clean": "dirty", "open": "closed", "happy": "sad", "easy": "difficult",
    "near": "far", "thick": "thin", "brave": "cowardly", "sharp": "blunt", "deep": "shallow",
    "sweet": "bitter", "smooth": "rough", "first": "last", "inside": "outside", "above": "below", "arrive": "leave",
    "buy": "sell", "remember": "forget", "win": "lose", "push": "pull", "find": "miss", "give": "take",
}  # fmt: skip
YOUNG = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "horse": "foal", "sheep": "lamb", "goat": "kid", "pig": "piglet",
    "duck": "duckling", "goose": "gosling", "hen": "chick", "bear": "cub", "lion": "cub", "frog": "tadpole",
    "deer": "fawn", "kangaroo": "joey", "swan": "cygnet", "eagle": "eaglet", "hare": "leveret", "seal": "pup",
    "owl": "owlet", "whale": "calf", "elephant": "calf", "butterfly": "caterpillar", "eel": "elver",
}  # fmt: skip
PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "mouse": "mice", "tooth": "teeth", "leaf": "leaves",
    "knife": "knives", "wolf": "wolves", "city": "cities", "box": "boxes", "potato": "potatoes", "ox": "oxen",
    "sheep": "sheep", "woman": "women", "loaf": "loaves", "lady": "ladies", "church": "churches", "half": "halves",
    "crisis": "crises", "cactus": "cacti", "fish": "fish", "shelf": "shelves", "story": "stories", "bus": "buses",
}  # fmt: skip
PAST = {
    "go": "went", "see": "saw", "eat": "ate", "run": "ran", "take": "took", "give": "gave", "write": "wrote",
    "speak": "spoke", "swim": "swam", "fly": "flew", "know": "knew", "buy": "bought", "teach": "taught",
    "catch": "caught", "sing": "sang", "drink": "drank", "break": "broke", "choose": "chose", "drive": "drove",
    "fall": "fell", "grow": "grew", "hear": "heard", "keep": "kept", "leave": "left", "make": "made", "meet": "met",
    "ride": "rode", "ring": "rang", "sleep": "slept", "stand": "stood", "steal": "stole", "tell": "told",
    "think": "thought", "wear": "wore", "win": "won", "begin": "began", "blow": "blew", "build": "built",
}  # fmt: skip
SYMBOLS = {
    "hydrogen": "H", "helium": "He", "carbon": "C", "nitrogen": "N", "oxygen": "O", "sodium": "Na", "magnesium": "Mg",
    "aluminium": "Al", "silicon": "Si", "sulfur": "S", "chlorine": "Cl", "potassium": "K", "calcium": "Ca",
    "iron": "Fe", "copper": "Cu", "zinc": "Zn", "silver": "Ag", "tin": "Sn", "gold": "Au", "mercury": "Hg",
    "lead": "Pb", "neon": "Ne", "argon": "Ar", "lithium": "Li", "iodine": "I", "uranium": "U", "nickel": "Ni",
}  # fmt: skip
COLORS = {
    "grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow", "blood": "red", "an orange": "orange",
    "a ruby": "red", "an emerald": "green", "a sapphire": "blue", "milk": "white", "a canary": "yellow",
    "a flamingo": "pink", "chocolate": "brown", "the clear sky at noon": "blue", "a ripe banana": "yellow",
    "an elephant": "gray", "a polar bear": "white", "spinach": "green", "a crow": "black", "a ripe tomato": "red",
}  # fmt: skip
AUTHORS = {
    "Hamlet": "William Shakespeare", "Pride and Prejudice": "Jane Austen", "Moby-Dick": "Herman Melville",
    "Oliver Twist": "Charles Dickens", "Frankenstein": "Mary Shelley", "Dracula": "Bram Stoker",
    "War and Peace": "Leo Tolstoy", "Les Misérables": "Victor Hugo", "The Odyssey": "Homer", "Don Quixote":
    "Miguel de Cervantes", "Faust": "Johann Wolfgang von Goethe", "The Divine Comedy": "Dante Alighieri",
    "Jane Eyre": "Charlotte Brontë", "Treasure Island": "Robert Louis Stevenson", "The Jungle Book": "Rudyard Kipling",
    "Alice's Adventures in Wonderland": "Lewis Carroll", "The Wonderful Wizard of Oz": "L. Frank Baum",
    "Crime and Punishment": "Fyodor Dostoevsky", "Candide": "Voltaire", "Middlemarch": "George Eliot",
    "Dream of the Red Chamber": "Cao Xueqin", "Journey to the West": "Wu Cheng'en",
}  # fmt: skip

#: Facts, and how they are asked for and answered; `{0}` is the key and `{1}` the value of a fact.
SUBJECTS: list[tuple[dict[str, str], tuple[str, ...], str]] = [
    (
        CAPITALS,
        ("What is the capital of {0}?", "Which city is the capital of {0}?", "Name the capital of {0}."),
        "The capital of {0} is {1}.",
    ),
    ({city: country for country, city in CAPITALS.items()}, ("Of which country is {0} the capital?",), "{1}."),
    (
        OPPOSITES,
        ("What is the opposite of {0}?", "Which word means the opposite of {0}?"),
        "The opposite of {0} is {1}.",
    ),
    ({b: a for a, b in OPPOSITES.items()}, ("What is the opposite of {0}?",), "The opposite of {0} is {1}."),
    (YOUNG, ("What is a young {0} called?", "What do you call the young of a {0}?"), "A young {0} is called a {1}."),
    (PLURALS, ("What is the plural of {0}?", "How do you write more than one {0}?"), "The plural of {0} is {1}."),
    (PAST, ("What is the past tense of {0}?", "Put {0} into the past tense."), "The past tense of {0} is {1}."),
    (SYMBOLS, ("What is the chemical symbol of {0}?", "Which symbol stands for {0}?"), "The symbol of {0} is {1}."),
    ({b: a for a, b in SYMBOLS.items()}, ("Which element has the symbol {0}?",), "{0} stands for {1}."),
    (COLORS, ("What color is {0}?", "Which color does {0} have?"), "The color of {0} is {1}."),
    (AUTHORS, ("Who wrote {0}?", "Who is the author of {0}?"), "{1} wrote {0}."),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with the original data")
    given = parser.parse_args()
    catalog = {}
    for name, build in BUILDERS.items():
        about, splits = build(given.data)
        catalog[name] = {**about, "splits": {split: write(name, split, about, text) for split, text in splits.items()}}
    (FOLDER / "catalog.json").write_text(json.dumps(catalog, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    total = sum(split["compressed_bytes"] for entry in catalog.values() for split in entry["splits"].values())
    print(f"{FOLDER}: {len(catalog)} data sets, {total:,} bytes")


def write(name: str, split: str, about: dict[str, object], text: str) -> dict[str, object]:
    """Compresses a split; what the catalog says of it."""
    raw = text.encode()
    packed = lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    (FOLDER / f"{name}.{split}.xz").write_bytes(packed)
    print(f"{name}@{split}: {len(raw):,} bytes, {len(packed):,} compressed")
    return {
        "texts": count(text, str(about["format"])),
        "bytes": len(raw),
        "compressed_bytes": len(packed),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def count(text: str, form: str) -> int:
    """Lines that are texts: of JSONL records, of lines, or the one document."""
    return 1 if form == "txt:document" else sum(1 for line in text.split("\n") if line)


def jsonl(records: Iterable[dict[str, str]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_jsonl(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def captions(data: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "captions of pictures, lower-cased, one a line",
        "format": "txt:line",
        "license": "CC-BY-4.0",
        "source": "COCO Captions (Chen et al. 2015, arXiv:1504.00325), the split of Texygen (Zhu et al. 2018)",
    }
    folder = data / "coco_captions"
    return about, {split: (folder / f"{split}.txt").read_text(encoding="utf-8") for split in ("train", "test")}


def shakespeare(data: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "scenes of Shakespeare's plays; the first nine tenths and the last",
        "format": "txt:document",
        "license": "public domain",
        "source": "tinyshakespeare (Karpathy 2015)",
    }
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    return about, {"train": text[:cut], "test": text[cut:]}


def fairytales(data: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "five books of fairy tales; held out is the first half of a sixth",
        "format": "jsonl",
        "license": "public domain (in the United States)",
        "source": "Project Gutenberg, its notices removed: " + "; ".join([*TALES, HELD_OUT_TALES]),
    }
    books = {r["title"]: r for r in read_jsonl(data / "fairytales" / "train.jsonl")}
    [held_out] = [r for r in read_jsonl(data / "fairytales" / "valid.jsonl") if r["title"] == HELD_OUT_TALES]
    text = held_out["text"][:HELD_OUT_CHARACTERS].rpartition("\n\n")[0]
    return about, {"train": jsonl(books[title] for title in TALES), "test": jsonl([{**held_out, "text": text}])}


def songci(data: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "Song-dynasty ci poems in simplified Chinese: the title, then a line each",
        "format": "jsonl",
        "license": "MIT",
        "source": "chinese-poetry/chinese-poetry, Copyright (c) 2016 JackeyGao; the poems are in the public domain",
    }
    poems = [
        {"author": r["author"], "title": r["title"], "text": "\n".join([r["title"], *r["paragraphs"]])}
        for r in read_jsonl(data / "songci" / "songci.simp.jsonl")
        if r["title"] and 3 <= len(r["paragraphs"]) <= 16 and "□" not in "".join(r["paragraphs"])
    ]
    chosen = random.Random(0).sample(poems, POEMS + HELD_OUT_POEMS)
    return about, {"train": jsonl(chosen[:POEMS]), "test": jsonl(chosen[POEMS:])}


def python(data: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "algorithms in Python, one file a record",
        "format": "jsonl",
        "license": "MIT",
        "source": "TheAlgorithms/Python, Copyright (c) 2016-2022 TheAlgorithms and contributors",
    }
    train = [r for r in read_jsonl(data / "python_code" / "train.jsonl") if r["repo"] == "TheAlgorithms_Python"]
    held_out = [r for r in read_jsonl(data / "python_code" / "valid.jsonl") if r["repo"] == "TheAlgorithms_Python"]
    wanted = [r for r in train if r["path"].split("/")[0] in PYTHON_FOLDERS and 500 < len(r["text"]) < 8000]
    random.Random(0).shuffle(wanted)
    return about, {
        "train": jsonl(records_of(first(wanted, PYTHON_CHARACTERS))),
        "test": jsonl(records_of(first(held_out, PYTHON_CHARACTERS // 8))),
    }


def records_of(files: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    return ({"path": r["path"], "text": r["text"]} for r in files)


def first(records: Iterable[dict[str, str]], characters: int) -> Iterator[dict[str, str]]:
    """As many as have so many characters together."""
    for record in records:
        characters -= len(record["text"])
        if characters < 0:
            return
        yield record


def questions(_: Path) -> tuple[dict[str, object], dict[str, str]]:
    about = {
        "about": "questions and answers about words, numbers and the world",
        "format": "jsonl",
        "license": "Apache-2.0",
        "source": "written for this package",
    }
    chance = random.Random(0)
    train, test = [], []
    for facts, phrasings, answer in SUBJECTS:
        for key, value in facts.items():
            asked = [{"question": q.format(key, value), "answer": answer.format(key, value)} for q in phrasings]
            # A held-out question asks in other words for a fact that the training half has.
            if len(asked) > 1 and chance.random() < 0.25:
                test.append(asked.pop())
            train += asked
    sums = [*arithmetic()]
    chance.shuffle(sums)
    train, test = train + sums[:400], test + sums[400:440]
    for pairs in (train, test):
        chance.shuffle(pairs)
    return about, {"train": jsonl(train), "test": jsonl(test)}


def arithmetic() -> Iterator[dict[str, str]]:
    for a in range(2, 21):
        for b in range(2, 21):
            yield {"question": f"What is {a} plus {b}?", "answer": f"{a} plus {b} is {a + b}."}
            if a <= 12 and b <= 12:
                yield {"question": f"What is {a} times {b}?", "answer": f"{a} times {b} is {a * b}."}


BUILDERS: dict[str, Callable[[Path], tuple[dict[str, object], dict[str, str]]]] = {
    "captions": captions,
    "shakespeare": shakespeare,
    "fairytales-small": fairytales,
    "songci-small": songci,
    "qa-small": questions,
    "python-small": python,
}

if __name__ == "__main__":
    main()
