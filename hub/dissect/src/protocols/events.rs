//! Server-sent events (HTML, section 9.2): counted as they go by, not kept.

use crate::call::Value;
use crate::limits::EVENT_TEXT;

/// The events of one response.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line under way, its first bytes.
    line: Vec<u8>,
    /// Whether the byte before was CR, so that an LF belongs to it.
    after_cr: bool,
    /// Whether the event under way has any data, without which it is none.
    has_data: bool,
    /// Its type.
    kind: String,
    count: i64,
    last_id: Option<String>,
    last_kind: Option<String>,
    /// Whether the line under way is longer than is kept; whether one was that mattered.
    line_cut: bool,
    cut: bool,
    /// Whether events may be missing.
    lost: bool,
}

/// The type of an event that tells none.
const MESSAGE: &str = "message";

impl Events {
    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        if self.lost {
            return;
        }
        for byte in bytes {
            let follows_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => self.line_ends(),
                _ if self.line.len() < EVENT_TEXT => self.line.push(*byte),
                _ => self.line_cut = true,
            }
        }
    }

    /// Whether an id or a type was longer than is kept.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes are missing.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// What is told of them. Where some are missing, nobody knows how many there were.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = Vec::new();
        if !self.lost {
            fields.push(("sse_events", Value::Int(self.count)));
            let told = [
                ("sse_last_id", &self.last_id),
                ("sse_last_event", &self.last_kind),
            ];
            for (name, text) in told {
                fields.extend(text.clone().map(|text| (name, Value::Text(text.into()))));
            }
        }
        fields
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.line.len() + self.kind.len() + text(&self.last_id) + text(&self.last_kind)
    }

    fn line_ends(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line_cut = std::mem::take(&mut self.line_cut);
        if line.is_empty() {
            // An empty line ends an event.
            let kind = std::mem::take(&mut self.kind);
            if std::mem::take(&mut self.has_data) {
                self.count += 1;
                self.last_kind = Some(if kind.is_empty() { MESSAGE.to_owned() } else { kind });
            }
            return;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"data" => {
                self.has_data = true;
                return;
            }
            b"event" => self.kind = value.into_owned(),
            b"id" if !value.contains('\0') => self.last_id = Some(value.into_owned()),
            _ => return,
        }
        self.cut |= line_cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\r\n\r\nid: 1\ndata: a\ndata: b\n\nevent: tick\rid:2\rdata\r\revent: none\n\ndata: not whole";

    #[test]
    fn however_the_stream_is_cut() {
        for chunk in 1..STREAM.len() {
            let mut events = Events::default();
            STREAM.chunks(chunk).for_each(|part| events.take(part));
            let expected = vec![
                ("sse_events", Value::Int(2)),
                ("sse_last_id", Value::Text("2".into())),
                ("sse_last_event", Value::Text("tick".into())),
            ];
            assert_eq!(events.fields(), expected, "{chunk}");
        }
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut events = Events::default();
        events.take(b"id: ");
        events.take(&[b'x'; 10 * EVENT_TEXT]);
        assert_eq!(events.cost(), EVENT_TEXT);
        events.take(b"\n");
        assert!(events.is_cut());
        events.lose();
        assert_eq!(events.fields(), Vec::new());
    }
}
