"""Holds the workflows of .github to what a pipeline that may deploy has to be: no key, no action that can change, no right too many, and
nothing called that is not there.

Each check is shown what it is to find, too. zizmor (infra/local/zizmor.txt) looks for what is wrong with any workflow.
Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/workflows_suite.py
"""
from __future__ import annotations

import json
import re
import unittest
from typing import NamedTuple

import docs_suite
import tomlkit
import yaml
from docs_suite import ROOT

FOLDER = ROOT / ".github" / "workflows"
LOGIN = "aws-actions/configure-aws-credentials"
ROLE = "${{ vars.AWS_ROLE_ARN }}"
# All that any job may do: read the repository, and ask GitHub for a token that says which environment it runs in.
RIGHTS = {"contents": "read", "id-token": "write"}
# What looks like a key or names an account. A workflow has neither: roles and regions are variables of an environment.
SECRET = r"\bsecrets\b|\bAKIA\w+|\barn:aws|\b\d{12}\b|aws-secret-access-key|AWS_SECRET"


class Workflow(NamedTuple):
    name: str
    text: str

    @property
    def document(self) -> dict:
        return yaml.safe_load(self.text)

    @property
    def jobs(self) -> dict[str, dict]:
        return self.document["jobs"]

    @property
    def steps(self) -> list[dict]:
        return [step for job in self.jobs.values() for step in job.get("steps", [])]

    @property
    def begun_by(self) -> dict:
        """YAML takes the word `on` for true."""
        return self.document[True]

    def inputs(self) -> dict[str, dict]:
        return {name: each for event in ("workflow_call", "workflow_dispatch")
                for name, each in ((self.begun_by.get(event) or {}).get("inputs") or {}).items()}


def workflows() -> dict[str, Workflow]:
    return {path.name: Workflow(path.name, path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}


def called(job: dict) -> Workflow | None:
    """The workflow of this repository that a job is."""
    found = re.fullmatch(r"\./\.github/workflows/([\w-]+\.yml)", job.get("uses", ""))
    return workflows().get(found[1]) if found else None


def signs_in(job: dict) -> bool:
    other = called(job)
    return any(step.get("uses", "").startswith(LOGIN) for step in job.get("steps", [])) or bool(other) and any(map(signs_in, other.jobs.values()))


# ---------------------------------------------------------------- checks


def unpinned(of: Workflow) -> list[str]:
    """An action is a commit, with its version beside it for readers: a tag may be moved to other code."""
    found = []
    for used in re.findall(r"^\s*(?:- )?uses: *(.*)$", of.text, re.M):
        if not re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used) and not called({"uses": used}):
            found.append(f"{of.name}: {used} is no commit with its version, and no workflow that is there")
    return found


def secret(of: Workflow) -> list[str]:
    return [f"{of.name}: {match[0]}" for match in re.finditer(SECRET, of.text)]


def wrong_makes(of: Workflow) -> list[str]:
    """What a step runs goes by what the Makefile makes."""
    return docs_suite.wrong_makes(docs_suite.Page(of.name, "".join(f"```sh\n{step['run']}\n```\n" for step in of.steps if "run" in step)))


def wrong_rights(of: Workflow) -> list[str]:
    found = [f"{of.name}: jobs have rights by default"] if of.document.get("permissions") != {} else []
    for name, job in of.jobs.items():
        given = job.get("permissions")
        wanted = RIGHTS if signs_in(job) else {"contents": "read"}
        if given != wanted:
            found.append(f"{of.name}: {name} has the rights {given}, and needs {wanted}")
    return found


def wrong_sign_ins(of: Workflow) -> list[str]:
    """Whoever signs in takes the role of an environment, because that is what the role trusts, and with nothing that is kept."""
    found = []
    for name, job in of.jobs.items():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith(LOGIN):
                found += [f"{of.name}: {name} signs in outside of an environment" for _ in [0] if not job.get("environment")]
                found += [f"{of.name}: {name} takes another role than {ROLE}" for _ in [0] if step.get("with", {}).get("role-to-assume") != ROLE]
                found += [f"{of.name}: {name} signs in with {key}" for key in step.get("with", {}) if "key" in key or key == "aws-session-token"]
    return found


def injected(of: Workflow) -> list[str]:
    """What somebody types is a variable of the shell, never a part of the script."""
    return [f"{of.name}: {step['run']}" for step in of.steps if "${{" in step.get("run", "")]


def endless(of: Workflow) -> list[str]:
    return [f"{of.name}: {name} has no limit of time" for name, job in of.jobs.items() if "steps" in job and not job.get("timeout-minutes")]


def wrong_calls(of: Workflow) -> list[str]:
    found = [f"{of.name}: there is no input {name}" for name in set(re.findall(r"\binputs\.(\w+)", of.text)) - of.inputs().keys()]
    for name, job in of.jobs.items():
        needs = job.get("needs", [])
        found += [f"{of.name}: {name} needs {other}, which is not there" for other in ([needs] if isinstance(needs, str) else needs) if other not in of.jobs]
        if other := called(job):
            given, known = job.get("with", {}).keys(), other.inputs()
            found += [f"{of.name}: {other.name} takes no {one}" for one in given - known.keys()]
            found += [f"{of.name}: {other.name} wants {one}" for one in known.keys() - given if known[one].get("required")]
    return found


CHECKS = [unpinned, secret, wrong_makes, wrong_rights, wrong_sign_ins, injected, endless, wrong_calls]


class Workflows(unittest.TestCase):
    def test_nothing_is_wrong_with_any(self):
        self.assertTrue(workflows())
        for each in workflows().values():
            for check in CHECKS:
                with self.subTest(each.name, check=check.__name__):
                    self.assertEqual(check(each), [])

    def test_an_action_is_the_same_everywhere(self):
        pins = {}
        for name, pin in re.findall(r"uses: *([\w-]+/[\w./-]+)@(.*)$", "".join(each.text for each in workflows().values()), re.M):
            self.assertEqual(pins.setdefault(name, pin), pin, name)

    def test_a_version_goes_to_prod_only_after_it_was_tested_and_tried_in_dev(self):
        jobs = workflows()["deploy.yml"].jobs
        self.assertEqual([(name, job.get("needs"), job.get("with", {}).get("stage")) for name, job in jobs.items()],
                         [("test", None, None), ("dev", "test", "dev"), ("prod", "dev", "prod")])
        self.assertEqual(jobs["dev"]["with"] | {"stage": "prod"}, jobs["prod"]["with"])
        (stage,) = workflows()["stage.yml"].jobs.values()
        self.assertEqual(stage["environment"], "${{ inputs.stage }}")
        runs = [step["run"] for step in stage["steps"] if "run" in step]
        self.assertEqual([re.sub(r" STAGE=.*", "", run) for run in runs[1:]], ["make deploy", "make rebuild VIEW=orders", "make smoke"])

    def test_only_what_was_merged_is_deployed(self):
        (stage,) = workflows()["stage.yml"].jobs.values()
        checkout, version, login = stage["steps"][:3]
        self.assertEqual((checkout["with"]["ref"], checkout["with"]["fetch-depth"]), ("main", 0))
        self.assertIn('git merge-base --is-ancestor "$commit" HEAD', version["run"])
        self.assertTrue(login["uses"].startswith(LOGIN), "no rights before the version is known")
        self.assertEqual(workflows()["deploy.yml"].begun_by, {"push": {"branches": ["main"]}})

    def test_the_way_back_is_open_while_alarms_ring_and_what_is_merged_goes_by_them(self):
        """CodeDeploy begins no canary then, and what is to be gone back from is what rings."""
        given = {(name, job): each.jobs[job]["with"].get("at_once", False) for name, each in workflows().items() for job in each.jobs if "stage.yml" in each.jobs[job].get("uses", "")}
        self.assertEqual(given, {("deploy.yml", "dev"): False, ("deploy.yml", "prod"): False, ("roll-back.yml", "roll-back"): True})
        (stage,) = workflows()["stage.yml"].jobs.values()
        self.assertEqual(stage["env"]["AT_ONCE"], "${{ inputs.at_once && '1' || '' }}")
        self.assertIn('make deploy STAGE="$STAGE" AT_ONCE="$AT_ONCE"', [step.get("run") for step in stage["steps"]])

    def test_stages_are_those_that_can_be_deployed(self):
        stages = set(tomlkit.parse((ROOT / "samconfig.toml").read_text())) - {"version", "local"}
        self.assertEqual(set(workflows()["roll-back.yml"].inputs()["stage"]["options"]), stages)

    def test_the_page_trusts_an_environment_of_one_repository_and_no_more(self):
        page = docs_suite.page(ROOT / "docs/deploy.md")
        policies = [json.loads(block.text) for block in page.blocks if block.language == "json" and "AssumeRoleWithWebIdentity" in block.text]
        self.assertEqual(len(policies), 1)
        (statement,) = policies[0]["Statement"]
        self.assertEqual(list(statement["Condition"]), ["StringEquals"], "a pattern may fit what nobody has thought of")
        host = "token.actions.githubusercontent.com"
        self.assertEqual(statement["Condition"]["StringEquals"], {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": "repo:OWNER/REPOSITORY:environment:prod"})
        self.assertTrue(statement["Principal"]["Federated"].endswith(f":oidc-provider/{host}"))
        seconds = re.search(r"role-duration-seconds: (\d+)", workflows()["stage.yml"].text)[1]
        self.assertIn(f"--max-session-duration {seconds}", page.text)
        for name in re.findall(r"\bvars\.(\w+)", "".join(each.text for each in workflows().values())):
            self.assertIn(f"`{name}`", page.text)


class Spoiled(unittest.TestCase):
    def of(self, check, was: str, becomes: str, name: str = "stage.yml") -> str:
        text = workflows()[name].text
        self.assertIn(was, text)
        return " ".join(check(Workflow(name, text.replace(was, becomes))))

    def test_actions(self):
        self.assertIn("@v7 is no commit", self.of(unpinned, "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"))
        self.assertIn("is no commit with its version", self.of(unpinned, " # v7.0.1", ""))
        self.assertIn("no workflow that is there", self.of(unpinned, "workflows/stage.yml", "workflows/other.yml", "deploy.yml"))

    def test_secrets(self):
        for text in ("${{ secrets.KEY }}", "arn:aws:iam::1:role/x", "AKIAIOSFODNN7EXAMPLE", "123456789012"):
            self.assertNotEqual(self.of(secret, "${{ vars.AWS_ROLE_ARN }}", text), "", text)
        self.assertIn("secrets", self.of(secret, "uses: ./.github/workflows/test.yml", "secrets: inherit", "deploy.yml"))

    def test_commands(self):
        self.assertIn("no `make ship`", self.of(wrong_makes, "make deploy", "make ship"))
        self.assertIn("takes no PLACE", self.of(wrong_makes, "make smoke STAGE", "make smoke PLACE"))
        self.assertIn("make smoke STAGE=${{ inputs.stage }}", self.of(injected, 'STAGE="$STAGE"', "STAGE=${{ inputs.stage }}"))

    def test_rights(self):
        self.assertIn("by default", self.of(wrong_rights, "\npermissions: {}\n", "\n"))
        self.assertIn("stage has the rights", self.of(wrong_rights, "      id-token: write\n", ""))
        self.assertIn("dev has the rights", self.of(wrong_rights, "contents: read\n      id-token", "contents: write\n      id-token", "deploy.yml"))
        self.assertIn("test has the rights", self.of(wrong_rights, "contents: read", "id-token: write", "test.yml"))
        self.assertIn("outside of an environment", self.of(wrong_sign_ins, "    environment: ${{ inputs.stage }}\n", ""))
        self.assertIn("another role", self.of(wrong_sign_ins, "${{ vars.AWS_ROLE_ARN }}", "${{ inputs.role }}"))
        self.assertIn("aws-access-key-id", self.of(wrong_sign_ins, "mask-aws-account-id: true", "aws-access-key-id: x"))

    def test_calls(self):
        self.assertIn("has no limit", self.of(endless, "    timeout-minutes: 120\n", ""))
        self.assertIn("no input verson", self.of(wrong_calls, "inputs.version", "inputs.verson"))
        self.assertIn("needs test, which", self.of(wrong_calls, "  test:\n", "  tests:\n", "deploy.yml"))
        self.assertIn("takes no stge", self.of(wrong_calls, "stage: dev", "stge: dev", "deploy.yml"))
        self.assertIn("wants stage", self.of(wrong_calls, "stage: dev", "rebuild: true", "deploy.yml"))


if __name__ == "__main__":
    unittest.main()
