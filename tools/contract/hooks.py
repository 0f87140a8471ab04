"""What schemathesis cannot read from docs/openapi.yaml. tools/contract/run loads it."""

import collections
import itertools
import os
import re
from hashlib import sha256

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import RejectedPositiveData

RECEIVER = os.environ["CONTRACT_RECEIVER"]  # host:port
OWN_TOKEN = sha256(os.environ["CONTRACT_TOKEN"].encode()).hexdigest()


# The config of each handler as it is shown, and which of its fields it needs.
CONFIGS = {
    "webhook": ("WebhookConfig", ["url"]),
    "webhook-custom": ("CustomConfig", ["url", "method"]),
    "log": ("LogConfig", []),
    "lambda": ("LambdaConfig", ["functions"]),
}

# URLs that are surely right, those of the receiver and of the examples too.
URL = r"^https?://(([a-z]{1,9}\.){1,2}[a-z]{2,9}|127\.0\.0\.1:[0-9]{4,5})(/[A-Za-z-]{0,15}){0,5}$"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    # The answer for every status that has none is a 500's: any other is
    # documented by its number.
    for path in raw_schema["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict):
                operation.get("responses", {}).pop("default", None)
    # Which config fields a hook has depends on its handler, which is said in
    # words. Without it nearly every hook that is made up would be refused, and
    # what else is wrong with it never seen.
    schemas = raw_schema["components"]["schemas"]
    write, patch, fields = schemas["EventHookWrite"], schemas["EventHookPatch"], schemas["ConfigWrite"]["properties"]
    fields["url"]["pattern"] = URL
    variants = []
    for handler, (shown, required) in CONFIGS.items():
        config = {"type": "object" if required else ["object", "null"], "additionalProperties": False, "required": required}
        config["properties"] = {name: fields[name] for name in schemas[shown].get("properties", {})}
        variant = {**write, "properties": {**write["properties"], "handler": {"enum": [handler]}, "config": config}}
        if required:
            variant["required"] = [*write["required"], "config"]
        variants.append(variant)
        if handler == "webhook":
            patch["properties"]["config"] = {**config, "type": ["object", "null"], "required": []}
    schemas["EventHookWrite"] = {"oneOf": variants}


# ------------------------------------------------------------------- requests

# What there is to find under two names at once, by the path's parameters.
seen = {names: collections.deque(maxlen=20) for names in (("id", "event_id"), ("id", "key"))}
etags = {}  # by hook
turn = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    case.body = to_receiver(case.body)
    path = case.path_parameters or {}
    if case.operation.path == "/tokens/{id}" and path.get("id") == OWN_TOKEN:
        path["id"] = OWN_TOKEN[::-1]  # the list shows it, and without it all the rest is 401
    generated = case.meta and case.meta.components.get(ParameterLocation.PATH)
    if not generated or generated.mode.is_negative:
        return
    # A delivery is of a hook and an event, a snooze of a hook: chosen one by
    # one they never meet.
    for names, pairs in seen.items():
        if pairs and names[1] in path and next(turn) % 4:
            path.update(zip(names, pairs[next(turn) % len(pairs)]))
    # The documented If-Match is of no hook that there is.
    if "If-Match" in (case.headers or {}) and path.get("id") in etags and next(turn) % 4:
        case.headers["If-Match"] = etags[path["id"]]


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code not in (200, 201) or case.method == "HEAD":
        return
    label = case.operation.label
    answer = response.json()
    if label.endswith("/deliveries"):
        seen["id", "event_id"].extend((row["hook_id"], row["event_id"]) for row in answer["data"])
    elif label.endswith("/snoozes"):
        seen["id", "key"].extend((case.path_parameters["id"], row["key"]) for row in answer["data"])
    elif etag := response.headers.get("etag"):
        etags[answer.get("id", (case.path_parameters or {}).get("id"))] = etag[0]


def to_receiver(value):
    """Lead the URLs of hooks to the receiver, wherever they are in a body."""
    if isinstance(value, str):
        return re.sub(r"^(\s*https?://)[^/?#@\\]+", lambda m: m[1] + RECEIVER, value, flags=re.IGNORECASE)
    if isinstance(value, dict):
        return {k: to_receiver(v) for k, v in value.items()}
    if isinstance(value, list):
        return [to_receiver(v) for v in value]
    return value


# -------------------------------------------------------------------- answers

# Faults of what schemas do say. Of the others, some no schema can say, such as
# that an id is taken, and for some the document's text is enough, such as how a
# pattern of `filter` is written.
SAID = re.compile(
    r"expected an? (string|integer|number|boolean|map|set|record)\b"
    r"|expected one of: |value should be between|Cannot parse JSON body"
)
# unique and slot name some of the event's own fields, no token expires before now.
NOT_SAID = re.compile(r"(unique|slot|expires_at|(hook\.)?filter)\.")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Report whether a failure is one."""
    if isinstance(failure, RejectedPositiveData):
        if case.meta.phase.name is TestPhase.EXAMPLES:
            return False  # examples of forms are sent as JSON too; TestContract of internal/admin sends each as it is
        if "form" in (case.media_type or ""):
            return False  # the document has a form's fields beside it, as those of the JSON
        answer = response.json()
        told = list(faults(answer.get("fields"))) or [answer["message"]]
        return any(SAID.search(f) and not NOT_SAID.match(f) for f in told)
    if isinstance(failure, AcceptedNegativeData):
        why = failure.message
        # No body is an empty object, and so wrong only where a field is required.
        # Where it may be left out schemathesis leaves it out, and says that it
        # did not mean to.
        if "Missing request body" in why or "positive test case" in why:
            return False
        # An id in the body of a PUT is ignored.
        if "in body - id:" in why or "in body - hook -> id:" in why:
            return False
    return True


def faults(fields, path=""):
    """The faults of an answer, each after its field's path, in which every name ends with a dot."""
    if isinstance(fields, str):
        yield f"{path} {fields}"
    elif isinstance(fields, list):
        for each in fields:
            yield from faults(each, path)
    elif isinstance(fields, dict):
        for name, each in fields.items():
            yield from faults(each, f"{path}{name}.")
