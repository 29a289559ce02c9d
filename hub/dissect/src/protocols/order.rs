//! Which answer belongs to which question, where a server answers in the order in which it was asked.
//!
//! In a connection that was seen whole, counting tells. Once messages may be missing, before a late join or in a gap,
//! counting proves nothing, and has to begin anew at a quiet place: a question whose asker had received everything that
//! was answered, from a server that had received everything that was asked. What is paired from there on is kept on
//! trial until the next quiet place at which every question has its answer. A contradiction on the way (an answer too
//! many, or one that was sent before its question had arrived) shows that the place was not quiet: what was on trial
//! comes out as halves, and nothing is paired until the next one.

use crate::call::{Marks, Outcome, Value};
use crate::limits::TRIAL;
use crate::protocols::{Side, Span, Transaction};
use crate::tcp::Close;

/// How far the order of one connection can be relied on.
pub(crate) struct Order {
    trust: Trust,
    /// Where the answers end, as far as they were heard.
    heard: Heard,
    /// Whether messages may be missing.
    after_gap: bool,
    /// Whether it could ever be relied on, so that it is certain who asks.
    proved: bool,
    trial: Vec<Pair>,
    /// Names of the fields that tell the bytes of the question, of the answer, and of both.
    sizes: [&'static str; 3],
    closed: [Option<Close>; 2],
    memory: usize,
}

/// Whether the nth answer is that to the nth question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is.
    Certain,
    /// It is for those that wait, and no longer: later questions were lost.
    Draining,
    /// It has been by all appearances, since a quiet place.
    Trial,
    /// It cannot be told.
    Lost,
}

/// What the server said last.
#[derive(Clone, Copy, Debug)]
enum Heard {
    /// Nothing that could be placed, and nothing that was asked is known to be missing.
    Nothing,
    /// Nothing since questions were lost.
    Unplaced,
    /// Nothing since the trial began; what it says next begins here.
    From(u64),
    /// It ended here, when so much of the questions had been received.
    To { end: u64, ack: u64 },
}

/// A question and its answer, each of which can be given without the other.
struct Pair {
    asked: Transaction,
    answer: Transaction,
}

impl Order {
    /// A connection that was seen from its begin, or not.
    pub fn new(joined: bool, sizes: [&'static str; 3]) -> Self {
        Self {
            trust: if joined { Trust::Lost } else { Trust::Certain },
            heard: Heard::Nothing,
            after_gap: false,
            proved: !joined,
            trial: Vec::new(),
            sizes,
            closed: [None; 2],
            memory: 0,
        }
    }

    /// A question begins; whether its answer can be told from others, so that it is worth waiting for. `waiting` says
    /// whether earlier ones wait for theirs.
    pub fn ask(&mut self, span: &Span, waiting: bool, out: &mut Vec<Transaction>) -> bool {
        if self.trust == Trust::Draining && !waiting {
            self.trust = Trust::Lost;
        }
        match self.trust {
            Trust::Certain => true,
            Trust::Draining => false,
            Trust::Trial => {
                if !waiting && self.quiet(span) {
                    self.confirm(out);
                }
                true
            }
            Trust::Lost if !self.quiet(span) => false,
            Trust::Lost => {
                self.trust = Trust::Trial;
                if matches!(self.heard, Heard::Nothing) {
                    self.heard = Heard::From(span.ack);
                }
                true
            }
        }
    }

    /// The server said something, be it an answer or not; whether it may be what comes next.
    pub fn hear(&mut self, span: &Span) -> bool {
        let expected = !matches!(self.heard, Heard::From(start) if start != span.start);
        self.heard = Heard::To {
            end: span.end,
            ack: span.ack,
        };
        expected || self.trust != Trust::Trial
    }

    /// Whether an answer can be that to a question: the server had received it.
    pub fn fits(&self, asked: &Span, answer: &Span) -> bool {
        let received = match self.trust {
            // What is on trial must be beyond doubt, else a server may be content with the begin of a question.
            Trust::Trial => asked.end,
            _ => asked.start + 1,
        };
        answer.ack == 0 || answer.ack >= received
    }

    /// Bytes of one direction are lost that may have been messages, or the place is; whether the questions that wait
    /// for their answers go on waiting.
    pub fn lose(&mut self, side: Side, out: &mut Vec<Transaction>) -> bool {
        self.after_gap = true;
        match side {
            Side::Client => {
                if !matches!(self.heard, Heard::To { .. }) {
                    self.heard = Heard::Unplaced;
                }
                if matches!(self.trust, Trust::Certain | Trust::Draining) {
                    self.trust = Trust::Draining;
                    return true;
                }
            }
            Side::Server => {
                if !matches!(self.heard, Heard::Unplaced) {
                    self.heard = Heard::Nothing;
                }
            }
        }
        self.refute(out);
        false
    }

    /// What was paired contradicts itself: what waits must not wait any longer.
    pub fn contradict(&mut self, out: &mut Vec<Transaction>) {
        // Where nothing was claimed, nothing is contradicted.
        if self.trust != Trust::Lost {
            self.after_gap = true;
            self.refute(out);
        }
    }

    /// Gives a question with its answer, once that is certain.
    pub fn pair(&mut self, asked: Transaction, answer: Transaction, out: &mut Vec<Transaction>) {
        let pair = Pair { asked, answer };
        if self.trust != Trust::Trial {
            self.alone(pair.whole(), out);
            return;
        }
        self.memory += pair.cost();
        self.trial.push(pair);
        // A place that was not quiet would have been contradicted by now.
        if self.trial.len() >= TRIAL {
            self.confirm(out);
        }
    }

    /// Gives what has no other half.
    pub fn alone(&mut self, mut transaction: Transaction, out: &mut Vec<Transaction>) {
        self.complete(&mut transaction);
        out.push(transaction);
    }

    /// One direction has ended.
    pub fn end(&mut self, side: Side, close: Close) {
        let index = usize::from(side == Side::Server);
        if let Some(closed) = self.closed.get_mut(index) {
            *closed = Some(close);
        }
    }

    /// Both directions have ended: gives what was on trial, and the questions that wait.
    pub fn close(&mut self, waiting: impl ExactSizeIterator<Item = Transaction>, out: &mut Vec<Transaction>) {
        if waiting.len() == 0 {
            self.confirm(out);
        }
        let sure = self.trust == Trust::Certain || self.trial.is_empty() && self.trust == Trust::Trial;
        self.refute(out);
        let reset = self.closed.contains(&Some(Close::Reset));
        let [_, server] = self.closed;
        for mut transaction in waiting {
            if reset {
                transaction.marks.set(Marks::RESET);
            }
            // After a gap, the answer may have been in it.
            if sure && (reset || server == Some(Close::Finished)) && !self.after_gap {
                transaction.outcome = Outcome::NoResponse;
            }
            self.alone(transaction, out);
        }
    }

    /// Whether the first question that waits is the one that is answered next.
    pub fn is_certain(&self) -> bool {
        matches!(self.trust, Trust::Certain | Trust::Draining)
    }

    /// Whether it is certain who asks and who answers.
    pub fn proved(&self) -> bool {
        self.proved
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Whether everything that was said in either direction had been received when this was asked.
    fn quiet(&self, span: &Span) -> bool {
        span.ack != 0
            && match self.heard {
                Heard::Nothing => true,
                Heard::Unplaced => false,
                Heard::From(start) => start == span.ack && self.trust != Trust::Trial,
                Heard::To { end, ack } => end == span.ack && ack == span.start,
            }
    }

    fn confirm(&mut self, out: &mut Vec<Transaction>) {
        self.memory = 0;
        self.proved |= !self.trial.is_empty();
        for pair in std::mem::take(&mut self.trial) {
            self.alone(pair.whole(), out);
        }
        if self.trust == Trust::Trial {
            self.trust = Trust::Certain;
        }
    }

    fn refute(&mut self, out: &mut Vec<Transaction>) {
        self.memory = 0;
        self.trust = Trust::Lost;
        for Pair { asked, answer } in std::mem::take(&mut self.trial) {
            self.alone(asked, out);
            self.alone(answer, out);
        }
    }

    /// Adds what is told of every transaction.
    fn complete(&self, transaction: &mut Transaction) {
        if self.after_gap {
            transaction.marks.set(Marks::AFTER_GAP);
        }
        let len = |span: &Span| i64::try_from(span.end - span.start).unwrap_or(i64::MAX);
        let request = transaction
            .request
            .as_ref()
            .map(|request| len(&request.half.span));
        let response = transaction
            .response
            .as_ref()
            .map(|response| len(&response.half.span));
        let total = request.unwrap_or(0).saturating_add(response.unwrap_or(0));
        let [of_request, of_response, of_both] = self.sizes;
        let sizes = [
            (of_request, request),
            (of_response, response),
            (of_both, Some(total)),
        ];
        let sizes = sizes
            .into_iter()
            .filter_map(|(name, len)| Some((name, Value::Int(len?))));
        transaction.fields.extend(sizes);
    }
}

impl Pair {
    fn whole(self) -> Transaction {
        let Self { mut asked, answer } = self;
        asked.response = answer.response;
        asked.outcome = answer.outcome;
        asked.marks.set(answer.marks);
        asked.fields.extend(answer.fields);
        asked
    }

    fn cost(&self) -> usize {
        cost(&self.asked) + cost(&self.answer)
    }
}

/// Bytes that a transaction holds, roughly.
pub(crate) fn cost(transaction: &Transaction) -> usize {
    let request = transaction.request.as_ref().map_or(0, |request| {
        request.method.len() + request.path.len() + request.half.cost()
    });
    let response = transaction
        .response
        .as_ref()
        .map_or(0, |response| response.half.cost());
    let field = |(_, value): &(&str, Value)| {
        size_of::<(&str, Value)>()
            + match value {
                Value::Text(text) => text.len(),
                Value::Int(_) | Value::Bool(_) => 0,
            }
    };
    let fields = transaction.fields.iter().map(field).sum::<usize>();
    size_of::<Transaction>() + request + response + fields
}
