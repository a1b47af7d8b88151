"""How many there are of something, as people write it. Pure."""


def counted(number: int, noun: str, many: str = "") -> str:
    """1 fault, 2 faults. many: the plural where it is another word, such as `deliveries`."""
    return f"{number} {noun if number == 1 else many or f'{noun}s'}"
