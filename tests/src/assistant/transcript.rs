//! What was said and asked, as a page of Markdown.

use std::fmt::Write;

use serde_json::Value;

/// Characters of an answer that the page shows; the assistant had all of it.
const SHOWN: usize = 700;

/// The page, as far as it is written.
#[derive(Debug, Default)]
pub(super) struct Transcript(String);

impl Transcript {
    /// What the user says.
    pub(super) fn user(&mut self, words: &str) {
        self.line(&format!("\n## \u{201c}{words}\u{201d}"));
    }

    /// A call of a tool, and what of its answer matters.
    pub(super) fn call(&mut self, tool: &str, arguments: &Value, answer: &Value) {
        let mut shown = answer.to_string();
        if let Some((end, _)) = shown.char_indices().nth(SHOWN) {
            shown.truncate(end);
            shown.push('…');
        }
        let arguments = match arguments.as_object() {
            Some(given) if given.is_empty() => String::new(),
            _ => format!(" {arguments}"),
        };
        self.line(&format!("\n```json\n{tool}{arguments}\n\n{shown}\n```"));
    }

    /// What the assistant concludes.
    pub(super) fn assistant(&mut self, words: &str) {
        self.line(&format!("\n{words}"));
    }

    /// The whole page.
    pub(super) fn page(self) -> String {
        self.0
    }

    fn line(&mut self, line: &str) {
        // Writing to a String never fails.
        let _ = writeln!(self.0, "{line}");
    }
}
