"""The grammar of expressions: text becomes a tree, or the one place where it cannot. Pure.

The language is our own and small: whatever is not named here does not exist, so nothing can reach the program around
it. docs/pipelines.md tells it to users.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from services.orchestrator.expression.tree import (
    Binary,
    Call,
    Choice,
    Comparison,
    Constant,
    ExpressionError,
    Index,
    Items,
    Name,
    Tree,
    Unary,
    parts,
)

LONGEST = 1000
"""Characters of an expression."""
DEEPEST = 100
"""Operations that stand inside one another."""
_NESTED = 32
"""Brackets, signs and choices that are open at the same time."""


def parse(text: str) -> Tree:
    """The tree of the text. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(
            f"is longer than {LONGEST} characters", column=LONGEST, mend="split it into several nodes"
        )
    parser = _Parser(list(_tokens(text)))
    tree = parser.whole()
    _refuse_too_deep(tree)
    return tree


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+)
    |(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<name>[a-z_][a-z0-9_]*)
    |(?P<operator>\*\*|//|==|!=|<=|>=|[-+*/%<>()\[\],])""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "if", "else"})
_FIXED: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_MENDS = {
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not, or != to compare",
    "^": "write ** for a power",
    ".": 'a name has no parts: give the value as an input, and write values["speed"] for a part of it',
    "\\": "a text holds no backslash",
    '"': 'end the text with "',
    "'": "end the text with '",
}


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _strange(text, at)
        kind = str(found.lastgroup)
        if kind == "name" and found[0] in _WORDS:
            kind = "operator"
        if kind == "number" and text[found.end() : found.end() + 1].isalnum():
            raise ExpressionError(
                f"{found[0]}{text[found.end()]} is no number", column=at + 1, mend="put an operator between them"
            )
        if kind != "blank":
            yield _Token(kind, found[0], at + 1)
        at = found.end()
    yield _Token("end", "", at + 1)


def _strange(text: str, at: int) -> ExpressionError:
    letter = text[at]
    mend = _MENDS.get(letter, "")
    if letter.isalpha():
        word = re.match(r"\w+", text[at:])
        lower = word[0].lower() if word else ""
        mend = f"did you mean {lower}?" if lower in _FIXED or lower in _WORDS else "names are of a-z, 0-9 and _"
    return ExpressionError(f"{letter!r} means nothing here", column=at + 1, mend=mend or "see docs/pipelines.md")


_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _POSTFIX = range(1, 11)
_BINDING = {
    "if": _CHOICE,
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), _COMPARE),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys(("*", "/", "//", "%"), _PRODUCT),
    "**": _POWER,
    "(": _POSTFIX,
    "[": _POSTFIX,
}
"""How strongly an operator binds what stands to its left."""


class _Parser:
    """Operator precedence, after Pratt (1973), with the precedences of Python."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._open = 0

    @property
    def _now(self) -> _Token:
        return self._tokens[self._place]

    def whole(self) -> Tree:
        """The tree of all tokens."""
        tree = self._expression(0)
        if self._now.kind != "end":
            raise ExpressionError(
                f"{self._now.text!r} is not expected here", column=self._now.at, mend="an operator is missing before it"
            )
        return tree

    def _expression(self, binding: int) -> Tree:
        """As much as binds more strongly than `binding`."""
        self._open += 1
        if self._open > _NESTED:
            raise _too_deep(self._now.at)
        left = self._first()
        while self._now.kind == "operator" and _BINDING.get(self._now.text, 0) > binding:
            left = self._further(left)
        self._open -= 1
        return left

    def _first(self) -> Tree:
        token = self._taken()
        if token.kind in _LEAVES:
            return _LEAVES[token.kind](token)
        if token.kind == "operator" and token.text in _SIGNS:
            return Unary(token.text, self._expression(_SIGNS[token.text]), token.at)
        if token.text == "(":
            inner = self._expression(0)
            self._expect(")")
            return inner
        if token.text == "[":
            return Items(self._list("]"), token.at)
        what = "ends too early" if token.kind == "end" else f"{token.text!r} is not expected here"
        raise ExpressionError(what, column=token.at, mend="a value is missing: a number, a text, a name")

    def _further(self, left: Tree) -> Tree:
        token = self._taken()
        binding = _BINDING[token.text]
        if binding == _POSTFIX:
            return self._postfix(left, token)
        if binding == _CHOICE:
            condition = self._expression(_CHOICE)
            self._expect("else")
            return Choice(condition, left, self._expression(_CHOICE - 1), token.at)
        if binding == _COMPARE:
            return self._comparison(left, token)
        # A power binds to the right, and less than the sign of its exponent: 2 ** -1.
        right = self._expression(_SIGN - 1 if binding == _POWER else binding)
        return Binary(token.text, left, right, token.at)

    def _postfix(self, left: Tree, token: _Token) -> Tree:
        if token.text == "[":
            index = self._expression(0)
            self._expect("]")
            return Index(left, index, token.at)
        if not isinstance(left, Name):
            raise ExpressionError("only a function can be called", column=token.at, mend="put an operator before (")
        return Call(left.name, self._list(")"), left.at)

    def _comparison(self, left: Tree, token: _Token) -> Tree:
        operators, operands = [token.text], [left, self._expression(_COMPARE)]
        while self._now.kind == "operator" and _BINDING.get(self._now.text) == _COMPARE:
            operators.append(self._taken().text)
            operands.append(self._expression(_COMPARE))
        return Comparison(tuple(operators), tuple(operands), token.at)

    def _list(self, end: str) -> tuple[Tree, ...]:
        items: list[Tree] = []
        while self._now.text != end or self._now.kind != "operator":
            items.append(self._expression(0))
            if self._now.text != "," or self._now.kind != "operator":
                break
            self._taken()
        self._expect(end)
        return tuple(items)

    def _taken(self) -> _Token:
        token = self._now
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _expect(self, text: str) -> None:
        token = self._taken()
        if token.text != text or token.kind != "operator":
            found = "the end" if token.kind == "end" else repr(token.text)
            raise ExpressionError(f"{text!r} is missing before {found}", column=token.at, mend=f"write {text!r}")


def _number(token: _Token) -> int | float:
    if len(token.text) > 25:
        raise ExpressionError("the number is too long", column=token.at, mend="write it with an exponent, as 1e20")
    value = int(token.text) if token.text.isdigit() else float(token.text)
    if value > (2**64 if isinstance(value, int) else 1e308):
        raise ExpressionError("the number is too large", column=token.at, mend="write a smaller one")
    return value


_SIGNS = {"-": _SIGN, "+": _SIGN, "not": _NOT}
_LEAVES: Mapping[str, Callable[[_Token], Tree]] = {
    "number": lambda token: Constant(_number(token), token.at),
    "text": lambda token: Constant(token.text[1:-1], token.at),
    "name": lambda token: (
        Constant(_FIXED[token.text], token.at) if token.text in _FIXED else Name(token.text, token.at)
    ),
}


def _too_deep(at: int) -> ExpressionError:
    return ExpressionError("too much stands inside one another", column=at, mend="split it into several nodes")


def _refuse_too_deep(tree: Tree) -> None:
    level: list[Tree] = [tree]
    for _ in range(DEEPEST):
        level = [part for one in level for part in parts(one)]
        if not level:
            return
    raise _too_deep(level[0].at)
