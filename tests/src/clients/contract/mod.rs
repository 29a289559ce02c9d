//! The documented contract, walked by curl: every example of its sections 1 to 3 is asked of a hub with two nodes, and the
//! answer held against the documented shape. The table is `tests/clients/contract.json`; [`shape`] says how to read it.

mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::serving::Recorded;
use super::{Outcome, Verdict};
use shape::{Checker, Shapes};

/// How this client is called in the report.
const CLIENT: &str = "curl";
/// The table.
const TABLE: &str = include_str!("../../../clients/contract.json");
/// Longest wait for work that an example waits for. It takes a second or two.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked for.
const GLANCE: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    shapes: Shapes,
    apart: Vec<Apart>,
    examples: Vec<Example>,
}

/// What is not curl's to ask, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apart {
    section: String,
    what: String,
    why: String,
}

/// A request of the contract, and what is documented of its answer. Texts may hold `{name}`, what was kept of an answer
/// before, or `{name:8}`, its first characters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Example {
    section: String,
    get: Option<String>,
    post: Option<String>,
    delete: Option<String>,
    /// A tool by its name, called by `POST /mcp/tools/call`.
    tool: Option<String>,
    arguments: Value,
    query: Map<String, Value>,
    body: Option<Value>,
    /// 200 when not given.
    status: Option<u16>,
    shape: Option<Value>,
    /// The content type of an answer that is no JSON.
    #[serde(rename = "type")]
    content_type: Option<String>,
    /// Asked again until these places of the answer have these values; a number is reached or passed.
    until: BTreeMap<String, Value>,
    /// What these places of the answer have to be.
    equal: BTreeMap<String, Value>,
    /// What is kept of the answer for others.
    keep: BTreeMap<String, String>,
}

/// An answer as curl has it.
struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

/// Asks every example. An outcome for each section, and for each that is not curl's.
///
/// # Errors
/// There is nobody to ask.
pub(super) fn run() -> anyhow::Result<Vec<Outcome>> {
    let table: Table = serde_json::from_str(TABLE).context("the table of the contract is none")?;
    let recorded = Recorded::start()?;
    let mut walk = Walk {
        hub: &recorded.url,
        shapes: &table.shapes,
        kept: BTreeMap::from([("db".to_owned(), json!("incident-001/full-dissection"))]),
    };
    let mut sections: BTreeMap<&str, Section> = BTreeMap::new();
    for example in &table.examples {
        let section = sections.entry(&example.section).or_default();
        section.examples += 1;
        if let Err(error) = walk.ask(example, section) {
            section.wrong.push(format!("{}: {error:#}", example.title()));
        }
    }
    let mut all: Vec<Outcome> = sections
        .into_iter()
        .map(|(section, walked)| walked.outcome(section))
        .collect();
    // As they stand in the contract: 1.9 before 1.10.
    all.sort_by_key(|outcome| order(&outcome.what));
    all.extend(table.apart.into_iter().map(|apart| Outcome {
        client: CLIENT,
        what: format!("contract {}: {}", apart.section, apart.what),
        verdict: Verdict::DoesNotApply,
        told: apart.why,
    }));
    Ok(all)
}

fn order(what: &str) -> Vec<u32> {
    let numbers = what.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// What came of a section's examples.
#[derive(Default)]
struct Section {
    examples: usize,
    requests: usize,
    wrong: Vec<String>,
    ours: BTreeSet<String>,
}

impl Section {
    fn outcome(self, section: &str) -> Outcome {
        let (verdict, told) = if self.wrong.is_empty() {
            let more = match self.ours.len() {
                0 => String::new(),
                ours => format!(", {ours} members beyond the contract"),
            };
            (
                Verdict::Ok,
                format!("{} examples, {} requests{more}", self.examples, self.requests),
            )
        } else {
            (Verdict::Failed, self.wrong.join(" / "))
        };
        Outcome {
            client: CLIENT,
            what: format!("contract {section}"),
            verdict,
            told,
        }
    }
}

impl Example {
    fn title(&self) -> String {
        let asked = [
            ("GET", &self.get),
            ("POST", &self.post),
            ("DELETE", &self.delete),
            ("tool", &self.tool),
        ];
        let asked = asked
            .into_iter()
            .find_map(|(how, what)| Some(format!("{how} {}", what.as_ref()?)));
        asked.unwrap_or_else(|| "an example without a request".to_owned())
    }
}

struct Walk<'t> {
    hub: &'t str,
    shapes: &'t Shapes,
    /// What was kept of answers.
    kept: BTreeMap<String, Value>,
}

impl Walk<'_> {
    /// Asks an example; what only reads is asked with `/api` in front as well.
    fn ask(&mut self, example: &Example, section: &mut Section) -> anyhow::Result<()> {
        let prefixes: &[&str] = if example.get.is_some() {
            &["", "/api"]
        } else {
            &[""]
        };
        for prefix in prefixes {
            let answer = self.until(example, prefix, section)?;
            self.held(example, prefix, &answer, section)?;
        }
        Ok(())
    }

    fn until(&self, example: &Example, prefix: &str, section: &mut Section) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        loop {
            let answer = self.curl(example, prefix)?;
            section.requests += 1;
            if example.until.is_empty() || is_reached(&example.until, &answer) {
                return Ok(answer);
            }
            ensure!(
                begun.elapsed() < DONE_WITHIN,
                "it does not come to {:?}: {}",
                example.until,
                String::from_utf8_lossy(&answer.body)
            );
            std::thread::sleep(GLANCE);
        }
    }

    fn held(
        &mut self,
        example: &Example,
        prefix: &str,
        answer: &Answer,
        section: &mut Section,
    ) -> anyhow::Result<()> {
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status == example.status.unwrap_or(200),
            "{prefix} status {}: {body}",
            answer.status
        );
        if let Some(content_type) = &example.content_type {
            ensure!(
                answer.content_type == *content_type,
                "it is {}",
                answer.content_type
            );
            ensure!(!answer.body.is_empty(), "it is empty");
            return Ok(());
        }
        ensure!(
            answer.content_type.starts_with("application/json"),
            "it is {}",
            answer.content_type
        );
        let told: Value = serde_json::from_slice(&answer.body).context("it is no JSON")?;
        let shape = example.shape.as_ref().context("the table has no shape for it")?;
        let mut checker = Checker::new(self.shapes);
        checker.check(shape, &told, "");
        for (place, value) in &example.equal {
            if told.pointer(place) != Some(value) {
                checker
                    .wrong
                    .push(format!("{place} is {:?}, not {value}", told.pointer(place)));
            }
        }
        let title = format!("{prefix} {}", example.title());
        section
            .wrong
            .extend(checker.wrong.iter().map(|wrong| format!("{title}: {wrong}")));
        section.ours.extend(checker.ours);
        for (name, place) in &example.keep {
            let value = told
                .pointer(place)
                .with_context(|| format!("{place} is not there"))?;
            self.kept.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    fn curl(&self, example: &Example, prefix: &str) -> anyhow::Result<Answer> {
        let folder = tempfile::tempdir()?;
        let body = folder.path().join("body");
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--write-out",
            "%{http_code} %{content_type}",
            "--output",
        ]);
        curl.arg(&body);
        let mut path = None;
        if let Some(tool) = &example.tool {
            let arguments = self.filled(&example.arguments)?;
            let call = json!({ "name": tool, "arguments": arguments });
            curl.args(["--data", &call.to_string()]);
            path = Some("/mcp/tools/call".to_owned());
        }
        for (method, asked) in [
            ("GET", &example.get),
            ("POST", &example.post),
            ("DELETE", &example.delete),
        ] {
            if let Some(asked) = asked {
                curl.args(["--request", method]);
                path = Some(self.filled_text(asked)?);
            }
        }
        if let Some(body) = &example.body {
            curl.args(["--header", "content-type: application/json", "--data"]);
            curl.arg(self.filled(body)?.to_string());
        }
        if !example.query.is_empty() {
            curl.arg("--get");
        }
        for (name, value) in &example.query {
            let value = match self.filled(value)? {
                Value::String(text) => text,
                other => other.to_string(),
            };
            curl.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        curl.arg(format!(
            "{}{prefix}{}",
            self.hub,
            path.context("it asks for nothing")?
        ));
        let output = curl.stdin(Stdio::null()).output().context("cannot run curl")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "curl fails: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (status, content_type) = said.split_once(' ').context("curl tells no status")?;
        Ok(Answer {
            status: status.parse()?,
            content_type: content_type.to_owned(),
            // Without a body there is no file.
            body: std::fs::read(&body).unwrap_or_default(),
        })
    }

    /// A value with what was kept put in. A text that is nothing but a place becomes what was kept.
    fn filled(&self, value: &Value) -> anyhow::Result<Value> {
        Ok(match value {
            Value::String(text) => {
                let whole = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
                match whole.and_then(|name| self.kept.get(name)) {
                    Some(kept) => kept.clone(),
                    None => Value::String(self.filled_text(text)?),
                }
            }
            Value::Array(rows) => rows
                .iter()
                .map(|row| self.filled(row))
                .collect::<Result<_, _>>()?,
            Value::Object(members) => {
                let filled = members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), self.filled(value)?)));
                Value::Object(filled.collect::<anyhow::Result<_>>()?)
            }
            other => other.clone(),
        })
    }

    fn filled_text(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = text.to_owned();
        for (name, kept) in &self.kept {
            let kept = kept.as_str().map_or_else(|| kept.to_string(), str::to_owned);
            let first: String = kept.chars().take(8).collect();
            filled = filled
                .replace(&format!("{{{name}}}"), &kept)
                .replace(&format!("{{{name}:8}}"), &first);
        }
        if filled.starts_with('/') && filled.contains('{') {
            bail!("{filled}: nothing of that name was kept");
        }
        Ok(filled)
    }
}

/// Whether an answer has come to what is waited for.
fn is_reached(until: &BTreeMap<String, Value>, answer: &Answer) -> bool {
    let Ok(told) = serde_json::from_slice::<Value>(&answer.body) else {
        return false;
    };
    until
        .iter()
        .all(|(place, value)| match (told.pointer(place), value.as_u64()) {
            (Some(told), Some(least)) => told.as_u64().is_some_and(|told| told >= least),
            (Some(told), None) => told == value,
            (None, _) => false,
        })
}
