"""Records pages into a corpus that workflows can search without a network.

Each page is fetched as a workflow does it, and its text taken out; see docs/search.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from mm_orch.search.corpus_file import make_line
from mm_orch.search.errors import PageError
from mm_orch.search.extraction import Extractor
from mm_orch.search.fetching import PageFetcher
from mm_orch.search.limits import FetchLimits
from mm_orch.search.page import RawPage


def main() -> int:
    """Record what the command line names; return 1 where a page could not be read."""
    arguments = _read_arguments()
    fetcher = PageFetcher(FetchLimits(allowed_private_hosts=tuple(arguments.allow_private_host)))
    return asyncio.run(_record(arguments.urls, arguments.output, fetcher))


async def _record(urls: list[str], output: Path, fetcher: PageFetcher) -> int:
    num_failed = 0
    for url in urls:
        try:
            line = await _read(url, fetcher)
        except PageError as error:
            num_failed += 1
            print(error, file=sys.stderr)
            continue
        with output.open("ab") as corpus:
            corpus.write(line)
        print(f"{url}: {len(line)} bytes")
    return 1 if num_failed else 0


async def _read(url: str, fetcher: PageFetcher) -> bytes:
    document = await Extractor().extract(await fetcher.fetch(url))
    return make_line(
        RawPage(
            url=document.url,
            title=document.title,
            content_type="text/plain",
            text=document.text,
            fetched_at=document.fetched_at,
        )
    )


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE.jsonl",
        help="added to where it is there",
    )
    parser.add_argument(
        "--allow-private-host",
        action="append",
        default=[],
        metavar="HOST",
        help="may be off the public internet; to be repeated",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
