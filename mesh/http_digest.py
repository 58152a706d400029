"""HTTP digest authentication (RFC 7616), as far as both who asks and who knows the key need it."""

import hashlib
from enum import Enum

REALM = "Lares"


class DigestAlgorithm(Enum):
    """By the names in HTTP headers. Most cameras know MD5 alone."""

    MD5 = "MD5"
    SHA_256 = "SHA-256"

    def hex(self, *parts: str) -> str:
        """The digest of the parts with colons between them."""
        text = ":".join(parts).encode()
        if self is DigestAlgorithm.MD5:
            return hashlib.md5(text, usedforsecurity=False).hexdigest()
        return hashlib.sha256(text).hexdigest()


def user_digest(algorithm: DigestAlgorithm, user: str, secret: str) -> str:
    """What a server keeps of a secret to check answers (A1). Whoever has it can answer for this user in this
    realm, and learns nothing of a random secret."""
    return algorithm.hex(user, REALM, secret)
