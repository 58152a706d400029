"""Maps the folders of the first level to camera ids."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ingest_svc.rejection import RejectionCause, RejectReason

MAX_ID_LENGTH = 63
DIGEST_LENGTH = 8
# What an id begins with if nothing of the name can be part of it.
NAMELESS = "camera"
CAMERA_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

# Letters that Unicode does not decompose into a Latin letter and an accent.
LATIN = "ø=o ł=l đ=d ð=d þ=th ı=i ħ=h ŧ=t æ=ae œ=oe"
CYRILLIC = (
    "а=a б=b в=v г=g ґ=g д=d е=e ё=e є=ye ж=zh з=z и=i і=i ї=yi й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t"
    " у=u ф=f х=kh ц=ts ч=ch ш=sh щ=shch ъ= ы=y ь= э=e ю=yu я=ya"
)
GREEK = "α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s τ=t υ=y φ=f χ=ch ψ=ps ω=o"
LETTERS = {ord(pair[0]): pair[2:] for pair in f"{LATIN} {CYRILLIC} {GREEK}".split()}


def slug(name: str) -> str | None:
    """The camera id for a folder's name: `Front Door` -> `front-door`, `Küche` -> `kuche`; a valid id is
    returned unchanged. None if the name has no letter or digit that an id can contain."""
    if CAMERA_ID.fullmatch(name):
        return name
    dashed = re.sub(r"[^a-z0-9_]+", "-", _latin(name))
    return dashed.lstrip("-_")[:MAX_ID_LENGTH].rstrip("-") or None


def whole_slug(name: str) -> str | None:
    """Like `slug`, but a name with letters that an id cannot contain (CJK, Arabic and others) is told from
    others by a digest: `カメラ1` -> `1-` and eight digits. None if the name has no letter or digit at all."""
    made = slug(name)
    if not any(_is_lost(character) for character in _latin(name)):
        return made
    canonical = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_LENGTH]
    most = MAX_ID_LENGTH - DIGEST_LENGTH - 1
    return f"{(made or NAMELESS)[:most]}-{digest}"


def _latin(name: str) -> str:
    """The name in lower case, with Latin letters where there is a transliteration, and without accents."""
    # Compose first: macOS stores `ü` as two characters.
    folded = unicodedata.normalize("NFC", name).casefold()
    accented = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", folded).casefold())
    split = unicodedata.normalize("NFKD", accented.translate(LETTERS))
    plain = "".join(character for character in split if not unicodedata.combining(character))
    return plain.translate(LETTERS)


def _is_lost(character: str) -> bool:
    """Whether a character that tells names apart cannot be part of an id: a letter or a digit, or a byte that
    is not Unicode."""
    lettered = not character.isascii() and unicodedata.category(character)[0] in "LN"
    return lettered or "\udc80" <= character <= "\udcff"


@dataclass(frozen=True)
class FolderChanges:
    """Folders that now belong to a camera, and folders that are rejected for a new reason."""

    added: list[str] = field(default_factory=list)
    rejected: dict[str, RejectionCause] = field(default_factory=dict)


class CameraFolders:
    """One folder for each camera. If several names give the same id, the first in alphabetical order gets it
    and keeps it while the folder exists. `exists` returns whether there is, or was, a camera with an id.

    The id of a name with letters that an id cannot contain was once that of the other letters alone. A camera
    that has such an id keeps it.
    """

    def __init__(self, exists: Callable[[str], bool] = lambda _: False) -> None:
        self._exists = exists
        self._folder_of: dict[str, str] = {}
        self._camera_of: dict[str, str] = {}
        self._rejected: dict[str, RejectionCause] = {}

    def camera(self, folder: str) -> str | None:
        """The camera that `folder` belongs to, or None."""
        return self._camera_of.get(folder)

    def folder(self, camera_id: str) -> str | None:
        return self._folder_of.get(camera_id)

    def forget_rejections(self) -> None:
        """Lets `update` return all folders that are rejected again."""
        self._rejected = {}

    def known(self, folder: str) -> bool:
        return folder in self._camera_of or folder in self._rejected

    def update(self, present: Iterable[str]) -> FolderChanges:
        """`present` are the names of all folders that exist now."""
        names = sorted(present)
        for gone in set(self._camera_of) - set(names):
            del self._folder_of[self._camera_of.pop(gone)]
        added: list[str] = []
        rejected: dict[str, RejectionCause] = {}
        for name in names:
            if name in self._camera_of:
                continue
            cause = self._assign(name)
            if cause is None:
                added.append(name)
            else:
                rejected[name] = cause
        new = {name: cause for name, cause in rejected.items() if self._rejected.get(name) != cause}
        self._rejected = rejected
        return FolderChanges(added, new)

    def _id_of(self, name: str) -> str | None:
        earlier, whole = slug(name), whole_slug(name)
        if earlier is None or whole is None or self._exists(whole) or earlier in self._folder_of:
            return whole
        return earlier if self._exists(earlier) else whole

    def _assign(self, name: str) -> RejectionCause | None:
        camera_id = self._id_of(name)
        if camera_id is None:
            detail = "no camera id can be made of this folder's name"
            return RejectionCause(RejectReason.CAMERA_NAME, detail)
        owner = self._folder_of.setdefault(camera_id, name)
        if owner != name:
            detail = f"the folder {owner!r} is already the camera {camera_id}"
            return RejectionCause(RejectReason.CAMERA_CONFLICT, detail)
        self._camera_of[name] = camera_id
        return None
