"""How long until a user who is removed, or may do less, has lost it: python -m bench.users [--users 20] [--count 20].

Broker and identity service are those of a site; the broker reads its files again as under `dinrail up`. A time is from
just before the admin's command to the end of the open connection, or to the first write that the broker refuses. The
other users are connected. Prints JSON lines and adds them to bench/out.
"""

import argparse
import asyncio
import json
import logging
import secrets
import sys
import tempfile
import time
from pathlib import Path

import structlog

from bench.results import keep
from bench.stage import percentiles
from contracts.v1.policy import Role
from contracts.v1.user import REMOVE_USER, SET_ROLE
from tests.integration.identity_site import IdentitySite, identity_at_work, identity_site, is_in, taken

LOST_S = 30


async def lost_after(site: IdentitySite, name: str) -> tuple[float, float]:
    """Seconds until an operator who becomes a viewer is refused, and until his connection ends once he is removed."""
    user = await site.login(name, await site.add(name, Role.OPERATOR))
    assert await is_in(user)
    begun = time.monotonic()
    await site.ask(SET_ROLE, name, role=Role.VIEWER)
    while await taken(user, f"cmd/{name}/device/plant/plc/write/level"):
        continue
    refused = time.monotonic() - begun
    begun = time.monotonic()
    await site.ask(REMOVE_USER, name)
    await asyncio.to_thread(user.ended.wait, LOST_S)
    return refused, time.monotonic() - begun


async def measured(users: int, count: int) -> dict[str, object]:
    """A line of results."""
    with tempfile.TemporaryDirectory() as folder:
        async with identity_site(Path(folder) / "site") as site, identity_at_work(site):
            for number in range(users):
                name = f"user{number}"
                assert await is_in(await site.login(name, await site.add(name, Role.OPERATOR)))
            lost = [await lost_after(site, f"leaver{number}-{secrets.token_hex(2)}") for number in range(count)]
    refused, ended = zip(*lost, strict=True)
    return {"users": users, "refused": percentiles(list(refused)), "ended": percentiles(list(ended))}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--count", type=int, default=20)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for users in (0, asked.users):
        line = asyncio.run(measured(users, asked.count))
        sys.stdout.write(json.dumps(line) + "\n")
        keep("users", line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
