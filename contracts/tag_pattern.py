"""Which tags a pattern means, as the command line and questions to the history take it."""

from fnmatch import fnmatchcase


def matches(pattern: str, device: str, tag: str) -> bool:
    """Whether a tag is meant by DEVICE, TAG or DEVICE/TAG, each with * and ? as in file names."""
    if "/" in pattern:
        wanted_device, _, wanted_tag = pattern.partition("/")
        return fnmatchcase(device, wanted_device) and fnmatchcase(tag, wanted_tag)
    return fnmatchcase(device, pattern) or fnmatchcase(tag, pattern)
