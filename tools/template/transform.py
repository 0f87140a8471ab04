"""Prints a SAM template as CloudFormation will see it, and checks that.

    transform.py template.yaml

The checks are for what the linters let pass. Each is one function below whose
name says what holds.
"""

import json
import os
import sys

from cfnlint.decode import cfn_yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator


class NoManagedPolicies:
    """Stands for the account's list: this template names none."""

    def load(self):
        return {}


def transform(path):
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")  # the translator wants to know one
    template = json.loads(json.dumps(cfn_yaml.load(path)))
    functions = template["Globals"]["Function"]
    functions["CodeUri"] = "s3://bucket/" + functions["CodeUri"]  # as `sam package` leaves it
    defaults = {n: p["Default"] for n, p in template["Parameters"].items()}
    defaults["AWS::Region"] = "eu-west-1"
    return Translator({}, Parser()).translate(template, defaults, feature_toggle=None)


def of_type(out, kind):
    return {n: r["Properties"] for n, r in out["Resources"].items() if r["Type"] == kind}


def each_function_has_a_role_of_its_own_and_no_other(out):
    roles = [json.dumps(f["Role"]) for f in of_type(out, "AWS::Lambda::Function").values()]
    assert len(set(roles)) == len(roles) == 4, roles
    for name, role in of_type(out, "AWS::IAM::Role").items():
        assert not role.get("ManagedPolicyArns"), f"{name} has managed policies"


def policies(out):
    for name, role in of_type(out, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            yield name, policy["PolicyDocument"]
    for name, policy in of_type(out, "AWS::IAM::Policy").items():
        yield name, policy["PolicyDocument"]


def no_statement_allows_more_than_it_names(out):
    for name, document in policies(out):
        for s in document["Statement"]:
            s = s["Fn::If"][1] if "Fn::If" in s else s
            actions = s["Action"] if isinstance(s["Action"], list) else [s["Action"]]
            assert not any("*" in a for a in actions), f"{name} allows {actions}"
            network = all(a.startswith("ec2:") for a in actions)  # EC2 knows no narrower resource
            assert s["Resource"] != "*" or network, f"{name} allows {actions} on everything"


def functions_run_the_bootstrap_on_arm64(out):
    for name, f in of_type(out, "AWS::Lambda::Function").items():
        got = (f["Runtime"], f["Handler"], f["Architectures"], f["LoggingConfig"]["LogFormat"])
        assert got == ("provided.al2023", "bootstrap", ["arm64"], "JSON"), f"{name}: {got}"
        assert "TracingConfig" not in f, f"{name} traces"


def mappings_read_a_queue_by_its_arn_and_take_partial_failures(out):
    mappings = of_type(out, "AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 2, list(mappings)
    for name, m in mappings.items():
        assert m["EventSourceArn"]["Fn::GetAtt"][1] == "Arn", f"{name} reads {m['EventSourceArn']}"
        assert m["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        assert m["BatchSize"] <= 10 or m["MaximumBatchingWindowInSeconds"] > 0, name


def schedules_have_no_name_and_no_retries(out):
    schedules = of_type(out, "AWS::Scheduler::Schedule")
    assert len(schedules) == 2, list(schedules)
    for name, s in schedules.items():
        assert "Name" not in s, f"{name} has a name: two stacks of one account would collide"
        assert s["ScheduleExpression"] == "rate(1 minute)", name
        assert s["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0, name
        json.loads(s["Target"]["Input"])
    for name, c in of_type(out, "AWS::Lambda::EventInvokeConfig").items():
        assert c["MaximumRetryAttempts"] == 0, name


def the_api_has_three_routes_and_a_throttle(out):
    (api,) = of_type(out, "AWS::ApiGatewayV2::Api").values()
    routes = {(m, p) for p, methods in api["Body"]["paths"].items() for m in methods}
    want = {("post", "/events"), ("post", "/events/{source}/{event}"), ("x-amazon-apigateway-any-method", "/$default")}
    assert routes == want or routes == {(m, p.replace("/$default", "$default")) for m, p in want}, routes
    (stage,) = of_type(out, "AWS::ApiGatewayV2::Stage").values()
    assert set(stage["DefaultRouteSettings"]) == {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
    json.loads(stage["AccessLogSettings"]["Format"])


def what_is_precious_outlives_the_stack(out):
    table = out["Resources"]["ConfigTable"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def queues_take_tls_only_and_encrypt(out):
    queues = of_type(out, "AWS::SQS::Queue")
    guarded = [q["Ref"] for p in of_type(out, "AWS::SQS::QueuePolicy").values() for q in p["Queues"]]
    assert sorted(guarded) == sorted(queues), guarded
    for name, q in queues.items():
        assert q["SqsManagedSseEnabled"] is True, name


CHECKS = [
    each_function_has_a_role_of_its_own_and_no_other,
    no_statement_allows_more_than_it_names,
    functions_run_the_bootstrap_on_arm64,
    mappings_read_a_queue_by_its_arn_and_take_partial_failures,
    schedules_have_no_name_and_no_retries,
    the_api_has_three_routes_and_a_throttle,
    what_is_precious_outlives_the_stack,
    queues_take_tls_only_and_encrypt,
]


def main():
    out = transform(sys.argv[1])
    json.dump(out, sys.stdout, indent=1)
    failed = 0
    for check in CHECKS:
        try:
            check(out)
        except (AssertionError, LookupError) as e:
            print(f"{check.__name__}: {type(e).__name__}: {e}", file=sys.stderr)
            failed += 1
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks of the transform passed", file=sys.stderr)
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
