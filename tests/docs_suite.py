"""Holds the pages for readers to what there is, and runs their commands.

A block fenced as `sh` is run: page by page, from its first block to its last, in one shell on the running local stack. A second word after
`sh` says why it is not: one of REASONS, or the file of the test that runs it instead. A block of `json` or `text` right behind one that is
run is its answer, which may be shortened: `compare` says what of it has to come.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/docs_suite.py
"""
from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra" / "local"))

import stack  # noqa: E402

REASONS = {
    "aws": "it needs an account, or the AWS CLI",
    "stack": "it starts, changes or ends what all others run on, or wants what that starts",
    "build": "it compiles for minutes; what comes of it is there when pages are run",
}
# What has been, and why, is not held to what is.
HISTORY = ["CHANGELOG.md", "docs/adr/*.md"]
FOLDERS = ["api", "clients", "docs", "events", "functions", "infra", "shared", "tests"]
README_LINES = 120
MINUTE = 60


class Block(NamedTuple):
    line: int
    language: str
    second: str
    text: str
    answers: bool = True  # it stands right behind the block before it


class Page(NamedTuple):
    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        found, end = [], 0
        for match in re.finditer(r"^( *)```(\w*)(?: (\S+))?\n(.*?)^\1```$", self.text, re.M | re.S):
            line = self.text.count("\n", 0, match.start()) + 1
            found.append(Block(line, match[2], match[3] or "", textwrap.dedent(match[4]), not self.text[end:match.start()].strip()))
            end = match.end()
        return found

    @property
    def prose(self) -> str:
        return re.sub(r"^( *)```.*?^\1```$", "", self.text, flags=re.M | re.S)

    @property
    def commands(self) -> list[Block]:
        return [block for block in self.blocks if block.language == "sh"]

    @property
    def code(self) -> list[str]:
        """All that is set as code, in lines of its own or between words."""
        inline = [" ".join(code.split()) for _, code in re.findall(r"(`+)(.+?)\1", self.prose, re.S)]
        return [block.text for block in self.blocks] + inline

    @property
    def anchors(self) -> set[str]:
        headings = re.findall(r"^#+ (.+)$", self.prose, re.M)
        plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
        return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}

    def answers(self) -> list[tuple[Block, Block | None]]:
        """What is run, each with its answer as the page shows it, if it does."""
        following = [*self.blocks[1:], None]
        return [(block, after if after and after.answers and after.language in ("json", "text") else None)
                for block, after in zip(self.blocks, following) if block.language == "sh" and not block.second]


def page(path: Path) -> Page:
    return Page(str(path.relative_to(ROOT)), path.read_text())


def pages() -> list[Page]:
    paths = [path for pattern in ("*.md", "docs/**/*.md", "api/**/*.md", "clients/*/*.md") for path in ROOT.glob(pattern)]
    return [page(path) for path in sorted(paths)]


def for_today() -> list[Page]:
    history = {path for pattern in HISTORY for path in ROOT.glob(pattern)}
    return [page for page in pages() if ROOT / page.name not in history]


# ---------------------------------------------------------------- what pages name


@functools.cache
def targets() -> dict[str, set[str]]:
    """What `make` makes, each with the variables that it takes: those of its recipe, and those that its help names."""
    text = (ROOT / "Makefile").read_text()
    lists = {name: value for name, value in re.findall(r"^([A-Z]+) = (.*)$", text, re.M)}
    found = {}
    for target, told, recipe in re.findall(r"^([a-z-]+): ## (.*)\n((?:\t.*\n)+)", text, re.M):
        for name, value in lists.items():
            recipe = recipe.replace(f"$({name})", value)
        found[target] = set(re.findall(r"\b([A-Z_]+)=", told)) | set(re.findall(r"\$\((?:or |if |filter-out local,\$\()?([A-Z_]+)", recipe))
    return found


def wrong_makes(page: Page) -> list[str]:
    found = []
    for code in page.code:
        for target, given in re.findall(r"(?<![\w/.-])make (?:-s )?([a-z][a-z-]*)((?: +[A-Z_]+=(?:'[^']*'|\"[^\"]*\"|[^\s;|)]*))*)", code):
            if target not in targets():
                found.append(f"{page.name}: there is no `make {target}`")
            names = set(re.findall(r" ([A-Z_]+)=", given)) - targets().get(target, set()) - {"PYTHON"}
            found += [f"{page.name}: `make {target}` takes no {name}" for name in names]
    return found


@functools.cache
def words_of_orderctl() -> tuple[set[str], set[str]]:
    """Its commands, and its options."""
    source, _ = (ROOT / "clients/orderctl/src/arguments.rs").read_text().split("#[cfg(test)]")
    commands = re.search(r"enum Command \{\n(.*?)^\}", source, re.M | re.S)[1]
    options = set(re.findall(r'long = "([a-z-]+)"', source)) | {name.replace("_", "-") for name in re.findall(r"^ +(?:pub\(crate\) )?(\w+):", source, re.M)}
    return {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in re.findall(r"^    (\w+)(?:\(| \{|,)", commands, re.M)}, options | {"help", "version"}


def wrong_orderctls(page: Page) -> list[str]:
    commands, options = words_of_orderctl()
    found = []
    for code in page.code:
        for call in re.findall(r"(?<![\w/.\"-])orderctl ([^|;#)\n]*)", code):
            called = call.split()[0] if call.split() else ""
            if re.fullmatch(r"[a-z][a-z-]*", called) and called not in commands:
                found.append(f"{page.name}: there is no `orderctl {called}`")
            given = re.findall(r"(?<!\S)--([a-z-]+)", re.sub(r"'[^']*'|\"[^\"]*\"", "", call))
            found += [f"{page.name}: orderctl has no --{name}" for name in given if name not in options]
    return found


def wrong_paths(page: Page) -> list[str]:
    named = {path for code in page.code for path in re.findall(rf"(?<![\w./$-])(?:{'|'.join(FOLDERS)})/[\w./*-]+[\w*]", code)}
    return [f"{page.name}: there is no {path}" for path in named if not any(ROOT.glob(path))]


def wrong_links(of: Page) -> list[str]:
    found = []
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", of.prose):
        if link.startswith("http"):
            continue
        target = (ROOT / of.name).parent / link if link else ROOT / of.name
        if not target.exists():
            found.append(f"{of.name}: {link} leads nowhere")
        elif anchor and anchor not in page(target.resolve()).anchors:
            found.append(f"{of.name}: {link} has no heading for #{anchor}")
    return found


def unrun(page: Page) -> list[str]:
    """Blocks that nobody runs, and nobody says why."""
    found = []
    for block in page.commands:
        where = f"{page.name}:{block.line}"
        if block.second.startswith("tests/"):
            test = ROOT / block.second
            text = test.read_text() if test.is_file() else ""
            called = re.findall(r"make (?:-s )?([a-z-]+)", block.text)
            found += [f"{where}: {block.second} does not run `make {target}`" for target in called if f'"{target}"' not in text]
            found += [f"{where}: {block.second} is to run this, and runs nothing of it" for _ in [0] if not (text and called)]
        elif block.second and block.second not in REASONS:
            found.append(f"{where}: {block.second} is no reason not to run this")
        syntax = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, timeout=MINUTE)
        found += [f"{where}: {syntax.stderr}" for _ in [0] if syntax.returncode]
    return found


# ---------------------------------------------------------------- what is answered


WORD = re.compile(r"[a-z][a-z_:-]*")


def compare(shown: Block, printed: str) -> list[str]:
    """What of an answer on a page did not come.

    Of JSON, every member has to be there, with a value of the same kind; words such as a status are the same. Of text, every line has to
    come in this order. Ids, numbers, times and prices are others each time, and `...` stands for whatever is left out.
    """
    return compare_json(shown.text, printed) if shown.language == "json" else compare_text(shown.text, printed)


def compare_json(shown: str, printed: str) -> list[str]:
    try:
        wanted, got = documents(shown), documents(printed)
    except json.JSONDecodeError as error:
        return [f"no JSON: {error}"]
    if len(wanted) != len(got):
        return [f"{len(got)} documents came, not {len(wanted)}"]
    return [f"{path} is not there, or is something else" for one, other in zip(wanted, got) for path in missing(one, other, "")]


def documents(text: str) -> list:
    found, decoder = [], json.JSONDecoder()
    text = text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


def missing(shown, got, path: str) -> list[str]:
    if isinstance(shown, dict) and isinstance(got, dict):
        return [wrong for name, value in shown.items() for wrong in
                (missing(value, got[name], f"{path}/{name}") if name in got else [f"{path}/{name}"])]
    if isinstance(shown, list) and isinstance(got, list):
        return [f"{path}/{number}" for number, value in enumerate(shown) if all(missing(value, other, path) for other in got)]
    if isinstance(shown, str) and WORD.fullmatch(shown) or isinstance(shown, bool) or shown is None:
        return [] if shown == got else [path]
    return [] if type(shown) is type(got) else [path]


def compare_text(shown: str, printed: str) -> list[str]:
    lines = iter(plain(line) for line in printed.splitlines())
    found = []
    for line in shown.splitlines():
        pattern = re.escape(plain(line)).replace(r"\.\.\.", ".*")
        if line.strip() and not any(re.fullmatch(pattern, came) for came in lines):
            return [f"{line.strip()!r} does not come, or not there"]
    return found


def plain(line: str) -> str:
    """Without what is another each time: ids, numbers, and the width of columns."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b\w*[0-9a-fA-F]{8,}\w*\b", "<id>", line)
    return " ".join(re.sub(r"\d+", "0", line).split())


def paste(page: Page) -> list[str]:
    """Runs a page, and answers what did not come as it says."""
    run = [block for block, _ in page.answers()]
    end = "\x1e"
    script = "\n".join(f"{block.text}\nprintf '{end}'" for block in run).replace(".local/", f"{stack.STATE.relative_to(ROOT)}/")
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERCTL_")}
        environment |= {"PATH": f"{stack.target()}{os.pathsep}{environment['PATH']}", "XDG_CONFIG_HOME": home}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=10 * MINUTE)
    printed = done.stdout.split(end)
    if done.returncode:
        failed = run[min(len(printed), len(run)) - 1]
        return [f"{page.name}:{failed.line} ends with {done.returncode}: {printed[-1]}{done.stderr[-2_000:]}"]
    return [f"{page.name}:{shown.line} {wrong}. It was:\n{came}" for (_, shown), came in zip(page.answers(), printed) if shown
            for wrong in compare(shown, came)]


# ---------------------------------------------------------------- the pages


class Pages(unittest.TestCase):
    def assert_none(self, check, of: list[Page]):
        for each in of:
            with self.subTest(each.name):
                self.assertEqual(check(each), [])

    def test_every_command_is_run_or_says_why_not(self):
        self.assert_none(unrun, for_today())
        self.assertGreaterEqual(sum(len(page.answers()) for page in for_today()), 30)

    def test_what_is_made_can_be_made(self):
        self.assert_none(wrong_makes, for_today())

    def test_what_is_asked_of_orderctl_it_knows(self):
        self.assert_none(wrong_orderctls, for_today())

    def test_every_path_is_there(self):
        self.assert_none(wrong_paths, for_today())

    def test_every_link_leads_somewhere(self):
        self.assert_none(wrong_links, pages())

    def test_every_block_is_read(self):
        for each in pages():
            self.assertEqual(2 * len(each.blocks), len(re.findall(r"^ *```", each.text, re.M)), each.name)

    def test_the_readme_is_short_and_leads_to_every_page(self):
        readme = page(ROOT / "README.md")
        self.assertLessEqual(len(readme.text.splitlines()), README_LINES)
        led_to = {link for link, _ in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", readme.prose)}
        self.assertEqual([path.name for path in ROOT.glob("docs/*.md") if f"docs/{path.name}" not in led_to], [])

    def test_the_layout_names_every_folder(self):
        _, layout = page(ROOT / "README.md").text.split("## Layout\n")
        rows = re.findall(r"^\| (`.+?) \|", layout, re.M)
        self.assertEqual(sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)), FOLDERS)
        architecture = page(ROOT / "ARCHITECTURE.md").text
        for parent in ("shared", "clients"):
            for path in (ROOT / parent).iterdir():
                if path.is_dir():
                    self.assertIn(f"`{parent}/{path.name}`", architecture)


class Makes(unittest.TestCase):
    def test_what_somebody_pastes_is_no_part_of_a_command(self):
        pasted = """it's "so"; `echo run` | $$HOME & \\"""
        for call, shown in (
            (["republish", f"CUSTOMER={pasted}"], "--customer={} --orders="),
            (["doubt", f"ORDERS={pasted}"], "--orders={} --pace="),
            (["trace", f"ORDER={pasted}"], "trace {}"),
            (["compare-books", f"ORDER={pasted}"], "86400 {}"),
            (["logs", f"CONTAINING={pasted}"], "--containing={}"),
            (["logs", f"ORDER={pasted}", "CONTAINING=other"], "--containing={}"),
            (["config", f"SET={pasted}"], "--set={}"),
            (["export", f"FOLDER={pasted}", f"BUCKET={pasted}"], "--folder={} --tables="),
            (["orders", f"FOLDER={pasted}", f"LACKING={pasted}"], "--folder={0} --lacking={0}"),
            (["replay", f"FROM={pasted}", f"AGAINST={pasted}"], "replay {0} --against={0}"),
            (["anonymise", f"FROM={pasted}", f"TO={pasted}"], "anonymise {0} {0}"),
            (["deploy", "STAGE=dev", f"STAFF_EMAIL={pasted}"], "--staff={}"),
            (["token", "STAGE=dev", f"WHO={pasted}"], "token dev {}"),
        ):
            with self.subTest(call[0]):
                run = subprocess.run(["make", "--silent", *call, "PYTHON=printf '%s '"], cwd=ROOT, capture_output=True, text=True, timeout=60)
                self.assertIn(shown.format(pasted.replace("$$", "$")), run.stdout, run.stderr)
        # What is a part of a command is of the few words that one can choose from, and in no quotes.
        self.assertEqual(re.findall(r"""^\t.*["']\$\(.*""", (ROOT / "Makefile").read_text(), re.M), [])


class Spoiled(unittest.TestCase):
    """Each check is shown what it is to find."""

    def of(self, check, text: str) -> str:
        return " ".join(check(Page("docs/spoiled.md", text)))

    def test_commands(self):
        self.assertEqual(self.of(unrun, "```sh\nmake demo\n```\n```sh aws\nsam deploy\n```\n"), "")
        self.assertIn("docs/spoiled.md:1: later is no reason", self.of(unrun, "```sh later\nmake demo\n```\n"))
        self.assertIn("syntax error", self.of(unrun, "```sh\nmake trace ORDER=<order id>\n```\n"))
        self.assertIn("does not run `make demo`", self.of(unrun, "```sh tests/system/rebuild.rs\nmake demo\n```\n"))
        self.assertIn("runs nothing of it", self.of(unrun, "```sh tests/no_suite.py\ntrue\n```\n"))

    def test_names(self):
        self.assertIn("no `make nothing`", self.of(wrong_makes, "`make nothing`"))
        self.assertIn("`make up` takes no STAGE", self.of(wrong_makes, "```text\n$ make up STAGE=dev\n```\n"))
        self.assertEqual(self.of(wrong_makes, "`make republish ORDER=1 PACE=2 STAGE=dev`, `make reconcile PATIENCE=60`, and make sure"), "")
        self.assertIn("no `orderctl mend`", self.of(wrong_orderctls, "`orderctl mend`"))
        self.assertIn("no `orderctl dead-orders`", self.of(wrong_orderctls, "`orderctl dead-orders list`"))
        self.assertIn("no --force", self.of(wrong_orderctls, "`orderctl skip 7 --reason '--x' --force`"))
        self.assertIn("no infra/nothing.py", self.of(wrong_paths, "`python3 infra/nothing.py`"))
        self.assertEqual(self.of(wrong_paths, '`curl "$API_URL/api/v1/orders"`, `shared/domain/src/order/*.rs`, `functions/<deed>`'), "")
        self.assertIn("nowhere.md leads nowhere", self.of(wrong_links, "[x](nowhere.md)"))
        self.assertIn("no heading for #nothing", self.of(wrong_links, "[x](runbook.md#nothing)"))
        self.assertEqual(self.of(wrong_links, "[x](runbook.md#ordersstuck) [y](https://example.com/#z)"), "")

    def test_answers(self):
        def of(language: str, shown: str, printed: str) -> str:
            return " ".join(compare(Block(1, language, "", shown), printed))

        order = '{"id": "7e10", "status": "confirmed", "lines": [{"n": 1, "of": "tea"}, {"n": 2}], "payment": null}'
        self.assertEqual(of("json", '{"id": "...", "status": "confirmed", "lines": [{"n": 7}], "payment": null}', order), "")
        for shown in ('{"status": "rejected"}', '{"id": 7}', '{"lines": [{"m": 1}]}', '{"payment": {}}', '{"total": 1}'):
            self.assertNotEqual(of("json", shown, order), "", shown)
        self.assertIn("0 documents came", of("json", "{}", "\n"))
        self.assertIn("no JSON", of("json", "{}", "error: it does not run"))

        told = "order cfa81d2d-5de9-52b0-a317-05bf9698d527\n12:03 UTC  service  19.99 CNY were paid.\n12:04 UTC  service  Done.\n"
        self.assertEqual(of("text", "order 00000000-5de9-52b0-a317-05bf9698d527\n...\n9:00 UTC service Done.", told), "")
        self.assertEqual(of("text", "9:00 UTC service 5.00 CNY ...", told), "")
        self.assertIn("'5:00 UTC staff Done.' does not come", of("text", "5:00 UTC staff Done.", told))
        self.assertIn("does not come", of("text", "9:00 UTC service Done.\n9:00 UTC service 5.00 CNY were paid.", told))


@unittest.skipUnless(stack.running(), "no local stack runs: `make up` starts one")
class Pasted(unittest.TestCase):
    def test_commands_work_and_answer_as_pages_say(self):
        for each in for_today():
            with self.subTest(each.name):
                self.assertEqual(paste(each), [])


if __name__ == "__main__":
    unittest.main()
