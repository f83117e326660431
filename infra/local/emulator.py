"""Starts the AWS emulator in this process, with what it has no setting for. stack.py runs it among the emulator's libraries.

The argument is the folder of the stack's state. It tells one stack's emulator from another's, and is where failing.py, meter.py and spans.py write.
"""
import functools
import socketserver
import sys
from pathlib import Path

import failing
import meter
import spans
from ministack import app
from ministack.services import cognito, dynamodb, lambda_svc

# The emulator hands an event to a function in two small packets, the head and the body. With Nagle's algorithm the second
# waits until the function's side has acknowledged the first, which that side delays: 40 ms in every call.
socketserver.StreamRequestHandler.disable_nagle_algorithm = True

# The emulator answers GET /health itself, also where the host is that of an API. It has other paths for that.
app._HEALTH_PATHS = ("/_ministack/health",)

# A query tries every item of its partition, and parses the same condition anew for each of them: after an hour of orders, a third of
# a second, until all that ask have waited too long. What a text says is read once now, and a query takes a quarter of that.
for parse in ("_tokenize", "_condition_syntax_error"):
    setattr(dynamodb, parse, functools.lru_cache(maxsize=4096)(getattr(dynamodb, parse)))

customize = cognito._apply_pretoken_trigger


def customize_access_tokens_too(*, claims: dict, token_type: str, **of_user) -> dict:
    """What the function that a user pool asks before it makes tokens says of groups, Cognito puts into access tokens as well, the
    emulator into ID tokens only."""
    customized = customize(claims=dict(claims), token_type="id", **of_user)
    return customized if token_type == "id" else claims | {name: customized[name] for name in ["cognito:groups"] if name in customized}


cognito._apply_pretoken_trigger = customize_access_tokens_too

def matches(record: dict, pattern: dict, by_the_emulator=lambda_svc._match_esm_filter) -> bool:
    """Filters of streams see only leaves, as AWS's do: what lies below an attribute that is missing does not exist, and an attribute that has
    something below it is none. The emulator matches nothing in the first case, and takes it for one in the second."""
    seen = {key: value for key, value in record.items() if not (isinstance(value, dict) and isinstance(pattern.get(key), list))}
    below = {key: {} for key, inner in pattern.items() if isinstance(inner, dict)}
    return by_the_emulator(below | seen, pattern)


lambda_svc._match_esm_filter = matches


def for_all_versions(change):
    """What is reserved for a function holds for all its versions, on AWS. The emulator has it for `$LATEST` alone, which nobody calls."""

    def changing(name: str, *given):
        answer = change(name, *given)
        function = lambda_svc._functions.get(name, {"versions": {}})
        for version in function["versions"].values():
            version["concurrency"] = function["concurrency"]
        return answer

    return changing


for change in ("_put_function_concurrency", "_delete_function_concurrency"):
    setattr(lambda_svc, change, for_all_versions(getattr(lambda_svc, change)))

if __name__ == "__main__":
    failing.install(Path(sys.argv[1]))
    meter.install(Path(sys.argv[1]) / "meter.jsonl")
    receiver = spans.receive(Path(sys.argv[1]) / "spans.jsonl")
    del sys.argv[1:]
    app.main()
