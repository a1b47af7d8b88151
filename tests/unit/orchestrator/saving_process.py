"""Saves versions of one pipeline as fast as it goes and prints the number of each once it is saved; to be killed."""

import asyncio
import hashlib
import sys
from pathlib import Path

from services.orchestrator.database import Database
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Draft


def text_of(seed: str) -> str:
    return seed + hashlib.sha256(seed.encode()).hexdigest() * 200


async def main(path: Path, seed: str) -> None:
    async with Database(path) as database:
        repository = Repository(database=database)
        await repository.open()
        number = 0
        while True:
            number += 1
            text = text_of(f"{seed}-{number}")
            draft = Draft(scope="lab", pipeline="p", text=text, rev=str(number))
            version = await repository.save(draft, by="anna", at_ms=number)
            sys.stdout.write(f"{version.version} {seed}-{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
