//! Which answer is that to which question.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::VERSION;
use super::backend::{Answer, Ends, Failure};
use super::frontend::Question;
use super::so_far::{SoFar, int, marks};
use super::statement::{Prepared, Statement};
use super::wire::HEADER_BYTES;
use crate::Counters;
use crate::call::{Outcome, Value};
use crate::limits::PENDING;
use crate::protocols::order::{Order, cost};
use crate::protocols::{Half, Request, Side, Span, Transaction};
use crate::queue;
use crate::tcp::Close;

/// Fields that most calls have: the text, who asked for it, what came of it, sizes.
const FIELDS: usize = 12;

/// What waits for its other half.
pub(super) struct Pairing {
    order: Order,
    waiting: VecDeque<Waiting>,
    memory: usize,
    /// Whether the server passes over everything up to the next sync, after an error.
    skipping: bool,
    user: String,
    database: String,
    /// Directions in which messages may be missing since the last frame.
    lost_client: bool,
    lost_server: bool,
}

struct Waiting {
    kind: Kind,
    asked: Transaction,
    /// Bytes of it, roughly.
    cost: usize,
    so_far: Option<SoFar>,
}

/// What ends the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// That the server is ready, or an error that ends the connection.
    Startup,
    /// That the server is ready.
    Query,
    /// That a statement is done.
    Execute,
    /// That it is described.
    Prepare,
    /// That the server is ready; no call, unless it fails. What a statement is that was prepared before may come first.
    Sync,
}

/// A message that was seen as the bytes of `span`.
pub(super) fn half(span: Span, gap: bool) -> Half {
    Half {
        body_len: span.end - span.start,
        gap: gap || span.missing > 0,
        span,
        ..Half::default()
    }
}

impl Pairing {
    /// A connection that was seen from its begin, or not.
    pub fn new(joined: bool) -> Self {
        let sizes = [
            "postgresql_request_size",
            "postgresql_response_size",
            "postgresql_total_size",
        ];
        Self {
            order: Order::new(joined, sizes),
            waiting: VecDeque::new(),
            memory: 0,
            skipping: false,
            user: String::new(),
            database: String::new(),
            lost_client: false,
            lost_server: false,
        }
    }

    /// Whether it is certain which end is the client.
    pub fn proved(&self) -> bool {
        self.order.proved()
    }

    /// Messages of one direction may be missing from here on.
    pub fn lose(&mut self, side: Side) {
        match side {
            Side::Client => self.lost_client = true,
            Side::Server => self.lost_server = true,
        }
    }

    /// Takes a question.
    pub fn question(
        &mut self,
        question: Question,
        half: Half,
        reset: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        self.settle(out);
        if let Question::Copied(bytes) = question {
            return self.copied(bytes, &half.span);
        }
        if let Question::Startup { user, database } = &question {
            self.user.clone_from(user);
            self.database.clone_from(database);
        }
        let synced = matches!(question, Question::Prepare { synced: true, .. });
        let (kind, asked) = self.asked(question, half, reset);
        let Some(kind) = kind else {
            // Another connection's server is spoken to, which does not answer.
            return self.order.alone(asked, out);
        };
        let span = asked.request.as_ref().map(|request| request.half.span.clone());
        let span = span.unwrap_or_default();
        if !self.order.ask(&span, !self.waiting.is_empty(), out) {
            if kind != Kind::Sync {
                self.order.alone(asked, out);
            }
            return;
        }
        if self.waiting.len() >= PENDING {
            counters.pending_dropped += 1;
            self.order.contradict(out);
            self.give_up(out);
            if kind != Kind::Sync {
                self.order.alone(asked, out);
            }
            return;
        }
        if self.skipping && kind != Kind::Sync {
            self.skipped(asked, out);
        } else {
            self.wait(kind, asked);
        }
        if synced {
            // The last of its bytes.
            let end = Span {
                start: span.end.saturating_sub(HEADER_BYTES as u64),
                ..span
            };
            let (_, sync) = self.asked(Question::Sync, self::half(end, false), reset);
            self.wait(Kind::Sync, sync);
        } else if kind == Kind::Sync {
            self.skipping = false;
        }
        self.skipping &= !synced;
    }

    /// Takes an answer, or a part of one.
    pub fn answer(
        &mut self,
        answer: Answer,
        half: Half,
        reset: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        self.settle(out);
        if !self.order.hear(&half.span) {
            self.order.contradict(out);
            self.give_up(out);
        }
        let ends = answer.ends;
        let fatal = answer.error.as_deref().is_some_and(Failure::is_fatal);
        let failed = answer.error.is_some();
        if ends == Ends::Notification {
            return self.orphan(answer, half, reset, out);
        }
        if ends == Ends::Description && self.waiting.is_empty() && self.order.is_certain() {
            // It was asked for with a flush, which is no question.
            return;
        }
        let front = self.waiting.front();
        let fits = front.is_some_and(|front| {
            let received = front.asked.request.as_ref();
            received.is_some_and(|request| self.order.fits(&request.half.span, &half.span))
                && front.kind.takes(ends, failed)
        });
        if !fits {
            // A server that shuts down says so unasked.
            if !fatal {
                self.order.contradict(out);
                self.give_up(out);
            }
            return self.orphan(answer, half, reset, out);
        }
        let Some(front) = self.waiting.front_mut() else {
            return;
        };
        let kind = front.kind;
        match &mut front.so_far {
            Some(so_far) => so_far.add(answer, &half),
            None => front.so_far = Some(SoFar::new(answer, half, reset)),
        }
        if let Some(so_far) = &mut front.so_far {
            counters.texts_cut += u64::from(std::mem::take(&mut so_far.cut));
        }
        let done = match kind {
            Kind::Startup => matches!(ends, Ends::Ready(_)) || failed,
            Kind::Query | Kind::Sync => matches!(ends, Ends::Ready(_)) || fatal,
            Kind::Execute => ends == Ends::Statement,
            Kind::Prepare => true,
        };
        // What was cut off has been answered, as far as it will be known.
        if !done && ends != Ends::Nothing {
            return;
        }
        self.answered(out);
        if kind == Kind::Prepare
            && matches!(ends, Ends::Ready(_))
            && let Some(sync) = self.waiting.pop_front_if(|front| front.kind == Kind::Sync)
        {
            self.memory -= sync.cost;
        }
        if failed && matches!(kind, Kind::Execute | Kind::Prepare) {
            self.skip(out);
        }
    }

    /// One direction has ended.
    pub fn end(&mut self, side: Side, close: Close) {
        self.order.end(side, close);
    }

    /// Gives everything that waits.
    pub fn close(&mut self, out: &mut Vec<Transaction>) {
        self.settle(out);
        self.memory = 0;
        let mut waiting = std::mem::take(&mut self.waiting);
        // What was answered in part has an answer.
        while let Some(mut front) = waiting.pop_front_if(|front| front.so_far.is_some()) {
            if let Some(so_far) = &mut front.so_far {
                so_far.break_off();
            }
            self.give(front, out);
        }
        waiting.retain(|waiting| waiting.kind != Kind::Sync);
        self.order
            .close(waiting.into_iter().map(|waiting| waiting.asked), out);
    }

    /// Bytes that wait, roughly.
    pub fn memory(&self) -> usize {
        let waiting = self.memory + queue::spare(&self.waiting);
        waiting + self.order.memory() + self.user.len() + self.database.len()
    }

    /// Draws the consequences of what was lost since the last frame.
    fn settle(&mut self, out: &mut Vec<Transaction>) {
        for (side, lost) in [
            (Side::Server, std::mem::take(&mut self.lost_server)),
            (Side::Client, std::mem::take(&mut self.lost_client)),
        ] {
            if !lost {
                continue;
            }
            // What has come of an answer until now is certain to be that to the first question.
            let begun = self.waiting.front_mut().and_then(|front| front.so_far.as_mut());
            if side == Side::Server
                && self.order.is_certain()
                && let Some(begun) = begun
            {
                begun.break_off();
                self.answered(out);
            }
            if !self.order.lose(side, out) {
                self.give_up(out);
            }
        }
    }

    /// Gives the questions that wait, without answers.
    fn give_up(&mut self, out: &mut Vec<Transaction>) {
        self.memory = 0;
        self.skipping = false;
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.kind != Kind::Sync {
                self.order.alone(waiting.asked, out);
            }
            if let Some(mut so_far) = waiting.so_far {
                so_far.break_off();
                self.order.alone(so_far.transaction(), out);
            }
        }
    }

    fn wait(&mut self, kind: Kind, asked: Transaction) {
        let cost = cost(&asked);
        self.memory += cost;
        let waiting = Waiting {
            kind,
            asked,
            cost,
            so_far: None,
        };
        queue::push(&mut self.waiting, waiting);
    }

    /// Gives the first question that waits, with its answer.
    fn answered(&mut self, out: &mut Vec<Transaction>) {
        if let Some(front) = self.waiting.pop_front() {
            self.memory -= front.cost;
            self.give(front, out);
        }
    }

    fn give(&mut self, waiting: Waiting, out: &mut Vec<Transaction>) {
        let Waiting {
            kind, asked, so_far, ..
        } = waiting;
        let Some(so_far) = so_far else { return };
        if kind != Kind::Sync || so_far.error.is_some() {
            self.order.pair(asked, so_far.transaction(), out);
        }
    }

    /// Gives the questions that the server passes over, after an error.
    fn skip(&mut self, out: &mut Vec<Transaction>) {
        while let Some(waiting) = self.waiting.pop_front_if(|front| front.kind != Kind::Sync) {
            self.memory -= waiting.cost;
            self.skipped(waiting.asked, out);
        }
        self.skipping = self.waiting.is_empty();
    }

    fn skipped(&mut self, mut asked: Transaction, out: &mut Vec<Transaction>) {
        asked.fields.push(("postgresql_skipped", Value::Bool(true)));
        self.order.alone(asked, out);
    }

    /// Gives an answer that answers nothing, or nothing that is known.
    fn orphan(&mut self, answer: Answer, mut half: Half, reset: bool, out: &mut Vec<Transaction>) {
        // Without its question, it is not known of how many such parts an answer is.
        let fatal = answer.error.as_deref().is_some_and(Failure::is_fatal);
        half.gap |= answer.ends == Ends::Statement && !fatal;
        let (ends, channel) = (answer.ends, answer.channel.clone());
        let mut transaction = SoFar::new(answer, half, reset).transaction();
        if ends == Ends::Notification {
            transaction.fields = vec![
                ("postgresql_command", Value::Text("NOTIFY".into())),
                ("postgresql_channel", Value::Text(channel.into())),
            ];
        } else if matches!(ends, Ends::Ready(_) | Ends::Description) && transaction.outcome == Outcome::Ok {
            // It tells of no statement, and no error.
            return;
        }
        self.order.alone(transaction, out);
    }

    /// A table has followed the question that waits.
    fn copied(&mut self, bytes: u64, span: &Span) {
        // A sync that comes while a server takes a table is not answered; the client sends another one behind it.
        while self.waiting.len() > 1
            && let Some(sync) = self.waiting.pop_back_if(|back| back.kind == Kind::Sync)
        {
            self.memory -= sync.cost;
        }
        let Some(front) = self.waiting.front_mut() else {
            return;
        };
        front.asked.fields.push(("postgresql_copied_bytes", int(bytes)));
        if let Some(request) = &mut front.asked.request {
            request.half.span.extend(span);
            request.half.body_len = request.half.span.end - request.half.span.start;
            request.half.gap |= span.missing > 0;
        }
    }

    fn asked(&self, question: Question, half: Half, reset: bool) -> (Option<Kind>, Transaction) {
        let mut fields = Vec::with_capacity(FIELDS);
        let text = |text: &str| Value::Text(text.to_owned().into());
        let of_statement = |statement: &Statement, fields: &mut Vec<_>| {
            fields.push(("postgresql_query", text(&statement.text)));
            (statement.verb.clone(), statement.table.clone())
        };
        let named = |name: &'static str| (Cow::Borrowed(name), String::new());
        let (kind, (method, path)) = match question {
            Question::Startup { database, .. } => (Some(Kind::Startup), ("STARTUP".into(), database)),
            Question::Query(Statement { text, verb, table }) => {
                fields.push(("postgresql_query", Value::Text(text.into())));
                (Some(Kind::Query), (verb, table))
            }
            Question::Execute(Prepared::Known(name, statement)) => {
                if !name.is_empty() {
                    fields.push(("postgresql_statement", Value::Text(name.into())));
                }
                (Some(Kind::Execute), of_statement(&statement, &mut fields))
            }
            Question::Execute(Prepared::Unknown(name)) => {
                fields.push(("postgresql_statement", Value::Text(name.into())));
                fields.push(("unresolved", Value::Text("postgresql_query".into())));
                (Some(Kind::Execute), named("EXECUTE"))
            }
            Question::Execute(Prepared::Portal(name)) => {
                fields.push(("postgresql_portal", Value::Text(name.into())));
                fields.push(("unresolved", Value::Text("postgresql_query".into())));
                (Some(Kind::Execute), named("EXECUTE"))
            }
            Question::Prepare { name, statement, .. } => {
                if !name.is_empty() {
                    fields.push(("postgresql_statement", Value::Text(name.into())));
                }
                let (_, table) = of_statement(&statement, &mut fields);
                (Some(Kind::Prepare), ("PARSE".into(), table))
            }
            Question::Function(number) => (Some(Kind::Query), ("FUNCTION".into(), number.to_string())),
            Question::Sync | Question::Copied(_) => (Some(Kind::Sync), named("SYNC")),
            Question::Cancel => (None, named("CANCEL")),
        };
        for (name, known) in [
            ("postgresql_user", &self.user),
            ("postgresql_database", &self.database),
        ] {
            if !known.is_empty() {
                fields.push((name, text(known)));
            }
        }
        let transaction = Transaction {
            version: VERSION,
            request: Some(Box::new(Request {
                method,
                path,
                half,
                ..Request::default()
            })),
            marks: marks(reset),
            fields,
            ..Transaction::default()
        };
        (kind, transaction)
    }
}

impl Kind {
    /// Whether an answer that ends so can be to it.
    fn takes(self, ends: Ends, failed: bool) -> bool {
        match self {
            Self::Startup | Self::Query => ends != Ends::Notification,
            Self::Execute => !matches!(ends, Ends::Ready(_)),
            Self::Prepare => ends != Ends::Statement || failed,
            // Nothing else but an error of the end itself, as of a deferred constraint.
            Self::Sync => matches!(ends, Ends::Ready(_) | Ends::Description | Ends::Nothing) || failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_waits_behind_statements_that_were_prepared() {
        let mut pairing = Pairing::new(false);
        let (mut counters, mut out) = (Counters::default(), Vec::new());
        for _ in 0..100 {
            let question = Question::Prepare {
                name: "s1".to_owned(),
                statement: Arc::new(Statement::new(b"SELECT 1", &mut counters)),
                synced: true,
            };
            pairing.question(question, Half::default(), false, &mut counters, &mut out);
            let answer = Answer {
                ends: Ends::Ready(b'I'),
                ..Answer::default()
            };
            pairing.answer(answer, Half::default(), false, &mut counters, &mut out);
        }
        assert_eq!((out.len(), pairing.waiting.len(), pairing.memory), (100, 0, 0));
    }
}
