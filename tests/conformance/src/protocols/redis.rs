//! Redis: commands with their arguments, replies by kind, errors.

use anyhow::Result;
use serde_json::Value;
use wiretape_dissect::{Call, Marks};

use super::{DeepFlow, Protocol, field, of};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, text, texts};

/// Redis.
pub const PROTOCOL: Protocol = Protocol {
    name: "redis",
    ours,
    tshark,
    deepflow: Some(DeepFlow {
        folder: "deepflow/redis",
        ours,
        theirs: deepflow,
    }),
};

/// Bytes of a command that are compared: what we keep of it, without what a cut may have split.
const COMMAND: usize = 500;

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in of(calls, "redis") {
        let command = field(call, "redis_command").map(|command| begin(&command));
        if !call.marks.has(Marks::NO_REQUEST) {
            messages.push(
                Message::new("command")
                    .with_some("command", command.clone())
                    .with_known("type", field(call, "redis_type").unwrap_or_default()),
            );
        }
        if call.response.is_some() {
            messages.push(
                Message::new("reply")
                    .with_some("kind", field(call, "redis_reply"))
                    .with_some("error", field(call, "redis_error"))
                    .with_some("to", command),
            );
        }
    }
    messages
}

fn begin(command: &str) -> String {
    command.chars().take(COMMAND).collect()
}

/// Which reply is to which command is told by the order in each connection.
fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut waiting: std::collections::HashMap<&str, std::collections::VecDeque<String>> = Default::default();
    for packet in packets {
        let waiting = waiting.entry(packet.first("tcp.stream")).or_default();
        let server = packet.first("tcp.srcport") == "6379";
        for layer in packet.layers("resp") {
            // Its layer holds one field for each kind of value, with all values of the kind.
            for (name, value) in layer.as_object().into_iter().flatten() {
                let each = match value {
                    Value::Array(each) => each.iter().collect(),
                    one => vec![one],
                };
                for value in each {
                    if server {
                        messages.extend(
                            reply(name, value).map(|reply| reply.with_some("to", waiting.pop_front())),
                        );
                    } else if name == "resp.array" {
                        let command = command(value);
                        waiting.push_back(command.clone());
                        let kind = command.split(' ').next().unwrap_or_default().to_uppercase();
                        messages.push(
                            Message::new("command")
                                .with("command", &command)
                                .with("type", kind),
                        );
                    }
                }
            }
        }
    }
    messages
}

fn command(array: &Value) -> String {
    let words = texts(array, "resp.bulk_string.value").into_iter().map(unhex);
    begin(&words.collect::<Vec<_>>().join(" "))
}

fn reply(name: &str, value: &Value) -> Option<Message> {
    let reply = Message::new("reply");
    Some(match name {
        "resp.string" => reply.with("kind", "simple string"),
        "resp.integer" => reply.with("kind", "integer"),
        "resp.array" => reply.with("kind", "array"),
        "resp.error" => reply.with("kind", "error").with_some("error", value.as_str()),
        "resp.bulk_string" if text(value, "resp.bulk_string.length") == "-1" => reply.with("kind", "nil"),
        "resp.bulk_string" => reply.with("kind", "bulk string"),
        _ => return None,
    })
}

fn unhex(bytes: &str) -> String {
    let bytes: Vec<u8> = bytes
        .split(':')
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut asked = None;
    for line in lines {
        let command = line.shown("request");
        if !command.is_empty() {
            let kind = line.shown("request_type").to_uppercase();
            asked = Some(command.clone());
            messages.push(
                Message::new("command")
                    .with("command", command)
                    .with("type", kind),
            );
            continue;
        }
        let kind = match line.shown("response_result").as_str() {
            "BulkString" => "bulk string",
            "SimpleString" => "simple string",
            "Integer" => "integer",
            "Array" => "array",
            "Error" => "error",
            _ => continue,
        };
        messages.push(
            Message::new("reply")
                .with("kind", kind)
                // They keep the sign.
                .with_known("error", line.shown("error").trim_start_matches('-'))
                .with_some("to", asked.take()),
        );
    }
    Ok(messages)
}
