//! The conformance suite of the protocol's makers, scenario by scenario.
//!
//! The suite was made for servers that exist to be tested: most of its scenarios call a tool, read a resource or get a
//! prompt of a fixed name (`test_simple_text`, `test://static-text`, …), which a server with work of its own has not.

use super::kit::Kit;
use super::serving::Serving;
use super::{Outcome, Verdict, outcome, run_to_end};

/// How this client is called in the table.
const CLIENT: &str = "conformance suite";

/// Scenarios that any server can be held to.
const APPLY: [&str; 9] = [
    "server-initialize",
    "ping",
    "completion-complete",
    "tools-list",
    "server-sse-multiple-streams",
    "server-sse-polling",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
];

/// The others, with why they do not apply.
const DO_NOT_APPLY: [(&str, &str); 23] = [
    (
        "logging-set-level",
        "the hub declares no logging: its log is for who runs it",
    ),
    ("tools-call-simple-text", "calls test_simple_text"),
    (
        "tools-call-image",
        "calls test_image_content; the hub has no images",
    ),
    (
        "tools-call-audio",
        "calls test_audio_content; the hub has no sound",
    ),
    ("tools-call-embedded-resource", "calls test_embedded_resource"),
    ("tools-call-mixed-content", "calls test_multiple_content_types"),
    (
        "tools-call-with-logging",
        "calls test_tool_with_logging; no logging is declared",
    ),
    ("tools-call-error", "calls test_error_handling"),
    ("tools-call-with-progress", "calls test_tool_with_progress"),
    (
        "tools-call-sampling",
        "calls test_sampling; the hub asks no model",
    ),
    (
        "tools-call-elicitation",
        "calls test_elicitation; the hub asks its user nothing",
    ),
    ("json-schema-2020-12", "lists json_schema_2020_12_tool"),
    (
        "elicitation-sep1034-defaults",
        "calls test_elicitation_sep1034_defaults",
    ),
    (
        "elicitation-sep1330-enums",
        "calls test_elicitation_sep1330_enums",
    ),
    ("resources-read-text", "reads test://static-text"),
    ("resources-read-binary", "reads test://static-binary"),
    ("resources-templates-read", "reads test://template/123/data"),
    ("resources-subscribe", "subscribes to test://watched-resource"),
    (
        "resources-unsubscribe",
        "unsubscribes from test://watched-resource",
    ),
    ("prompts-get-simple", "gets test_simple_prompt"),
    ("prompts-get-with-args", "gets test_prompt_with_arguments"),
    (
        "prompts-get-embedded-resource",
        "gets test_prompt_with_embedded_resource",
    ),
    ("prompts-get-with-image", "gets test_prompt_with_image"),
];

/// Runs those that apply, and lists the others. A scenario that the suite has and neither list names is a failure: it
/// came with a new version and nobody has looked at it.
pub(super) fn run(kit: &Kit, serving: &Serving) -> anyhow::Result<Vec<Outcome>> {
    let mut all: Vec<Outcome> = APPLY
        .into_iter()
        .map(|scenario| {
            outcome(
                CLIENT,
                scenario,
                kit.program("conformance").map(|mut suite| {
                    suite
                        .args(["server", "--scenario", scenario, "--url"])
                        .arg(serving.mcp());
                    run_to_end(&mut suite).and_then(|said| counted(&said))
                }),
            )
        })
        .collect();
    all.extend(DO_NOT_APPLY.map(|(scenario, why)| Outcome {
        client: CLIENT,
        what: scenario.to_owned(),
        verdict: Verdict::DoesNotApply,
        told: why.to_owned(),
    }));
    if let Ok(mut suite) = kit.program("conformance") {
        let listed = run_to_end(suite.args(["list", "--server"]))?;
        let scenarios = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- ")?.split_whitespace().next());
        for scenario in scenarios {
            if !APPLY.contains(&scenario) && !DO_NOT_APPLY.iter().any(|(known, _)| *known == scenario) {
                let unknown = Err(anyhow::anyhow!("it is new: say whether it applies"));
                all.push(outcome(CLIENT, scenario, Ok(unknown)));
            }
        }
    }
    Ok(all)
}

/// The line `Passed: 2/2, 0 failed, 1 warnings`. What the suite warns of, a server may do; it is told all the same.
fn counted(said: &str) -> anyhow::Result<String> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Passed: "));
    let line = line.ok_or_else(|| anyhow::anyhow!("it does not say what passed"))?;
    anyhow::ensure!(line.contains(" 0 failed"), "{line}");
    Ok(line.replace(", 0 failed", "").replace(", 0 warnings", ""))
}
