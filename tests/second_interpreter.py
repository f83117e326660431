"""Runs both state machines of infra/fulfilment.asl.json on a second interpreter, with tasks that fail as scripted, and holds what
they do against the tables below: which task is called how often and with what, how long it is waited for, the pauses, and the end.

The local stack's emulator is the first interpreter. This one is LocalStack's, as moto ships it, with another JSONata
engine (infra/local/second-interpreter.txt). It needs no stack, no function and no network.
"""
from __future__ import annotations

import itertools
import json
import logging
import math
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jlens
import yaml
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.component.common.retry import jitter_strategy_decl, retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_sfn
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.evaluation_details import AWSExecutionDetails
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext
from moto.stepfunctions.parser.asl.jsonata import jsonata
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

# ---------------------------------------------------------------- what must happen

FORWARD = ["validate-order", "reserve-inventory", "process-payment", "create-shipment", "send-confirmation"]
UNDO = ["cancel-shipment", "refund-payment", "release-inventory", "close-order"]

# What the input says, the tasks that it leads through, and the state that ends the execution.
WAYS = [
    ({}, FORWARD, "OrderConfirmed"),
    ({"undo": True}, UNDO, "OrderUndone"),
    ({"refund": True}, ["issue-refund"], "RefundIssued"),
]
# Errors that are an answer, so that the task is not tried again: whose, which, the tasks that follow, and the end.
ANSWERS = [
    (FORWARD, ["OrderInvalid", "OutOfStock", "PaymentDeclined", "ShipmentRefused"], UNDO, "OrderUndone"),
    (FORWARD, ["OrderCancelled"], [], "LeftToCancellation"),
    (UNDO, ["OrderDelivered"], [], "OrderDelivered"),
]
# After any other error the task is tried again this often. States.Timeout is a task that never answers.
TECHNICAL = ["Unavailable", "States.Timeout", "Sandbox.Timedout", "Runtime.ExitError"]
# What a person has to decide is given up then; the first of these is not even tried again.
REFUSED = "RequestRefused"
FOR_A_PERSON = [REFUSED, "StillHeld", "OrderStands", "TooEarly", "UnknownOrder", "BrokenHistory"]
# What may pass begins again after a pause, as often as there are pauses: on a laptop, and on AWS.
PAUSES_HERE, PAUSES_ON_AWS = ((2, 4), (30, 60, 120, 240, 480, 900, 900, 900))
AN_OUTAGE = 60  # seconds, during which an order comes every tenth of one; and nobody is called
NOT_RUN = ["Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException"]
LONGEST_PAUSE = 100
TIMEOUT = {"process-payment": 60, "refund-payment": 60, "issue-refund": 60, "any other": 30}



class Machine(NamedTuple):
    """What differs between the two."""
    name: str  # in the template
    retries: dict
    not_run_retries: int
    pauses: tuple
    hands_over: bool = False


STANDARD = Machine("Fulfilment", {"validate-order": 2, "flag-order": 20, "any other": 4}, 10, PAUSES_HERE)
STANDARD_ON_AWS = STANDARD._replace(pauses=PAUSES_ON_AWS)
EXPRESS = Machine("FulfilmentExpress", {"any other": 2}, 2, PAUSES_HERE, hands_over=True)  # a second, then two

FLAG, GIVEN_UP, NOT_NEEDED = "flag-order", "NeedsAttention", "NobodyIsNeeded"
HAND_OVER, HANDED_OVER = "hand-over", "HandedOver"  # not a function, but tried like one
THERE_ALREADY = "ExecutionAlreadyExists"
NO_ROOM = "ExecutionLimitExceeded"
# What an Express execution fails with that could not be handed over, by its last state.
ERRORS = {"HandOver": f"StepFunctions.{NO_ROOM}Exception", "PauseBeforeGoingOn": "States.QueryEvaluationError"}
ERROR = "StepGivenUp"
CAUSE = "The step {step} was given up after all its tries ({reason}); the order waits for a person."

# ---------------------------------------------------------------- the cells

ROOT = Path(__file__).resolve().parents[1]
ORDER = {"order_id": "order-1", "correlation_id": "request-1"}
NAME = "order-1-undo"  # of every execution
FOR_EVER = 99


class Run(NamedTuple):
    """A task, and how often it is tried again: one number for each retrier that is used, in this order."""
    task: str
    retries: tuple = ()
    paused: int = 0  # how many pauses came before it


class Cell(NamedTuple):
    name: str
    input: dict
    script: dict  # the errors that each task gives before it succeeds
    runs: list
    end: str
    failed: dict | None = None
    machine: Machine = STANDARD
    flagged: bool = True


class Way(NamedTuple):
    name: str
    input: dict
    script: dict
    done: list
    tasks: list
    end: str
    first: list  # the tasks that the input leads through, which is where everything begins again
    machine: Machine

    def to_the_end(self):
        runs = [*self.done, *map(Run, self.tasks)]
        return Cell(f"{self.name} and ends in {self.end}", self.input, self.script, runs, self.end, machine=self.machine)

    def goes_on(self, place, errors, *retries):
        task = self.tasks[place]
        runs = [*self.done, *map(Run, self.tasks)]
        runs[len(self.done) + place] = Run(task, retries)
        return Cell(f"{self.name}, where {task} succeeds after {listed(errors)}", self.input, self.script | {task: errors}, runs, self.end,
                    machine=self.machine)

    def goes_on_after_a_pause(self, place, error):
        """Once more from the top: what the first of its tasks have done, they answer at once."""
        task, most = self.tasks[place], retries(self.machine, self.tasks[place], error)
        runs = [*self.done, *map(Run, self.tasks[:place]), Run(task, (most,)), *(Run(task, (), 1) for task in self.tasks)]
        return Cell(f"{self.name}, where {task} succeeds after a pause for {error}", self.input,
                    self.script | {task: [error] * (most + 1)}, runs, self.end, machine=self.machine)

    def is_given_up(self, place, error, flag_errors=(), flag_retries=0, flagged=True):
        task, most = self.tasks[place], retries(self.machine, self.tasks[place], error)
        runs = [*self.done, *map(Run, self.tasks[:place]), Run(task, (most,))]
        for_a_person = error in FOR_A_PERSON
        times = 0 if for_a_person or self.machine.hands_over else len(self.machine.pauses)
        for paused in range(1, times + 1):
            # An order that a step has refused answers so at its first step from then on.
            again = self.tasks if self.tasks == self.first else [self.first[0], *self.tasks]
            runs += [*(Run(earlier, (), paused) for earlier in again[:again.index(task)]), Run(task, (most,), paused)]
        script = self.script | {task: [error] * FOR_EVER, FLAG: flag_errors}
        if self.tasks != self.first:
            first, answer = self.first[0], next(iter(self.script.values()))[0]
            script[first] = [*([] if first in self.script else [None]), *[answer] * FOR_EVER]
        end = GIVEN_UP if flagged else NOT_NEEDED
        if for_a_person or not self.machine.hands_over:
            runs.append(Run(FLAG, (flag_retries,), times))
        if self.machine.hands_over and (not for_a_person or len(flag_errors) > flag_retries):
            runs.append(Run(HAND_OVER))
            end = HANDED_OVER
        return Cell(f"{self.name}, where {task} is given up after {error} and {times} pauses, and {FLAG} gives {listed(flag_errors)}",
                    self.input, script, runs, end, {"step": task, "reason": error}, self.machine, flagged)


def cells(machine):
    usual = TECHNICAL[0]
    for says, tasks, end in WAYS:
        way = Way(f"{machine.name}: an order with {says} starts at {tasks[0]}", ORDER | says, {}, [], tasks, end, tasks, machine)
        yield way.to_the_end()
        for place, task in enumerate(tasks):
            for error in troubles(task):
                most = retries(machine, task, error)
                if most:
                    yield way.goes_on(place, [error], 1)
                    yield way.goes_on(place, [error] * most, most)
                yield way.is_given_up(place, error)
            many, most = machine.not_run_retries, retries(machine, task, usual)
            yield way.goes_on(place, [*[NOT_RUN[0]] * many, *[usual] * most], many, most)
            yield way.is_given_up(place, to_be_flagged(machine), [usual] * FOR_EVER, retries(machine, FLAG, usual))
            yield way.is_given_up(place, to_be_flagged(machine), flagged=False)
            if not machine.hands_over:
                yield way.goes_on_after_a_pause(place, usual)
                yield way._replace(machine=STANDARD_ON_AWS).is_given_up(place, usual)
            for error, (then, end_then) in answers(task).items():
                name, done = f"{machine.name}: {task} answers {error}", [*map(Run, tasks[:place + 1])]
                answered = Way(name, way.input, {task: [error]}, done, then, end_then, tasks, machine)
                yield answered.to_the_end()
                yield from (answered.is_given_up(undo, usual) for undo in range(len(then)))
    says, tasks, end = WAYS[0]
    way = Way(f"{machine.name}: an order", ORDER | says, {}, [], tasks, end, tasks, machine)
    for error in troubles(FLAG):
        yield way.is_given_up(0, to_be_flagged(machine), [error], 1)
        yield way.is_given_up(0, to_be_flagged(machine), [error] * FOR_EVER, retries(machine, FLAG, error))


def hand_overs():
    """What may happen when an Express execution leaves the rest to a Standard one."""
    says, tasks, end = WAYS[0]
    handed = Way("an order", ORDER | says, {}, [], tasks, end, tasks, EXPRESS).is_given_up(0, TECHNICAL[0])
    (given_up, _), begins_again = handed.runs, [Run(HAND_OVER), *(Run(task, (), 1) for task in tasks)]

    def cell(errors, script, runs, end):
        return handed._replace(name=f"an order is handed over, which gives {listed(errors)}", script=script | {HAND_OVER: errors},
                               runs=[given_up, *runs], end=end, failed=handed.failed if end != "OrderConfirmed" else None)

    yield cell([NO_ROOM] * 2, handed.script, [Run(HAND_OVER, (2,))], HANDED_OVER)
    yield cell([NO_ROOM] * FOR_EVER, handed.script, [Run(HAND_OVER, (2,))], "HandOver")
    # A Standard execution that was started before may have ended, so this one goes on by itself, as often as there are pauses.
    yield cell([THERE_ALREADY], {tasks[0]: [TECHNICAL[0]] * 3}, begins_again, end)
    for_ever = [run for paused in range(1, 3) for run in (Run(HAND_OVER), given_up._replace(paused=paused))]
    yield cell([THERE_ALREADY] * FOR_EVER, handed.script, [*for_ever, Run(HAND_OVER)], "PauseBeforeGoingOn")


def to_be_flagged(machine):
    """An error after whose tries the order is flagged."""
    return "StillHeld" if machine.hands_over else TECHNICAL[0]


def listed(errors):
    return ", ".join(f"{errors.count(error)} {error}" for error in dict.fromkeys(errors)) or "no error"


def answers(task):
    return {error: (then, end) for tasks, errors, then, end in ANSWERS if task in tasks for error in errors}


def every_error():
    return [*TECHNICAL, *FOR_A_PERSON, *NOT_RUN, *(error for _, errors, _, _ in ANSWERS for error in errors)]


def troubles(task):
    """What is no answer of this task. The answers of others are among it: from this task they are as unexpected as any error."""
    return [error for error in every_error() if error not in answers(task)]


def retries(machine, task, error):
    if error == REFUSED and task != FLAG:
        return 0
    return machine.not_run_retries if error in NOT_RUN else machine.retries.get(task, machine.retries["any other"])


def expected(cell):
    calls, timeouts, pauses, paused = [], [], [], 0
    for run in cell.runs:
        says = cell.input | ({"pauses": run.paused} if run.paused else {})
        if run.task == FLAG:
            says |= {"failed": cell.failed}
        if run.task == HAND_OVER:
            says = {"StateMachineArn": machine_arn(STANDARD.name), "Name": NAME, "Input": cell.input}
        if run.paused > paused:
            pauses.append(("pause", cell.machine.pauses[paused]))
            paused = run.paused
        tries = 1 + sum(run.retries)
        calls += [(run.task, says)] * tries
        timeouts += [TIMEOUT.get(run.task, TIMEOUT["any other"])] * tries
        pauses += [(0, min(2 ** n, LONGEST_PAUSE)) for count in run.retries for n in range(count)]
    end = {"output": cell.input | ({"pauses": paused} if paused else {})}
    if cell.end == GIVEN_UP:
        end = {"error": ERROR, "cause": CAUSE.format(**cell.failed)}
    elif cell.end == NOT_NEEDED:
        end["output"] |= {"failed": cell.failed, "flagged": False}
    elif cell.end == HANDED_OVER:
        end["output"] |= {"failed": cell.failed}
    elif cell.end in ERRORS:
        end = {"error": ERRORS[cell.end]}
    return {"calls": calls, "timeouts": timeouts, "pauses": pauses, "end": {"state": cell.end, **end}}


# ---------------------------------------------------------------- what does happen


class Stage:
    """Plays the functions and the clock to the interpreter while one cell runs."""

    def __init__(self, cell):
        self.script = {task: iter(errors) for task, errors in cell.script.items()}
        self.cell, self.calls, self.timeouts, self.pauses = cell, [], [], []
        self.silent = threading.Event()
        lambda_eval_utils._invoke_lambda_function = self.invoke
        state_task_service_sfn.boto_client_for = lambda **_: SimpleNamespace(start_execution=self.start_execution)
        execute_state.threading = SimpleNamespace(Event=lambda: Answer(self))
        # No pause is slept. Full jitter draws between two bounds, so they are what is noted.
        jitter_strategy_decl.random = SimpleNamespace(uniform=lambda *bounds: bounds)
        retrier_decl.time = SimpleNamespace(sleep=self.pauses.append)
        WaitFunction._wait_interval = lambda _, env, wait_seconds: self.pauses.append(("pause", self.at_least(wait_seconds)))

    def at_least(self, waited):
        """What the pause is named by in the list, if it is not shorter, and by half of it longer at most."""
        count = sum(pause[0] == "pause" for pause in self.pauses)
        wanted = self.cell.machine.pauses[count] if count < len(self.cell.machine.pauses) else 0
        return wanted if wanted <= waited <= math.ceil(wanted * 1.5) else waited

    def start_execution(self, **asked):
        self.calls.append((HAND_OVER, asked | {"Input": json.loads(asked["Input"])}))
        error = next(self.script.get(HAND_OVER, iter(())), None)
        if error:
            raise ClientError({"Error": {"Code": error, "Message": "as scripted"},
                               "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "1"}}, "StartExecution")
        return {"executionArn": "an execution", "startDate": "now"}

    def invoke(self, parameters, **_):
        task = parameters["FunctionName"].rpartition(":")[2]
        self.calls.append((task, json.loads(parameters["Payload"])))
        error = next(self.script.get(task, iter(())), None)
        if error == "States.Timeout":
            self.silent.set()
            sys.exit()  # ends the task's thread, so that no answer ever comes
        if error:
            return {"FunctionError": "Unhandled", "Payload": {"errorType": error, "errorMessage": "as scripted"}}
        return {"StatusCode": 200, "Payload": {"flagged": self.cell.flagged} if task == FLAG else {"nobody": "reads this"}}


class Answer(threading.Event):
    """What the interpreter waits for while a task runs. The time of a task that stays silent is over at once."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def wait(self, seconds):
        self.stage.timeouts.append(seconds)
        while not super().wait(0.001):
            if self.stage.silent.is_set():
                self.stage.silent.clear()
                return False
        return True


class Template(yaml.SafeLoader):
    """Reads a template's own tags as what stands behind them."""


Template.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode)
                               else loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None)


def definition(machine):
    """As it is deployed: here, or with the pauses on AWS."""
    state_machine = yaml.load((ROOT / "template.yaml").read_text(), Template)["Resources"][machine.name]["Properties"]
    text = (ROOT / state_machine["DefinitionUri"]).read_text()
    for name, value in state_machine["DefinitionSubstitutions"].items():
        if isinstance(value, list):  # !If [IsLocal, here, on AWS] or !If [OnAws, on AWS, here]
            condition, if_so, if_not = value
            value = if_so if (condition == "IsLocal") == (machine.pauses == PAUSES_HERE) else if_not
        if name.endswith("Arn"):
            value = function_arn(name.removesuffix("Arn"))
        elif value.removesuffix("Alias") == STANDARD.name:  # what its alias points at is the same
            value = machine_arn(STANDARD.name)
        text = text.replace("${%s}" % name, value)
    return text


def function_arn(name):
    return "arn:aws:lambda:us-east-1:000000000000:function:" + re.sub(r"\B([A-Z])", r"-\1", name).lower()


def machine_arn(name):
    return f"arn:aws:states:us-east-1:000000000000:stateMachine:{name}"


def parse(machine):
    # moto has left out LocalStack's JSONata, which needs a JVM, and kept the place where an engine belongs.
    jsonata._eval_jsonata = lambda expression: jlens.Expression(expression).evaluate()
    return AmazonStateLanguageParser.parse(definition(machine))[0]


def observe(program, cell, stage=None):
    stage = stage or Stage(cell)
    execution = Environment(
        AWSExecutionDetails("000000000000", "us-east-1", "role"), "STANDARD",
        {"Execution": {"Input": cell.input, "Name": NAME}, "StateMachine": {}},
        EventHistoryContext.of_program_start(), cloud_watch_logging_session=None, activity_store={})
    program.eval(execution)
    events = execution.event_manager.get_event_history()
    entered = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
    end = events[-1].get("executionFailedEventDetails") or {"output": json.loads(events[-1]["executionSucceededEventDetails"]["output"])}
    if entered[-1] in ERRORS:
        end.pop("cause")  # the interpreter's own
    return entered, {"calls": stage.calls, "timeouts": stage.timeouts, "pauses": stage.pauses, "end": {"state": entered[-1], **end}}


def left_out(states, entered):
    """What the definition has and the tables do not know."""
    rules = [rule for state in states.values() for rule in state.get("Retry", []) + state.get("Catch", [])]
    named = {error for rule in rules for error in rule["ErrorEquals"]} - {"States.ALL", THERE_ALREADY, f"StepFunctions.{THERE_ALREADY}Exception"}
    return [*(f"no cell enters {state}" for state in states if state not in entered),
            *(f"no cell gives {error}" for error in sorted(named - set(every_error())))]


def outage(program):
    """What happens to the orders of an outage in which a step has nobody to call, if every pause is as short as it can be."""
    task, tries, called = "process-payment", 0, []
    for tenth in range(10 * AN_OUTAGE):
        cell = Cell("an order in an outage", ORDER, {}, [], "", machine=STANDARD_ON_AWS)
        stage = Stage(cell)
        now = lambda: tenth / 10 + sum(pause[1] if pause[0] == "pause" else pause[0] for pause in stage.pauses)
        stage.script[task] = iter(lambda: "Unavailable" if now() < AN_OUTAGE else None, "never")
        entered, got = observe(program, cell, stage)
        tries += sum(name == task for name, _ in got["calls"])
        called += [entered[-1]] if entered[-1] != "OrderConfirmed" else []
    print(f"{10 * AN_OUTAGE} orders in an outage of {AN_OUTAGE} s: {len(called)} call a person, {task} is called {tries} times")
    return called


def main():
    logging.disable()  # the interpreter logs every scripted error
    programs = {machine.name + str(machine.pauses): parse(machine) for machine in (STANDARD, STANDARD_ON_AWS, EXPRESS)}
    all_entered, results = set(), {}
    for cell in itertools.chain(cells(STANDARD), cells(EXPRESS), hand_overs()):
        wanted, (entered, got) = expected(cell), observe(programs[cell.machine.name + str(cell.machine.pauses)], cell)
        all_entered.update(entered)
        results[cell.name] = [f"{what}: wanted {wanted[what]}, got {got[what]}" for what in wanted if wanted[what] != got[what]]
    results["the tables know every state and every error of the definition"] = left_out(json.loads(definition(STANDARD))["States"], all_entered)
    results["what is unavailable goes on by itself for an hour at least"] = ["it does not"] if sum(PAUSES_ON_AWS) < 3600 else []
    results["nobody is called in an outage of a minute"] = outage(programs[STANDARD.name + str(PAUSES_ON_AWS)])
    failed = {name: differences for name, differences in results.items() if differences}
    for name, differences in failed.items():
        print(name, *differences, sep="\n    ")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
