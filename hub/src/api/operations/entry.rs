//! A call in the shape that readers of `/wsFull` know (contract 1.14).

use serde_json::{Map, Value, json};

/// The entry of a call in its full form.
pub(in crate::api) fn entry(call: &Value) -> Value {
    let protocol = text(call, "proto");
    let outcome = text(call, "outcome");
    let failed = !matches!(outcome, "ok" | "unknown" | "");
    // The recorder beside the client saw its request go out.
    let outgoing = call["observed"].get("client").is_some();
    let answered = call.get("status").is_some() || call.get("latency_ms").is_some();
    json!({
        "id": call["id"],
        "node": { "ip": "", "name": call["node_id"] },
        "src": peer(&call["src"]),
        "dst": peer(&call["dst"]),
        "protocol": {
            "name": protocol,
            "abbr": protocol.to_uppercase(),
            "macro": protocol,
            "version": call["version"],
        },
        "timestamp": call["ts"],
        "elapsedTime": call["latency_ms"].as_f64().map(|ms| ms.round() as u64),
        "request": message(call, "req", &["method", "path", "query", "authority"]),
        "response": if answered { message(call, "resp", &["status"]) } else { Value::Null },
        "outgoing": outgoing,
        "passed": outcome == "ok",
        "failed": failed,
        "error": if failed { json!({ "type": outcome }) } else { Value::Null },
        "size": size(call, "req") + size(call, "resp"),
        "worker": call["worker"],
        "stream": call["conn_id"],
        "tls": false,
    })
}

fn text<'c>(of: &'c Value, name: &str) -> &'c str {
    of[name].as_str().unwrap_or_default()
}

fn size(call: &Value, side: &str) -> u64 {
    call[format!("{side}_size")].as_u64().unwrap_or_default()
}

fn peer(of: &Value) -> Value {
    let (pod, service) = (text(of, "pod"), text(of, "svc"));
    let names = [pod, service, text(of, "dns"), text(of, "process")];
    let name = names.into_iter().find(|name| !name.is_empty());
    // Objects of Kubernetes, as far as they are known.
    let object = |name: &str| match name {
        "" => Value::Null,
        name => json!({ "metadata": { "name": name, "namespace": text(of, "ns") } }),
    };
    json!({
        "ip": of["ip"],
        "port": of["port"].as_u64().map(|port| port.to_string()),
        "name": name.unwrap_or_default(),
        "namespace": text(of, "ns"),
        "pod": object(pod),
        "service": object(service),
        "endpointSlice": null,
    })
}

fn message(call: &Value, side: &str, members: &[&str]) -> Value {
    let mut message = Map::new();
    for member in members {
        if let Some(value) = call.get(*member) {
            message.insert((*member).to_owned(), value.clone());
        }
    }
    for member in ["headers", "body"] {
        if let Some(value) = call.get(format!("{side}_{member}")) {
            message.insert(member.to_owned(), value.clone());
        }
    }
    Value::Object(message)
}
