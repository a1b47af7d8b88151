"""Passwords as the broker keeps them: hashed as mosquitto_passwd(1) does it."""

import base64
import hashlib
import hmac

QUICK_ITERATIONS = 101
"""mosquitto 2.0's own (mosquitto_passwd.c); ample for 32 random bytes, and a login stays cheap."""
PERSON_ITERATIONS = 5000
"""Of a password that a person has thought of. The broker makes the key at each login, and of every connection when it
reads its files again, and serves nobody meanwhile: 5 ms each (contracts/decisions/0012)."""
SALT_BYTES = 12
KEY_BYTES = 64


def hash_password(password: str, *, salt: bytes, iterations: int = QUICK_ITERATIONS) -> str:
    """The password as mosquitto_passwd(1) writes it: $7$iterations$salt$key.

    PBKDF2-HMAC-SHA512 with a key of 64 bytes; salt and key in base64.
    """
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, KEY_BYTES)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def iterations_of(hashed: str) -> int:
    """How often a password was hashed. hashed: a contracts.v1.user.PasswordHash."""
    return int(hashed.split("$")[2])


def is_hash_of(hashed: str, password: str) -> bool:
    """Whether `hashed` is in our form and made of this password."""
    try:
        _, form, iterations, salt, _ = hashed.split("$")
        made = hash_password(password, salt=base64.b64decode(salt), iterations=int(iterations))
        return form == "7" and hmac.compare_digest(made, hashed)
    except (ValueError, OverflowError):
        return False
