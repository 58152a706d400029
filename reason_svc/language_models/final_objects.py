"""Finds the JSON objects of a model's final text: those outside its reasoning and its calls of tools.

Models mark their reasoning in many ways, and servers remove some marks and leave others. Everything that is
marked as reasoning or as a call of a tool is ignored, also if only its beginning or only its end is marked.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from reason_svc.language_models.lenient_json import decode_flawed_object, decode_object

# Bounds the characters that are read in vain, and so the time that a text of opening braces takes.
MAX_WASTED_CHARACTERS = 2**24
# Of objects that are no JSON; the braces in them are not tried.
MAX_REPAIRS = 16


class Section(Enum):
    """A part of the text that is not final."""

    REASONING = "reasoning"
    TOOL_CALL = "tool call"
    CHANNEL = "channel"
    FENCE = "code fence"


# What occurs in a name of a mark.
SECTION_PARTS = {
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
        "brainstorm",
        "critique",
        "justif",
        "explan",
        "internal",
        "hidden",
        "ponder",
    ),
    Section.TOOL_CALL: ("tool", "function", "invoke", "python", "observation"),
}
# Short names of reasoning, which occur in other words.
REASONING_WORDS = frozenset({"cot", "plan", "planning", "notes", "review", "details", "work", "working"})
FINAL_CHANNEL = "final"

# For example <think>, </thinking>, <function=name>, [THINK], <seed:think>, <|START_THINKING|>, ◁think▷,
# <｜tool▁calls▁begin｜>, and <|tool_call> with its end <tool_call|>.
_MARK = r"""
    [<\[◁] (?P<bar> [|｜]? ) \s? (?P<slash> /? ) \s? (?P<name> [A-Za-z_▁:.-]{2,40} )
    (?P<attributes> (?: [\s=/] [^<>\[\]{}◁▷]{0,200} )? ) (?P<last_bar> [|｜]? ) [>\]▷]
"""
# For example <|channel|>analysis<|message|> and <|channel>thought. A server that removes the special tokens
# leaves `analysis` at the beginning, and `assistantfinal`.
_CHANNEL = r"""
    (?i: <\|channel\|?> ) \s{0,2} (?P<channel> [A-Za-z]{0,40} )
  | assistant (?P<bare_channel> final | analysis | commentary )
  | \A \s* (?P<first_channel> analysis | commentary ) (?! [a-z:\x20] )
"""
_CHANNEL_END = r"(?i: <\| (?P<end> end | call | return | start ) \|> | (?P<lone_end> <channel\|> ) )"
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

    They may be as models write JSON (`lenient_json`). Raises ValueError if the text has too many braces to be
    read in a reasonable time.
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[FinalObject] = []
        self._section: Section | None = None
        self._begun: set[Section] = set()
        self._open_braces = 0  # of invalid JSON
        self._wasted = self._repairs = 0

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
            elif FINAL_CHANNEL in ((token["channel"] or "").lower(), token["bare_channel"]):
                self._discard()
            else:
                self._begin(Section.CHANNEL)
        return self._found

    def _read_object(self, start: int) -> int:
        """Returns where to continue."""
        if self._section:
            return start + 1
        try:
            members, end = self._decode(start)
        except ValueError:
            self._open_braces += 1
            self._wasted += len(self._text) - start
            if self._wasted > MAX_WASTED_CHARACTERS:
                raise ValueError("too many braces") from None
            return start + 1
        self._found.append(FinalObject(members, start, end, self._open_braces > 0))
        return end

    def _decode(self, start: int) -> tuple[dict[str, Any], int]:
        try:
            return decode_object(self._text, start)
        except ValueError:
            if self._open_braces or self._repairs == MAX_REPAIRS:
                raise
            self._repairs += 1
            return decode_flawed_object(self._text, start)

    def _read_mark(self, mark: re.Match[str]) -> None:
        section = section_of(mark["name"])
        if section is None or mark["attributes"].endswith("/"):
            return
        words = _words(mark["name"])
        if mark["slash"] or "end" in (words[0], words[-1]) or (mark["last_bar"] and not mark["bar"]):
            self._end(section, discards=True)
        else:
            self._begin(section)

    def _read_fence(self, language: str) -> None:
        if self._section is Section.FENCE:
            self._section = None
        elif section_of(language):
            self._begin(Section.FENCE)

    def _begin(self, section: Section) -> None:
        self._section = self._section or section
        self._begun.add(section)

    def _end(self, section: Section, discards: bool) -> None:
        """Ends a section. If its beginning is missing, then everything before its end belongs to it.

        Sections of reasoning may be in each other: what is between their ends is reasoning, too.
        """
        is_lone = self._section is None and section not in self._begun
        if self._section is section:
            self._section = None
        elif section is Section.REASONING or (is_lone and discards):
            self._discard()

    def _discard(self) -> None:
        self._section, self._open_braces = None, 0
        self._begun.clear()
        self._found.clear()


def section_of(name: str) -> Section | None:
    """Returns what a mark, a code fence or a member of this name begins; None for what may be final."""
    lowered = name.lower()
    for section, parts in SECTION_PARTS.items():
        if any(part in lowered for part in parts):
            return section
    return Section.REASONING if REASONING_WORDS.intersection(_words(name)) else None


def _words(name: str) -> list[str]:
    return re.split(r"[_▁:.-]", name.lower())
