//! Prompts: working methods for an investigation. Each is a page beside this file, with places for its arguments.

use rmcp::model::{GetPromptResult, JsonObject, Prompt as Listed, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use crate::api::ApiError;
use crate::api::tools::clean;

/// One prompt.
pub(in crate::api) struct Prompt {
    pub(in crate::api) name: &'static str,
    pub(in crate::api) title: &'static str,
    pub(in crate::api) description: &'static str,
    pub(in crate::api) arguments: &'static [Argument],
    /// With `{argument}` where it belongs.
    text: &'static str,
}

/// One argument of a prompt.
pub(in crate::api) struct Argument {
    pub(in crate::api) name: &'static str,
    pub(in crate::api) required: bool,
    pub(in crate::api) description: &'static str,
    /// What stands in its place when it is not given.
    otherwise: &'static str,
}

/// Longest argument that is put into a page.
const MAX_ARGUMENT: usize = 500;

const WINDOW: Argument = Argument {
    name: "window",
    required: false,
    description: "How long a time until now, e.g. 15m or 1h; or a time such as 2026-05-01T03:10:00Z with some minutes around",
    otherwise: "15m",
};
const WORKLOAD: Argument = Argument {
    name: "workload",
    required: false,
    description: "Pod, service, namespace or address, or part of one",
    otherwise: "(all workloads)",
};
const KFL: Argument = Argument {
    name: "kfl",
    required: false,
    description: "A filter that narrows the calls looked at",
    otherwise: "(none)",
};

const fn needed(name: &'static str, description: &'static str) -> Argument {
    Argument {
        name,
        required: true,
        description,
        otherwise: "",
    }
}

/// All prompts (contract 3.4), and how to use the hub at all.
pub(in crate::api) static PROMPTS: &[Prompt] = &[
    Prompt {
        name: "usage",
        title: "How to use Wiretape",
        description: "The words, the steps and the habits that make answers right",
        arguments: &[],
        text: include_str!("prompts/usage.md"),
    },
    Prompt {
        name: "analyze_traffic",
        title: "Analyse traffic",
        description: "What flows, between whom, how much, and what is unusual about it",
        arguments: &[WORKLOAD, WINDOW],
        text: include_str!("prompts/analyze_traffic.md"),
    },
    Prompt {
        name: "find_errors",
        title: "Find errors",
        description: "Which calls fail, since when, where failing begins, and the packets that prove it",
        arguments: &[WORKLOAD, WINDOW, KFL],
        text: include_str!("prompts/find_errors.md"),
    },
    Prompt {
        name: "trace_request",
        title: "Trace a request",
        description: "Follow one request through all services, by its correlation id or by time and connection",
        arguments: &[
            needed(
                "request",
                "A correlation id, the id of a call, or a path with a time",
            ),
            WINDOW,
        ],
        text: include_str!("prompts/trace_request.md"),
    },
    Prompt {
        name: "show_topology",
        title: "Show topology",
        description: "Who speaks to whom, over what, how often and how well, as a map",
        arguments: &[WORKLOAD, WINDOW],
        text: include_str!("prompts/show_topology.md"),
    },
    Prompt {
        name: "latency_analysis",
        title: "Analyse latency",
        description: "Where the time goes: which hop is slow, since when, for whom",
        arguments: &[WORKLOAD, WINDOW, KFL],
        text: include_str!("prompts/latency_analysis.md"),
    },
    Prompt {
        name: "security_audit",
        title: "Audit security",
        description: "Plain text, weak TLS, secrets in requests, missing authentication, and traffic that should not be there",
        arguments: &[WORKLOAD, WINDOW],
        text: include_str!("prompts/security_audit.md"),
    },
    Prompt {
        name: "compare_traffic",
        title: "Compare traffic",
        description: "What differs between two windows: before and after, good day and bad day",
        arguments: &[
            needed("baseline", "The window or snapshot that was good"),
            needed("window", "The window or snapshot that is in question"),
            WORKLOAD,
        ],
        text: include_str!("prompts/compare_traffic.md"),
    },
    Prompt {
        name: "debug_connection",
        title: "Debug a connection",
        description: "Why two workloads cannot speak to each other, or speak badly",
        arguments: &[
            needed("client", "Who calls: pod, service or address"),
            needed("server", "Who is called: pod, service or address"),
            WINDOW,
        ],
        text: include_str!("prompts/debug_connection.md"),
    },
];

/// A prompt as clients list it.
pub(super) fn listed(prompt: &Prompt) -> Listed {
    let arguments = prompt.arguments.iter().map(|argument| {
        PromptArgument::new(argument.name)
            .with_description(argument.description)
            .with_required(argument.required)
    });
    Listed::new(prompt.name, Some(prompt.description), Some(arguments.collect())).with_title(prompt.title)
}

/// A prompt with its arguments in place.
pub(super) fn get(name: &str, given: &JsonObject) -> Result<GetPromptResult, ApiError> {
    let prompt = PROMPTS.iter().find(|prompt| prompt.name == name).ok_or_else(|| {
        let there: Vec<&str> = PROMPTS.iter().map(|prompt| prompt.name).collect();
        let name = crate::snapshots::shown(name);
        ApiError::not_found(format!(
            "there is no prompt `{name}`; there are: {}",
            there.join(", ")
        ))
    })?;
    let mut text = prompt.text.to_owned();
    for argument in prompt.arguments {
        let value = value(argument, given.get(argument.name))?;
        text = text.replace(&format!("{{{}}}", argument.name), &value);
    }
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(prompt.description))
}

fn value(argument: &Argument, given: Option<&Value>) -> Result<String, ApiError> {
    let name = argument.name;
    let text = match given {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text.trim(),
        Some(_) => return Err(ApiError::bad_request(format!("`{name}` must be a text"))),
    };
    if text.len() > MAX_ARGUMENT {
        return Err(ApiError::bad_request(format!(
            "`{name}` is longer than {MAX_ARGUMENT} bytes"
        )));
    }
    match text {
        "" if argument.required => {
            let description = argument.description;
            Err(ApiError::bad_request(format!(
                "`{name}` is required: {description}"
            )))
        }
        "" => Ok(argument.otherwise.to_owned()),
        text => {
            let mut text = Value::String(text.to_owned());
            clean(&mut text);
            Ok(text.as_str().unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tools;

    /// Every `word` in backticks that looks like a tool is one: prompts do not go stale.
    #[test]
    fn prompts_speak_of_tools_and_arguments_that_there_are() {
        for prompt in PROMPTS {
            for word in prompt.text.split('`').skip(1).step_by(2) {
                let word = word.split_whitespace().next().unwrap_or_default();
                let looks_like_one = [
                    "list_",
                    "get_",
                    "create_",
                    "start_snapshot",
                    "export_",
                    "explain_",
                    "describe_",
                    "query_",
                ]
                .iter()
                .any(|begin| word.starts_with(begin));
                assert!(
                    !looks_like_one || tools::find(word).is_ok(),
                    "{}: {word}",
                    prompt.name
                );
            }
            for argument in prompt.arguments {
                let place = format!("{{{}}}", argument.name);
                assert!(
                    prompt.text.contains(&place),
                    "{} has no place for {place}",
                    prompt.name
                );
            }
        }
    }

    #[test]
    fn arguments_are_put_in_their_places() {
        let given = serde_json::json!({ "workload": "check\u{1b}out" });
        let given = given.as_object().cloned().unwrap_or_default();
        let told = get("find_errors", &given).map(|prompt| format!("{:?}", prompt.messages));
        assert!(told.is_ok_and(|told| told.contains("check\\\\u{1b}out") && !told.contains("{window}")));
        let wrong = get("debug_connection", &given)
            .map(drop)
            .map_err(|error| error.message().to_owned());
        assert_eq!(
            wrong,
            Err("`client` is required: Who calls: pod, service or address".to_owned())
        );
    }
}
