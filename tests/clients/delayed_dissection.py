"""A generic gRPC client (grpcio with reflection, which knows no .proto of ours) against a hub with one snapshot.

    python3 delayed_dissection.py http://127.0.0.1:8898     a hub of its own: dissections are made and deleted

Answers are held against those of the same questions as JSON. Prints a line for each check; fails at the first that does
not hold.
"""

import json
import sys
import time
import urllib.request

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "delayed_dissection.DelayedDissection"
# What counts time, or need not be the same a moment later.
MOVING = {"progress"}


def check(what, holds):
    print(("ok   " if holds else "FAIL ") + what)
    if not holds:
        sys.exit(1)


def as_json(url, path, fields):
    request = urllib.request.Request(url + path, json.dumps(fields).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def unset(value):
    """JSON says null and [] where a message leaves out, and 64 bits are numbers in ours."""
    if isinstance(value, dict):
        left = {name: unset(each) for name, each in value.items()}
        return {name: each for name, each in left.items() if each not in (None, "", 0, False, [], {})}
    if isinstance(value, list):
        return [unset(each) for each in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value


class Generic:
    """Calls what the reflection of a server describes."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)
        self.service = self.pool.FindServiceByName(SERVICE)

    def call(self, method, **fields):
        described = self.service.FindMethodByName(method)
        asked = message_factory.GetMessageClass(described.input_type)(**fields)
        answered = message_factory.GetMessageClass(described.output_type)
        stub = self.channel.unary_unary(
            f"/{SERVICE}/{method}", lambda message: message.SerializeToString(), answered.FromString
        )
        answer = stub(asked, timeout=10)
        return json_format.MessageToDict(answer, preserving_proto_field_name=True)

    def refusal(self, method, **fields):
        try:
            self.call(method, **fields)
        except grpc.RpcError as error:
            return error
        return None

    def services(self, version):
        """By hand: the package asks v1alpha alone, and v1 has the same messages."""
        stub = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(list_services="*")
        answer = next(iter(stub(iter([asked]), timeout=10)))
        return [service.name for service in answer.list_services_response.service]


def done(generic, **fields):
    for _ in range(600):
        status = generic.call("GetStatus", **fields)
        if not status.get("active"):
            return status
        time.sleep(0.1)
    return status


def main():
    url = sys.argv[1].rstrip("/")
    generic = Generic(url.split("//")[1])
    for version in ["v1", "v1alpha"]:
        check(f"reflection {version} tells of the service", SERVICE in generic.services(version))
    methods = [method.name for method in generic.service.methods]
    check(f"its methods: {', '.join(methods)}", methods == ["Start", "GetStatus", "Stop", "List", "Delete"])
    with urllib.request.urlopen(f"{url}/delayed_dissection.proto", timeout=10) as answer:
        published = answer.read().decode()
    check("the .proto is published", all(f"rpc {method}(" in published for method in methods))

    snapshot = as_json(url, f"/{SERVICE}/List", {})["dissections"][0]
    started = generic.call("Start", snapshot_name=snapshot["snapshot_name"], dissection_name="grpc")
    check(f"Start: {started['status']}", started["dissection_name"] == started["name"] == "grpc")
    check(f"GetStatus: {done(generic, snapshot_name=snapshot['snapshot_name'], dissection_name='grpc')['status']}", True)
    spellings = [
        {"snapshot": snapshot["snapshot_name"], "dissection": "grpc"},
        {"snapshot_id": snapshot["snapshot_id"], "name": "grpc"},
        {"snapshot_id": snapshot["snapshot_id"][:8], "dissection_id": started["dissection_id"]},
        {"dissection_id": started["dissection_id"][:8]},
        {},
    ]
    for fields in spellings:
        message, told = generic.call("GetStatus", **fields), as_json(url, f"/{SERVICE}/GetStatus", fields)
        for name in MOVING:
            message.pop(name, None), told.pop(name, None)
        check(f"GetStatus by {', '.join(fields) or 'nothing'}: as the JSON", unset(message) == unset(told))
    check("it is completed, with calls", message["status"] == "completed" and int(message["entry_count"]) > 0)
    check("counters are there", int(message["stats"]["packets_processed"]) > 0 and len(message["counters"]) > 5)
    listed = generic.call("List", snapshot_id=snapshot["snapshot_id"])
    check("List: as the JSON", unset(listed) == unset(as_json(url, f"/{SERVICE}/List", {})))

    taken = generic.refusal("Start", snapshot=snapshot["snapshot_name"], name="grpc")
    check(f"a name that is taken: {taken.details()}", taken.code() == grpc.StatusCode.ALREADY_EXISTS)
    unknown = generic.refusal("GetStatus", snapshot="nope", name="grpc")
    check(f"no such snapshot: {unknown.details()}", unknown.code() == grpc.StatusCode.NOT_FOUND)
    bare = generic.refusal("Start")
    check(f"nothing named: {bare.details()}", bare.code() == grpc.StatusCode.INVALID_ARGUMENT)
    ended = generic.refusal("Stop", snapshot=snapshot["snapshot_name"], name="grpc")
    check(f"it has ended: {ended.details()}", ended.code() == grpc.StatusCode.ALREADY_EXISTS)
    long = generic.refusal("GetStatus", snapshot="x" * (2 << 20))
    check(f"a message of 2 MiB: {long.code().name}", long.code() == grpc.StatusCode.OUT_OF_RANGE)
    deleted = generic.call("Delete", snapshot=snapshot["snapshot_name"], name="grpc")
    check("Delete", deleted["success"] and deleted["dissection_id"] == started["dissection_id"])
    gone = generic.refusal("GetStatus", snapshot=snapshot["snapshot_name"], name="grpc")
    check("it is gone", gone.code() == grpc.StatusCode.NOT_FOUND)
    nowhere = generic.channel.unary_unary("/no.such.Service/Method")
    try:
        nowhere(b"", timeout=10)
        check("no such service", False)
    except grpc.RpcError as error:
        check("no such service", error.code() == grpc.StatusCode.UNIMPLEMENTED)


main()
