"""From a folder's name to a camera's id."""

import re
import unicodedata

LONGEST = 63
PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

# Letters that do not fall apart into a Latin one and an accent.
LATIN = "ø=o ł=l đ=d ð=d þ=th ı=i ħ=h ŧ=t æ=ae œ=oe"
CYRILLIC = (
    "а=a б=b в=v г=g ґ=g д=d е=e ё=e є=ye ж=zh з=z и=i і=i ї=yi й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t"
    " у=u ф=f х=kh ц=ts ч=ch ш=sh щ=shch ъ= ы=y ь= э=e ю=yu я=ya"
)
GREEK = "α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s τ=t υ=y φ=f χ=ch ψ=ps ω=o"
LETTERS = {ord(pair[0]): pair[2:] for pair in f"{LATIN} {CYRILLIC} {GREEK}".split()}


def slug(name: str) -> str | None:
    """`Front Door` -> `front-door`, `Küche` -> `kuche`; a slug stays as it is. None where no letter or digit
    is left that could name a camera."""
    if PATTERN.fullmatch(name):
        return name
    # Composed first: some systems store `ü` as two characters.
    folded = unicodedata.normalize("NFC", name).casefold()
    accented = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", folded).casefold())
    split = unicodedata.normalize("NFKD", accented.translate(LETTERS))
    plain = "".join(character for character in split if not unicodedata.combining(character))
    dashed = re.sub(r"[^a-z0-9_]+", "-", plain.translate(LETTERS))
    return dashed.lstrip("-_")[:LONGEST].rstrip("-") or None
