"""aiohttp: python_aiohttp.py URL USER PASSWORD FILE."""

import asyncio
import sys
from pathlib import Path

import aiohttp

url, user, password, file = sys.argv[1:]


async def main() -> None:
    digest = aiohttp.DigestAuthMiddleware(login=user, password=password)
    async with aiohttp.ClientSession(middlewares=(digest,)) as session:
        for _ in range(2):
            body = Path(file).read_bytes()
            async with session.post(url, data=body, headers={"Content-Type": "text/xml"}) as answer:
                answer.raise_for_status()


print(aiohttp.__version__)
asyncio.run(main())
