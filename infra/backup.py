"""Takes tables out into files, and brings them back: `make export FOLDER=...` and `make import FOLDER=...`.

The event table is all that the service cannot build anew. The tables of the built-in providers can be taken out as well, because nobody else
keeps them; a provider of one's own keeps its books itself. What an export is: a folder for each table with `data/*.json.gz`, an item a line in
the form that DynamoDB's own exports have, and `manifest.json`, which names each file with its lines and its SHA-256 and says how far the
export is. The manifest is written after the file that it names, so whatever is interrupted goes on where it was when it is run again.

Files hold what customers have told of themselves: nobody but their owner may read them.

A table is read by its own export to S3 where a BUCKET is named, which wants point-in-time recovery, takes none of the table's capacity, and is of
one moment; otherwise by a scan in segments, in which what is appended meanwhile may be or not. No stream has a gap either way, which is looked
for when a table has been read and before it is written.

What is imported is marked, and the readers of the table's stream leave out what has the mark (docs/adr/0051).
"""
from __future__ import annotations

import argparse
import base64
import collections
import concurrent.futures
import contextlib
import datetime
import gzip
import hashlib
import io
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tools import Refused, show, show_now_and_then

FORMAT = 1
TABLES = ["events", "inventory", "payments", "shipments", "notifications"]
MARK = "imported"  # as the filter of the stream's readers has it

PAGE = 1_000  # items; DynamoDB ends a page at 1 MB in any case
FILE_LINES = 5_000  # a file is what an interruption costs, and what is in memory
WRITERS = 16  # puts at a time
POLL = 15  # seconds between two looks at an export that AWS makes
AWS_EXPORT_TAKES = 24 * 60 * 60  # seconds at most


def client(service: str):
    # Throttling is met by a slower pace instead of by an end.
    config = Config(retries={"mode": "adaptive", "max_attempts": 10}, read_timeout=20, connect_timeout=5, max_pool_connections=2 * WRITERS)
    return botocore.session.get_session().create_client(service, config=config)


def outputs_of(stack: str) -> dict[str, str]:
    described = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


class Table:
    """A table of a stack, by the name that it has there, or another one in its place."""

    def __init__(self, stack: str, name: str, id: str = ""):
        self.stack, self.name, self.dynamodb = stack, name, client("dynamodb")
        self.id = id or outputs_of(stack)[f"{name.title()}Table"]
        described = self.dynamodb.describe_table(TableName=self.id)["Table"]
        self.arn = described["TableArn"]
        self.key = [part["AttributeName"] for part in sorted(described["KeySchema"], key=lambda part: part["KeyType"] != "HASH")]

    def pages(self, **how) -> Iterator[dict]:
        after = how.pop("after", None)
        while True:
            page = self.dynamodb.scan(TableName=self.id, ConsistentRead=True, **how, **({"ExclusiveStartKey": after} if after else {}))
            yield page
            after = page.get("LastEvaluatedKey")
            if not after:
                return

    def is_empty(self) -> bool:
        return not any(page["Count"] for page in self.pages(Limit=1))

    def count(self) -> int:
        return sum(page["Count"] for page in self.pages(Select="COUNT"))

    def put_new(self, item: dict):
        """What is there already has to be the same: then it was put before this was interrupted."""
        try:
            self.dynamodb.put_item(TableName=self.id, Item=item, ConditionExpression="attribute_not_exists(#key)",
                                   ExpressionAttributeNames={"#key": self.key[0]}, ReturnValuesOnConditionCheckFailure="ALL_OLD")
        except self.dynamodb.exceptions.ConditionalCheckFailedException as error:
            if error.response.get("Item") != item:
                place = "/".join(next(iter(item[part].values())) for part in self.key)
                raise Refused(f"the table has {place} already, and it is another one", "Occupied") from None


# ---------------------------------------------------------------- files


def only_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write(path: Path, content: bytes):
    """All of it or nothing, and for nobody else's eyes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # whoever made it may have let others read it
    with open(new, "wb", opener=only_ours) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)


class Manifest:
    """What an export has so far. Several threads add to it."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.path = folder / name, name, folder / name / "manifest.json"
        self.lock, self.content = threading.Lock(), {}

    def read(self) -> Manifest:
        try:
            self.content = json.loads(self.path.read_text())
        except FileNotFoundError:
            raise Refused(f"{self.folder} has no export of {self.name}", "NoExport") from None
        if self.content["format"] != FORMAT or self.content["table"] != self.name:
            raise Refused(f"{self.path} is of format {self.content['format']} and of {self.content['table']}, not of {FORMAT} and of {self.name}", "OtherExport")
        return self

    def begin(self, table: Table, segments: int, at: datetime.datetime | None):
        """Goes on with what is there, if it is of the same table, and as of the same time if one is named."""
        as_of = at and at.astimezone(datetime.timezone.utc).isoformat()
        if self.path.exists():
            self.read()
            if self.content["of"] != table.arn:
                raise Refused(f"{self.folder} holds an export of {self.content['of']}", "OtherExport")
            if self.content.get("as_of") != as_of:
                raise Refused(f"{self.folder} holds an export as of {self.content.get('as_of') or self.content['begun']}: take another folder", "OtherExport")
            return
        parts = [{"files": [], "next": None, "done": False} for _ in range(segments)]
        self.content = {"format": FORMAT, "table": self.name, "stack": table.stack, "of": table.arn, "export": str(uuid.uuid4()), "begun": now(),
                        "as_of": as_of, "newest": None, "complete": False, "segments": parts}
        self.save()

    def save(self):
        write(self.path, json.dumps(self.content, indent=1).encode())

    def add(self, segment: int, content: bytes, lines: int, newest: str | None, after: dict | None, done: bool, name: str = ""):
        part = self.content["segments"][segment]
        name = name or f"{segment:02}-{len(part['files']):05}.json.gz"
        if lines:
            write(self.folder / "data" / name, content)
        with self.lock:
            if lines:
                part["files"].append({"name": name, "lines": lines, "sha256": hashlib.sha256(content).hexdigest()})
            part.update(next=after, done=done)
            self.content["newest"] = max(filter(None, [self.content["newest"], newest]), default=None)
            self.save()

    @property
    def files(self) -> list[dict]:
        return [file for part in self.content["segments"] for file in part["files"]]

    @property
    def lines(self) -> int:
        return sum(file["lines"] for file in self.files)

    def items(self, file: dict) -> list[dict]:
        """Of one file, if that is as the manifest says."""
        path = self.folder / "data" / file["name"]
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Refused(f"{path} is missing", "DamagedExport") from None
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise Refused(f"{path} is not what was exported", "DamagedExport")
        return [json.loads(line)["Item"] for line in gzip.decompress(content).splitlines()]


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def packed(lines: list[str]) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as out:
        out.write("".join(lines).encode())
    return buffer.getvalue()


def line_of(item: dict) -> str:
    return json.dumps({"Item": item}, ensure_ascii=False, separators=(",", ":")) + "\n"


def newest_of(items: list[dict]) -> str | None:
    return max((item["occurred_at"]["S"] for item in items if "occurred_at" in item), default=None)


def items_of(folder: Path, table: str) -> Iterator[dict]:
    """The items of a complete export, as DynamoDB has them."""
    manifest = complete(folder, table)
    for file in manifest.files:
        yield from manifest.items(file)


def complete(folder: Path, table: str) -> Manifest:
    manifest = Manifest(folder, table).read()
    if not manifest.content["complete"]:
        raise Refused(f"{manifest.folder} is not complete: run `make export` again, and it goes on", "IncompleteExport")
    return manifest


def commits_of(folder: Path) -> Iterator[dict]:
    """The commits of an export with their events, stream after stream where the table was scanned, and in no order where AWS has exported it."""
    for item in items_of(folder, "events"):
        commit = {name: value["S"] for name, value in item.items() if "S" in value and name != MARK}
        yield commit | {"version": int(item["version"]["N"]), "events": json.loads(item["events"]["S"])}


# ---------------------------------------------------------------- out


def export(table: Table, folder: Path, segments: int, bucket: str, at: datetime.datetime | None):
    manifest = Manifest(folder, table.name)
    manifest.begin(table, 1 if bucket else segments, at)
    if not manifest.content["complete"]:
        if bucket:
            export_by_aws(table, manifest, bucket, at)
        else:
            scan(table, manifest)
        look_through(manifest)
        manifest.content |= {"complete": True, "ended": now()}
        manifest.save()
    show(f"{table.name}: {manifest.lines:,} items in {len(manifest.files)} files, the newest of {manifest.content['newest'] or 'no time'}")


def scan(table: Table, manifest: Manifest):
    stopped = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(len(manifest.content["segments"])) as pool:
        try:
            for result in concurrent.futures.as_completed([pool.submit(scan_segment, table, manifest, number, stopped)
                                                           for number in range(len(manifest.content["segments"]))]):
                result.result()
        except BaseException:
            stopped.set()
            show("Stopping after the page at hand; run it again to go on")
            raise


def scan_segment(table: Table, manifest: Manifest, number: int, stopped: threading.Event):
    segments = manifest.content["segments"]
    if segments[number]["done"]:
        return
    lines, newest = [], None
    for page in table.pages(Segment=number, TotalSegments=len(segments), Limit=PAGE, after=segments[number]["next"]):
        if stopped.is_set():
            return
        lines += map(line_of, page["Items"])
        newest = max(filter(None, [newest, newest_of(page["Items"])]), default=None)
        after = page.get("LastEvaluatedKey")
        if len(lines) >= FILE_LINES or not after:
            manifest.add(number, packed(lines), len(lines), newest, after, not after)
            lines, newest = [], None
            show_now_and_then(f"{table.name}: {manifest.lines:,} items")


def export_by_aws(table: Table, manifest: Manifest, bucket: str, at: datetime.datetime | None):
    s3, content = client("s3"), manifest.content
    if "arn" not in content:
        when = {"ExportTime": at} if at else {}
        # Whoever asks again under the same token within eight hours gets the same export.
        asked = table.dynamodb.export_table_to_point_in_time(TableArn=table.arn, S3Bucket=bucket, S3Prefix=content["export"], ExportFormat="DYNAMODB_JSON",
                                                             ClientToken=content["export"], **when)
        content["arn"] = asked["ExportDescription"]["ExportArn"]
        manifest.save()
    made = wait_for(table, content["arn"])
    read = lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()  # noqa: E731
    summary = json.loads(read(made["ExportManifest"]))
    there = {file["name"] for file in manifest.files}
    for line in read(summary["manifestFilesS3Key"]).decode().splitlines():
        file = json.loads(line)
        name = file["dataFileS3Key"].rsplit("/", 1)[1]
        if name in there or not file["itemCount"]:
            continue
        body = read(file["dataFileS3Key"])
        if base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != file["md5Checksum"]:
            raise Refused(f"{file['dataFileS3Key']} is not what AWS has exported", "DamagedExport")
        items = [json.loads(line)["Item"] for line in gzip.decompress(body).splitlines()]
        manifest.add(0, body, len(items), newest_of(items), None, False, name)
        show_now_and_then(f"{table.name}: {manifest.lines:,} of {summary['itemCount']:,} items")
    if manifest.lines != summary["itemCount"]:
        raise Refused(f"AWS has exported {summary['itemCount']:,} items, and {manifest.lines:,} have come", "DamagedExport")
    content["segments"][0]["done"] = True


def wait_for(table: Table, arn: str) -> dict:
    until = time.monotonic() + AWS_EXPORT_TAKES
    while time.monotonic() < until:
        made = table.dynamodb.describe_export(ExportArn=arn)["ExportDescription"]
        if made["ExportStatus"] == "COMPLETED":
            return made
        if made["ExportStatus"] != "IN_PROGRESS":
            raise Refused(f"AWS has not exported {table.name}: {made.get('FailureMessage', made['ExportStatus'])}. Take another folder to ask again", "ExportFailed")
        show_now_and_then(f"{table.name}: AWS is exporting it to S3")
        time.sleep(POLL)
    raise Refused(f"AWS is still exporting {table.name}: run it again to go on", "TooEarly")


# ---------------------------------------------------------------- in


def load(table: Table, folder: Path):
    manifest = complete(folder, table.name)
    look_through(manifest)
    # Beside the export, and of this very table: so whoever goes on is known from whoever finds a table that is in use.
    progress = manifest.folder / f"into-{hashlib.sha256(table.arn.encode()).hexdigest()[:16]}.json"
    if progress.exists():
        done = set(json.loads(progress.read_text()))
    elif table.is_empty():
        done = set()
        write(progress, b"[]")
    else:
        raise Refused(f"{table.id} is not empty, and this export was not being imported into it", "Occupied")
    mark = {MARK: {"S": manifest.content["export"]}} if table.name == "events" else {}
    count = 0
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for file in manifest.files:
            if file["name"] not in done:
                put_all(pool, table, [item | mark for item in manifest.items(file)])
                done.add(file["name"])
                write(progress, json.dumps(sorted(done)).encode())
            count += file["lines"]
            show_now_and_then(f"{table.name}: {count:,} of {manifest.lines:,} items")
    found = table.count()
    if found != manifest.lines:
        raise Refused(f"{table.id} has {found:,} items, and the export {manifest.lines:,}: something else has written to it", "Occupied")
    show(f"{table.name}: {count:,} items are in {table.id}")


def put_all(pool: concurrent.futures.Executor, table: Table, items: list[dict]):
    try:
        for result in [pool.submit(table.put_new, item) for item in items]:
            result.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def look_through(manifest: Manifest):
    """Reads all of an export, before it is said to be complete and before any of it is written into a table: each file has to be what was
    exported, and no stream may lack a commit."""
    streams, ends = collections.Counter(), {}
    for file in manifest.files:
        items = manifest.items(file)
        if len(items) != file["lines"]:
            raise Refused(f"{file['name']} has {len(items)} items, not {file['lines']}", "DamagedExport")
        for item in items if manifest.name == "events" else []:
            stream, events = item["stream"]["S"], len(item["event_types"]["L"])
            streams[stream] += events
            ends[stream] = max(ends.get(stream, 0), int(item["version"]["N"]) + events - 1)
    for stream, events in streams.items():
        if ends[stream] != events:
            raise Refused(f"{stream} has {events} of its {ends[stream]} events", "DamagedExport")


# ---------------------------------------------------------------- which orders


def orders(folder: Path, lacking: Path | None) -> Iterator[str]:
    """The ids of the orders of an export, or of those of which another export lacks something."""
    known = lengths(lacking) if lacking else {}
    for stream, length in lengths(folder).items():
        kind, _, id = stream.partition("#")
        if kind == "order" and (not lacking or known.get(stream, 0) < length):
            yield id


def lengths(folder: Path) -> dict[str, int]:
    found = collections.Counter()
    for commit in commits_of(folder):
        found[commit["stream"]] += len(commit["events"])
    return found


# ---------------------------------------------------------------- command line


def moment(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if not found.tzinfo:
        raise ValueError("a time needs its zone, such as 2026-11-27T12:00:00Z")
    return found


def tables_of(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TABLES]:
        raise ValueError(f"{unknown[0]!r} is none of the tables {', '.join(TABLES)}")
    return names


def run(arguments: argparse.Namespace):
    folder = Path(arguments.folder)
    if arguments.deed == "orders":
        for id in orders(folder, Path(arguments.lacking) if arguments.lacking else None):
            print(id)
        return
    at = moment(arguments.at) if arguments.at else None
    if at and not arguments.bucket:
        raise ValueError("only DynamoDB itself knows how a table was at an earlier time: AT needs a BUCKET")
    names = tables_of(arguments.tables)
    if arguments.of and (arguments.deed == "import" or len(names) > 1):
        raise ValueError("OF is a table to read, and stands for one of the stack's")
    for name in names:
        table = Table(arguments.stack, name, arguments.of)
        if arguments.deed == "export":
            export(table, folder, arguments.segments, arguments.bucket, at)
        else:
            load(table, folder)


def main():
    parser = argparse.ArgumentParser(description="Takes tables out into files, and brings them back")
    parser.add_argument("deed", choices=["export", "import", "orders"])
    parser.add_argument("--stack", default="", help="name of the CloudFormation stack")
    parser.add_argument("--folder", required=True, help="where the export lies")
    parser.add_argument("--tables", default="events", help=f"which of {','.join(TABLES)}, with commas between")
    parser.add_argument("--segments", type=int, choices=range(1, 65), metavar="1..64", default=4, help="how many parts of a table are read at the same time")
    parser.add_argument("--bucket", default="", help="an S3 bucket that DynamoDB exports to; the table is scanned without")
    parser.add_argument("--at", default="", help="the time that DynamoDB exports the table as of")
    parser.add_argument("--of", default="", help="the DynamoDB name of a table to export in place of the stack's own, such as one that AWS has restored")
    parser.add_argument("--lacking", default="", help="another export: of the orders, only those of which that lacks something")
    arguments = parser.parse_args()
    try:
        with contextlib.suppress(BrokenPipeError):
            run(arguments)
    except (Refused, ValueError, OSError, ClientError, BotoCoreError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
