"""What operators' scripts share: calling a function of the stack, and showing how far the work is. Needs botocore."""
from __future__ import annotations

import json
import sys
import time

import botocore.session
from botocore.config import Config

# Errors that may be gone at the next try, and how often in a row they are met.
PASSING, TRIES = ["Unavailable", "Contended", "Sandbox.Timedout"], 5


class Refused(Exception):
    def __init__(self, message: str, error_type: str | None):
        super().__init__(message)
        self.error_type = error_type


class Function:
    def __init__(self, name: str, timeout: int):
        """`timeout` is in seconds, and longer than the function's own."""
        # What was not answered may be asked for again.
        config = Config(read_timeout=timeout, retries={"max_attempts": 5})
        self.functions = botocore.session.get_session().create_client("lambda", config=config)
        self.name = name

    def ask(self, payload: dict) -> dict:
        answer = self.functions.invoke(FunctionName=self.name, Qualifier="live", Payload=json.dumps(payload).encode())
        body = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise Refused(body.get("errorMessage", str(body)), body.get("errorType"))
        return body

    def ask_again(self, payload: dict) -> dict:
        """What is not there for a moment is there again."""
        for _ in range(TRIES - 1):
            try:
                return self.ask(payload)
            except Refused as error:
                if error.error_type not in PASSING:
                    raise
                time.sleep(2)
        return self.ask(payload)


def show(line: str, end="\n"):
    """One line that is written over in a terminal, and a line of its own elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end=end, flush=True)
    else:
        print(line, flush=True)


shown_at = 0.0


def show_now_and_then(line: str):
    """A line that others follow: in a log, one of them in five seconds is enough."""
    global shown_at
    if sys.stdout.isatty() or time.monotonic() - shown_at > 5:
        shown_at = time.monotonic()
        show(line, end="")
