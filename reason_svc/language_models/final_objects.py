"""Finds the JSON objects of a model's final text: those outside its reasoning and its calls of tools.

Models mark their reasoning in many ways, and servers remove some marks and leave others. Everything that is
marked as reasoning or as a call of a tool is ignored, also if only its beginning or only its end is marked.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

# Bounds the characters that are read in vain, and so the time that a text of opening braces takes.
MAX_WASTED_CHARACTERS = 2**24


class Section(Enum):
    """A part of the text that is not final."""

    REASONING = "reasoning"
    TOOL_CALL = "tool call"
    CHANNEL = "channel"
    FENCE = "code fence"


# The beginnings of the words by which a name of a mark is recognised.
SECTION_WORDS = {
    Section.REASONING: (
        "think",
        "thought",
        "reason",
        "reflect",
        "analys",
        "scratchpad",
        "monologue",
        "deliberat",
        "rationale",
        "draft",
    ),
    Section.TOOL_CALL: ("tool", "function", "invoke", "python"),
}
FINAL_CHANNEL = "final"

# For example <think>, </thinking>, <function=name>, [THINK], <seed:think>, <|START_THINKING|>, ◁think▷ and
# <｜tool▁calls▁begin｜>.
_MARK = r"""
    [<\[◁] [|｜]? \s? (?P<slash> /? ) (?P<name> [A-Za-z_▁:.-]{2,40} )
    (?P<attributes> (?: [\s=/] [^<>\[\]{}◁▷]{0,200} )? ) [|｜]? [>\]▷]
"""
# For example <|channel|>analysis<|message|> and <|channel>thought. A server that removes the special tokens
# leaves `analysis` at the beginning, and `assistantfinal`.
_CHANNEL = r"""
    <\|channel\|?> \s{0,2} (?P<channel> [a-z]{0,40} )
  | assistant (?P<bare_channel> final | analysis | commentary )
  | \A \s* (?P<first_channel> analysis | commentary ) (?! [a-z:] )
"""
_CHANNEL_END = r"<\| (?P<end> end | call | return | start ) \|> | (?P<lone_end> <channel\|> )"
# For example ```thinking or ```tool_code.
_FENCE = r"(?P<fence> ``` ) (?P<language> [A-Za-z_]{0,40} )"
_TOKEN = re.compile(rf"(?P<brace> [{{}}] ) | {_CHANNEL} | {_CHANNEL_END} | {_MARK} | {_FENCE}", re.VERBOSE)


@dataclass(frozen=True, slots=True)
class FinalObject:
    """It is `text[start:end]`. `is_part` means that it stands within braces that are not valid JSON."""

    members: dict[str, Any]
    start: int
    end: int
    is_part: bool


def final_objects(text: str) -> list[FinalObject]:
    """Returns the objects in order. An object that is a member of another is not listed.

    Of a member that an object has twice, the value is the list of both. Raises ValueError if the text has too
    many braces to be read in a reasonable time.
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[FinalObject] = []
        self._section: Section | None = None
        self._open_braces = 0  # of invalid JSON
        self._wasted = 0

    def read(self) -> list[FinalObject]:
        at = 0
        while token := _TOKEN.search(self._text, at):
            at = token.end()
            if token["brace"] == "{":
                at = self._read_object(token.start())
            elif token["brace"]:
                self._open_braces = max(0, self._open_braces - (self._section is None))
            elif token["name"]:
                self._read_mark(token)
            elif token["fence"]:
                self._read_fence(token["language"])
            elif token["end"] or token["lone_end"]:
                # Without its beginning, only the lone end says that what precedes it was a channel.
                self._end(Section.CHANNEL, discards=bool(token["lone_end"]))
            elif FINAL_CHANNEL in (token["channel"], token["bare_channel"]):
                self._discard()
            else:
                self._begin(Section.CHANNEL)
        return self._found

    def _read_object(self, start: int) -> int:
        """Returns where to continue."""
        if self._section:
            return start + 1
        try:
            members, end = _DECODER.raw_decode(self._text, start)
        except (ValueError, RecursionError):
            self._open_braces += 1
            self._wasted += len(self._text) - start
            if self._wasted > MAX_WASTED_CHARACTERS:
                raise ValueError("too many braces") from None
            return start + 1
        self._found.append(FinalObject(members, start, end, self._open_braces > 0))
        return end

    def _read_mark(self, mark: re.Match[str]) -> None:
        words = re.split(r"[_▁:.-]", mark["name"].lower())
        section = _section_of(words)
        if section is None or mark["attributes"].endswith("/"):
            return
        if mark["slash"] or "end" in (words[0], words[-1]):
            self._end(section, discards=True)
        else:
            self._begin(section)

    def _read_fence(self, language: str) -> None:
        if self._section is Section.FENCE:
            self._section = None
        elif _section_of(language.lower().split("_")):
            self._begin(Section.FENCE)

    def _begin(self, section: Section) -> None:
        self._section = self._section or section

    def _end(self, section: Section, discards: bool) -> None:
        """Ends a section. If its beginning is missing, then everything before its end belongs to it."""
        if self._section is section:
            self._section = None
        elif section is Section.REASONING or (self._section is None and discards):
            self._discard()

    def _discard(self) -> None:
        self._section, self._open_braces = None, 0
        self._found.clear()


def _section_of(words: list[str]) -> Section | None:
    for section, beginnings in SECTION_WORDS.items():
        if any(word.startswith(beginnings) for word in words):
            return section
    return None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = [members[name], value] if name in members else value
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members)
