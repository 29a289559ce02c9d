//! A tool's answer as MCP carries it.

use rmcp::model::{Annotations, CallToolResult, ContentBlock, Resource, Role, TextContent};
use serde_json::Value;

use crate::api::ApiError;
use crate::api::tools::{self, Answer, Tool};

/// What captures are called on the wire (contract 1.8).
pub(super) const PCAP: &str = "application/vnd.tcpdump.pcap";

/// A line for people, the JSON as text for clients that read no structured content, and the structured content. An
/// error says what to do next, and is an answer as well.
pub(super) fn shown(tool: &Tool, answer: Result<Answer, ApiError>) -> CallToolResult {
    match answer {
        Ok(Answer { value, text: json }) => {
            let mut content = vec![
                text(tools::say(tool, &value), Role::User),
                text(json, Role::Assistant),
            ];
            content.extend(link(&value).map(ContentBlock::resource_link));
            let mut result = CallToolResult::success(content);
            result.structured_content = Some(value);
            result
        }
        Err(error) => CallToolResult::error(vec![ContentBlock::text(error.message())]),
    }
}

fn text(text: String, reader: Role) -> ContentBlock {
    let annotations = Annotations::default().with_audience(vec![reader]);
    ContentBlock::Text(TextContent::new(text).with_annotations(annotations))
}

/// The capture that an answer tells the place of.
fn link(answer: &Value) -> Option<Resource> {
    let uri = answer.get("uri")?.as_str()?;
    let name = answer.get("name").and_then(Value::as_str).unwrap_or("capture");
    Some(Resource::new(uri, format!("{name}.pcap")).with_mime_type(PCAP))
}
