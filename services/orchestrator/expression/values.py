"""What operators and functions of an expression make of values: typed, bounded, the same on every machine. Pure.

Numbers are integers up to 2^64 and finite floats (IEEE 754 binary64); a truth value is no number. Nothing here takes
longer than in proportion to a list of MOST_ITEMS.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

LARGEST_INTEGER = 2**64
LONGEST_TEXT = 10_000
MOST_ITEMS = 10_000

Number = int | float


class BadValueError(Exception):
    """An operator or function cannot take this value."""


def kind_of(value: object) -> str:
    """The value's kind in words."""
    return _KINDS.get(type(value), "something else")


def number(value: Any) -> Number:  # noqa: ANN401 - whatever a node gave
    """The value, if it is a number. Raises BadValueError."""
    if type(value) is float or type(value) is int:
        return bounded(value)
    raise BadValueError("has no value (null)" if value is None else f"a number is needed, not {kind_of(value)}")


def truth(value: Any) -> bool:  # noqa: ANN401
    """The value, if it is true or false. Raises BadValueError."""
    if value is True or value is False:
        return bool(value)
    raise BadValueError("has no value (null)" if value is None else f"true or false is needed, not {kind_of(value)}")


def bounded(value: Any) -> Number:  # noqa: ANN401 - Python's powers may be complex
    """The number, if it is one that we carry. Raises BadValueError."""
    if type(value) is float:
        if math.isfinite(value):
            return value
    elif type(value) is int:
        if -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
            return value
    else:
        raise BadValueError("a negative number has no such power")
    raise BadValueError("the number is too large")


def plus(left: Any, right: Any) -> Any:  # noqa: ANN401
    """The sum of numbers, or two texts behind one another."""
    if type(left) is str and type(right) is str:
        if len(left) + len(right) > LONGEST_TEXT:
            raise BadValueError(f"the text is longer than {LONGEST_TEXT} characters")
        return left + right
    return bounded(number(left) + number(right))


def minus(left: Any, right: Any) -> Number:  # noqa: ANN401
    """The difference."""
    return bounded(number(left) - number(right))


def times(left: Any, right: Any) -> Number:  # noqa: ANN401
    """The product."""
    return bounded(number(left) * number(right))


def over(left: Any, right: Any) -> Number:  # noqa: ANN401
    """The quotient, a float."""
    return bounded(number(left) / _divisor(right))


def whole_over(left: Any, right: Any) -> Number:  # noqa: ANN401
    """The quotient rounded down."""
    return bounded(number(left) // _divisor(right))


def rest(left: Any, right: Any) -> Number:  # noqa: ANN401
    """What is left of a division rounded down; it has the divisor's sign."""
    return bounded(number(left) % _divisor(right))


def power(left: Any, right: Any) -> Number:  # noqa: ANN401
    """The power; of integers with an exponent of 0 or more an integer."""
    base, exponent = number(left), number(right)
    if type(base) is int and type(exponent) is int and base.bit_length() * exponent > 130:
        # So large a power is never made: it could take all of the memory.
        if abs(base) > 1:
            raise BadValueError("the number is too large")
        exponent = exponent % 2 if base == -1 else 1
    try:
        return bounded(base**exponent)
    except OverflowError:
        raise BadValueError("the number is too large") from None
    except ZeroDivisionError:
        raise BadValueError("division by zero") from None


def _divisor(value: Any) -> Number:  # noqa: ANN401
    divisor = number(value)
    if divisor == 0:
        raise BadValueError("division by zero")
    return divisor


def equal(left: object, right: object) -> bool:
    """Whether both are the same value: 1 equals 1.0, but true does not equal 1."""
    return kind_of(left) == kind_of(right) and left == right


def unequal(left: object, right: object) -> bool:
    """Whether both are not the same value."""
    return not equal(left, right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(left: Any, right: Any) -> bool:  # noqa: ANN401
        """Two strings by their code points, two numbers by their size. Raises BadValueError for anything else."""
        if type(left) is str and type(right) is str:
            return compare(left, right)
        return compare(number(left), number(right))

    return compared


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": plus,
    "-": minus,
    "*": times,
    "/": over,
    "//": whole_over,
    "%": rest,
    "**": power,
}
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": equal,
    "!=": unequal,
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
}


def negative(value: Any) -> Number:  # noqa: ANN401
    """The number with the other sign."""
    return -number(value)


def item(of: Any, index: Any) -> Any:  # noqa: ANN401
    """An item of a list or text by its place (from 0, or from the end: -1), or a part of an object by its name."""
    if type(of) is dict:
        if type(index) is str and index in of:
            return of[index]
        raise BadValueError(f"has no part {index!r}"[:100] if type(index) is str else "a part of an object has a name")
    if type(of) not in {list, tuple, str}:
        raise BadValueError("has no value (null)" if of is None else f"{kind_of(of)} has no parts")
    if type(index) is not int:
        raise BadValueError(f"a place in a list is an integer, not {kind_of(index)}")
    if not -len(of) <= index < len(of):
        raise BadValueError(f"there is no item {index} among {len(of)}")
    return of[index]


def items_of(items: list[Any]) -> list[Any]:
    """The items as a list. Raises BadValueError: it could grow by a factor with each node of a pipeline."""
    for one in items:
        if type(one) is str:
            if len(one) > LONGEST_TEXT:
                raise BadValueError(f"a text of more than {LONGEST_TEXT} characters within a list")
        elif type(one) in {list, tuple, dict}:
            raise BadValueError("a list or object within a list")
    return items


def _numbers(values: Any) -> Sequence[Number]:  # noqa: ANN401
    if type(values) not in {list, tuple}:
        raise BadValueError("has no value (null)" if values is None else f"a list is needed, not {kind_of(values)}")
    if len(values) > MOST_ITEMS:
        raise BadValueError(f"a list of {len(values)} items is too long here; use a compute function for it")
    return [number(value) for value in values]


def _some(values: Any) -> Sequence[Number]:  # noqa: ANN401
    found = _numbers(values)
    if not found:
        raise BadValueError("the list is empty")
    return found


def _either(arguments: tuple[Any, ...]) -> Sequence[Number]:
    """The numbers of the one list, or the arguments themselves."""
    return _some(arguments[0]) if len(arguments) == 1 and type(arguments[0]) in {list, tuple} else _some(arguments)


def _log(value: Any, base: Any = math.e) -> Number:  # noqa: ANN401
    if number(value) <= 0 or number(base) <= 0 or base == 1:
        raise BadValueError("a logarithm needs numbers above 0, and a base that is not 1")
    return bounded(math.log(value) if base == math.e else math.log(value) / math.log(base))


def _sqrt(value: Any) -> Number:  # noqa: ANN401
    if number(value) < 0:
        raise BadValueError("a negative number has no square root")
    return math.sqrt(value)


def _exp(value: Any) -> Number:  # noqa: ANN401
    if number(value) > 709:
        raise BadValueError("the number is too large")
    return math.exp(value)


def _round(value: Any, digits: Any = 0) -> Number:  # noqa: ANN401
    if type(digits) is not int or not 0 <= digits <= 15:
        raise BadValueError("digits are an integer from 0 to 15")
    return bounded(round(number(value), digits) if digits else round(number(value)))


def _clamp(value: Any, low: Any, high: Any) -> Number:  # noqa: ANN401
    if number(low) > number(high):
        raise BadValueError("the lower bound is above the upper one")
    return min(max(number(value), number(low)), number(high))


def _len(value: Any) -> int:  # noqa: ANN401
    if type(value) in {list, tuple, str, dict}:
        return len(value)
    raise BadValueError("has no value (null)" if value is None else f"{kind_of(value)} has no length")


def _mean(values: Any) -> Number:  # noqa: ANN401
    found = _some(values)
    try:
        return bounded(math.fsum(found) / len(found))
    except OverflowError:  # of the sum
        raise BadValueError("the number is too large") from None


class Function(NamedTuple):
    """A function of the language: how many arguments it takes, of which kind, and what kind it gives.

    takes, gives: a JSON type, or None for any; `numbers` is a list of numbers or each number by itself.
    """

    call: Callable[..., Any]
    fewest: int
    most: int
    takes: str | None
    gives: str | None
    about: str


FUNCTIONS: Mapping[str, Function] = {
    "abs": Function(lambda value: abs(number(value)), 1, 1, "number", "number", "abs(x)"),
    "ceil": Function(lambda value: bounded(math.ceil(number(value))), 1, 1, "number", "integer", "ceil(x)"),
    "clamp": Function(_clamp, 3, 3, "number", "number", "clamp(x, low, high)"),
    "default": Function(lambda value, other: other if value is None else value, 2, 2, None, None, "default(x, other)"),
    "exp": Function(_exp, 1, 1, "number", "number", "exp(x)"),
    "floor": Function(lambda value: bounded(math.floor(number(value))), 1, 1, "number", "integer", "floor(x)"),
    "len": Function(_len, 1, 1, None, "integer", "len(list)"),
    "log": Function(_log, 1, 2, "number", "number", "log(x) or log(x, base)"),
    "max": Function(lambda *values: max(_either(values)), 1, 20, "numbers", "number", "max(a, b) or max(list)"),
    "mean": Function(_mean, 1, 1, "array", "number", "mean(list)"),
    "min": Function(lambda *values: min(_either(values)), 1, 20, "numbers", "number", "min(a, b) or min(list)"),
    "round": Function(_round, 1, 2, "number", "number", "round(x) or round(x, digits)"),
    "sqrt": Function(_sqrt, 1, 1, "number", "number", "sqrt(x)"),
    "sum": Function(lambda values: bounded(sum(_numbers(values))), 1, 1, "array", "number", "sum(list)"),
}

_KINDS = {
    int: "a number",
    float: "a number",
    bool: "a truth value",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "null",
}
