"""The report and page of live runs: text that appeared while somebody signed, how good it is and how late it came.

    python -m signstream.inference.live_report --checkpoint PATH --events live.jsonl --split val --out live
    python -m signstream.inference.live_report ... --events live.jsonl --beside shuffled=FILE none=FILE --out live
    python -m signstream.inference.live_report ... --events early.jsonl late.jsonl patient.jsonl --out live
    python -m signstream.inference.live_report --config FILE data.root=DIR --events live.jsonl --out live

Writes report.json, index.html and, of several runs, frontier.png: BLEU over lag. Events are what translate --live
wrote, a JSON line a chunk. The page shows the first file's text under the signing; other files of the same clips stand
beside it in the table. The data set and its language are those of the run that was live: its checkpoint's, or a
config's. docs/metrics.md says what each number is.
"""

from __future__ import annotations

from pathlib import Path

from signstream import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__, __spec__)
    parser.add_argument("--checkpoint", metavar="PATH", help="the run that was live, for its data set and language")
    parser.add_argument("--events", required=True, nargs="+", type=Path, metavar="FILE", help="one a run")
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="NAME=FILE", help="events of controls, such as shuffled=FILE"
    )
    parser.add_argument("--split", default="test", help="that the clips are of (default: %(default)s)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the files go; made if need be")
    args = cli.parse_with_config(parser, argv)

    from signstream.inference.report.live.command import report_live

    report_live(args)


if __name__ == "__main__":
    cli.run(main)
