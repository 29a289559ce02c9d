//! What tshark makes of a capture: the layers of its packets, as JSON.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// A packet's layers.
pub struct Packet {
    layers: Map<String, Value>,
}

/// The name and version, or why it does not run.
pub fn version() -> Result<String> {
    let output = Command::new("tshark")
        .arg("--version")
        .output()
        .context("tshark is not installed")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_owned())
}

/// Asks for the packets that a filter picks, with the layers of some protocols. `options` tell it what it would not guess.
pub fn ask(file: &Path, filter: &str, layers: &str, options: &[&str]) -> Result<Vec<Packet>> {
    let output = Command::new("tshark")
        .args([
            "-n",
            "-T",
            "json",
            "--no-duplicate-keys",
            "-J",
            layers,
            "-Y",
            filter,
        ])
        // Or segments that came late would be missing from the messages.
        .args(["-o", "tcp.reassemble_out_of_order:TRUE"])
        .args(options)
        .arg("-r")
        .arg(file)
        .output()
        .context("tshark is not installed")?;
    // It complains of captures that are cut short, and prints all the same what there is.
    if output.stdout.is_empty() {
        bail!("tshark: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let packets: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("tshark's JSON of {}", file.display()))?;
    let layers = |mut packet: Value| match packet.pointer_mut("/_source/layers").map(Value::take) {
        Some(Value::Object(layers)) => Some(Packet { layers }),
        _ => None,
    };
    Ok(packets.into_iter().filter_map(layers).collect())
}

impl Packet {
    /// The layers of a protocol, each by itself.
    pub fn layers(&self, protocol: &str) -> Vec<&Value> {
        match self.layers.get(protocol) {
            Some(Value::Array(each)) => each.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        }
    }

    /// The first value of a field, in the layer of its protocol.
    pub fn first(&self, field: &str) -> &str {
        let protocol = field.split('.').next().unwrap_or_default();
        let layers = self.layers(protocol);
        layers
            .into_iter()
            .find_map(|layer| texts(layer, field).first().copied())
            .unwrap_or_default()
    }
}

/// Every value of a field, at any depth.
pub fn texts<'v>(value: &'v Value, field: &str) -> Vec<&'v str> {
    let mut found = Vec::new();
    walk(value, &mut |name, value| {
        if name == field {
            match value {
                Value::Array(each) => found.extend(each.iter().filter_map(Value::as_str)),
                one => found.extend(one.as_str()),
            }
        }
    });
    found
}

/// The first value of a field, at any depth; empty when there is none.
pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    texts(value, field).first().copied().unwrap_or_default()
}

/// Every object that has a field itself.
pub fn objects<'v>(value: &'v Value, field: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    collect(value, field, &mut found);
    found
}

fn collect<'v>(value: &'v Value, field: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(object) => {
            if object.contains_key(field) {
                found.push(value);
            }
            object.values().for_each(|value| collect(value, field, found));
        }
        Value::Array(each) => each.iter().for_each(|value| collect(value, field, found)),
        _ => {}
    }
}

/// Every field with its value, objects before what is in them.
pub fn walk<'v>(value: &'v Value, visit: &mut impl FnMut(&'v str, &'v Value)) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                visit(name, value);
                walk(value, visit);
            }
        }
        Value::Array(each) => each.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}
