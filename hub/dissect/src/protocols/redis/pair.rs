//! Which reply answers which command, what answers nothing, and what errors mean.

use std::collections::VecDeque;

use super::command::{Command, Effect, shown};
use super::seen::{Kind, Seen};
use crate::Counters;
use crate::call::{Marks, Outcome, Value, text_of};
use crate::limits::{KEY_BYTES, PENDING};
use crate::protocols::order::{Order, cost};
use crate::protocols::{Half, Next, Request, Response, Side, Span, Transaction};
use crate::queue;
use crate::tcp::Close;

/// Fields that most calls have: the command in three ways, what came of it, sizes.
const FIELDS: usize = 8;

/// What is kept of a reply.
#[derive(Debug)]
pub(super) struct Reply {
    kind: Kind,
    /// The first error in it, in the server's words.
    error: String,
    /// What it says, if it may be a message rather than an answer.
    message: Option<Published>,
    resp3: bool,
}

/// What a server says unasked, or to confirm a subscription.
#[derive(Debug)]
struct Published {
    /// Its first word.
    kind: String,
    channel: String,
}

/// What a server publishes in version 2, where it is an array like any other.
pub(super) const MESSAGES: &[&str] = &["message", "pmessage", "smessage"];

/// How it confirms.
const CONFIRMATIONS: &[&str] = &[
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
];

/// What waits for its other half.
pub(super) struct Pairing {
    order: Order,
    waiting: VecDeque<Waiting>,
    memory: usize,
    version: &'static str,
    /// Whether the connection has subscribed to anything.
    subscribed: bool,
    replies: Replies,
    /// Directions in which messages may be missing since the last frame.
    lost_client: bool,
    lost_server: bool,
    next: Option<Next>,
}

struct Waiting {
    asked: Transaction,
    effect: Effect,
    /// Confirmations that are still to come.
    confirmations: u64,
    /// What has come.
    answer: Option<Transaction>,
}

/// Whether commands are answered (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    /// From the next but one on.
    Skip,
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
        Self {
            order: Order::new(
                joined,
                ["redis_request_size", "redis_response_size", "redis_total_size"],
            ),
            waiting: VecDeque::new(),
            memory: 0,
            // Every connection begins with version 2.
            version: if joined { "" } else { "RESP2" },
            subscribed: false,
            replies: Replies::On,
            lost_client: false,
            lost_server: false,
            next: None,
        }
    }

    /// What comes after Redis, if anything does.
    pub fn next(&self) -> Option<Next> {
        self.next.clone()
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

    /// Takes a command.
    pub fn request(
        &mut self,
        command: Command,
        half: Half,
        reset: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        self.settle(out);
        let waits = self.order.ask(&half.span, !self.waiting.is_empty(), out);
        let (effect, arguments) = (command.effect, command.arguments);
        let transaction = self.asked(command, half, reset);
        if !waits {
            return self.order.alone(transaction, out);
        }
        let silent = match (effect, self.replies) {
            (Effect::RepliesOn, _) => {
                self.replies = Replies::On;
                false
            }
            (Effect::RepliesOff, _) => {
                self.replies = Replies::Off;
                true
            }
            (Effect::RepliesSkip, Replies::On) => {
                self.replies = Replies::Skip;
                true
            }
            (_, Replies::Skip) => {
                self.replies = Replies::On;
                true
            }
            (_, replies) => replies == Replies::Off,
        };
        if silent {
            return self.order.alone(transaction, out);
        }
        if self.waiting.len() >= PENDING {
            counters.pending_dropped += 1;
            self.order.contradict(out);
            // Who asks so much without being answered goes on doing so, and needs the queue's room again.
            self.give_waiting(out);
            return self.order.alone(transaction, out);
        }
        let confirms = matches!(effect, Effect::Confirms(_));
        self.memory += cost(&transaction);
        let waiting = Waiting {
            asked: transaction,
            effect,
            confirmations: if confirms { arguments.max(1) } else { 1 },
            answer: None,
        };
        queue::push(&mut self.waiting, waiting);
    }

    /// Takes a reply, or a push.
    pub fn reply(&mut self, reply: Reply, half: Half, reset: bool, out: &mut Vec<Transaction>) {
        self.settle(out);
        if reply.resp3 {
            self.version = "RESP3";
        }
        if !self.order.hear(&half.span) {
            self.order.contradict(out);
            self.give_up(out);
        }
        let unasked = self.is_unasked(&reply);
        let span = half.span.clone();
        let kind = reply.kind;
        let answer = self.answer(reply, half, reset, unasked);
        if unasked {
            return self.order.alone(answer, out);
        }
        let fits = self.waiting.front().is_some_and(|front| {
            let request = front.asked.request.as_ref();
            request.is_some_and(|request| self.order.fits(&request.half.span, &span))
        });
        if !fits {
            self.order.contradict(out);
            self.give_up(out);
            return self.order.alone(answer, out);
        }
        let Some(front) = self.waiting.front_mut() else {
            return;
        };
        match &mut front.answer {
            Some(so_far) => extend(so_far, &span),
            None => front.answer = Some(answer),
        }
        // A refusal is one for all channels.
        front.confirmations = if kind == Kind::Error {
            0
        } else {
            front.confirmations - 1
        };
        if front.confirmations > 0 {
            return;
        }
        let Some(Waiting {
            asked,
            effect,
            answer: Some(answer),
            ..
        }) = self.waiting.pop_front()
        else {
            return;
        };
        self.memory -= cost(&asked);
        if kind != Kind::Error {
            self.takes_effect(effect, kind);
        }
        self.order.pair(asked, answer, out);
    }

    /// Whether a value would be a message to a subscriber.
    pub fn is_message(&self, seen: &Seen) -> bool {
        let published = |message: &Published| MESSAGES.contains(&message.kind.as_str());
        self.subscribed && published_in(seen).as_ref().is_some_and(published)
    }

    /// Whether the client has subscribed to something.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// One direction has ended.
    pub fn end(&mut self, side: Side, close: Close) {
        self.order.end(side, close);
    }

    /// Gives everything that waits.
    pub fn close(&mut self, out: &mut Vec<Transaction>) {
        self.settle(out);
        self.memory = 0;
        let waiting = std::mem::take(&mut self.waiting);
        self.order
            .close(waiting.into_iter().map(|waiting| waiting.asked), out);
    }

    /// Bytes that wait, roughly.
    pub fn memory(&self) -> usize {
        self.memory + queue::spare(&self.waiting) + self.order.memory()
    }

    /// Draws the consequences of what was lost since the last frame.
    fn settle(&mut self, out: &mut Vec<Transaction>) {
        for (side, lost) in [
            (Side::Server, std::mem::take(&mut self.lost_server)),
            (Side::Client, std::mem::take(&mut self.lost_client)),
        ] {
            if lost && !self.order.lose(side, out) {
                self.give_up(out);
            }
        }
    }

    /// Gives the commands that wait, without answers.
    fn give_up(&mut self, out: &mut Vec<Transaction>) {
        self.give_waiting(out);
        self.waiting = VecDeque::new();
    }

    fn give_waiting(&mut self, out: &mut Vec<Transaction>) {
        self.memory = 0;
        for waiting in self.waiting.drain(..) {
            self.order.alone(waiting.asked, out);
            if let Some(answer) = waiting.answer {
                self.order.alone(answer, out);
            }
        }
    }

    /// Whether a reply answers nothing: it is published, or confirms what nobody waits for.
    fn is_unasked(&self, reply: &Reply) -> bool {
        let Some(message) = &reply.message else {
            return false;
        };
        let front = self.waiting.front();
        let confirms = front.is_some_and(|front| match front.effect {
            Effect::Confirms(kind) => message.kind == kind,
            _ => false,
        });
        if confirms {
            return false;
        }
        // In version 2, an array of such words may as well be an answer.
        reply.kind == Kind::Push || self.subscribed || front.is_none()
    }

    fn takes_effect(&mut self, effect: Effect, kind: Kind) {
        match effect {
            Effect::Confirms(_) => self.subscribed = true,
            Effect::Version => self.version = if kind == Kind::Map { "RESP3" } else { "RESP2" },
            Effect::Replicates => self.next = Some(Next::Named("redis replication".to_owned())),
            _ => {}
        }
    }

    fn asked(&self, command: Command, half: Half, reset: bool) -> Transaction {
        let mut fields = Vec::with_capacity(FIELDS);
        let method = command.method();
        fields.push(("redis_type", Value::Text(command.verb)));
        let path = command.key.clone().or(command.channel).unwrap_or_default();
        fields.push(("redis_command", Value::Text(command.line.into())));
        if let Some(key) = command.key {
            fields.push(("redis_key", Value::Text(key.into())));
        }
        Transaction {
            version: self.version,
            request: Some(Box::new(Request {
                method,
                path,
                half,
                ..Request::default()
            })),
            marks: marks(reset),
            fields,
            ..Transaction::default()
        }
    }

    fn answer(&self, reply: Reply, half: Half, reset: bool, unasked: bool) -> Transaction {
        let mut fields = vec![("redis_reply", Value::Text(reply.kind.as_str().into()))];
        let mut result = Outcome::Ok;
        if !reply.error.is_empty() {
            let name = reply.error.split(' ').next().unwrap_or_default();
            result = outcome(name);
            fields.push(("error", Value::Text(name.to_owned().into())));
            fields.push(("redis_error", Value::Text(reply.error.into())));
        }
        if let Some(message) = reply.message.filter(|_| unasked) {
            fields.push((
                "redis_type",
                Value::Text(message.kind.to_ascii_uppercase().into()),
            ));
            fields.push(("redis_channel", Value::Text(message.channel.into())));
        }
        Transaction {
            version: self.version,
            response: Some(Box::new(Response { status: None, half })),
            outcome: result,
            marks: marks(reset),
            fields,
            ..Transaction::default()
        }
    }
}

impl Reply {
    /// What is kept of a value.
    pub fn new(seen: &Seen) -> Self {
        Self {
            kind: seen.kind,
            error: text_of(&seen.error).into_owned(),
            message: published_in(seen),
            resp3: seen.resp3,
        }
    }
}

/// What a value says unasked, if it does, or may.
fn published_in(seen: &Seen) -> Option<Published> {
    if !matches!(seen.kind, Kind::Push | Kind::Array) {
        return None;
    }
    let kind = std::str::from_utf8(seen.texts.get(0).unwrap_or_default()).ok()?;
    let known = MESSAGES.contains(&kind) || CONFIRMATIONS.contains(&kind);
    let array = seen.kind == Kind::Array && matches!(seen.elements, 3 | 4) && known;
    if seen.kind != Kind::Push && !array {
        return None;
    }
    // Before the channel stands the pattern that it fits.
    let channel = if kind == "pmessage" { 2 } else { 1 };
    let channel = seen.texts.known(channel, KEY_BYTES);
    Some(Published {
        kind: kind.to_owned(),
        channel: channel.map(shown).unwrap_or_default(),
    })
}

fn extend(answer: &mut Transaction, span: &Span) {
    if let Some(response) = &mut answer.response {
        response.half.span.extend(span);
        response.half.body_len = response.half.span.end - response.half.span.start;
        response.half.gap |= span.missing > 0;
    }
}

fn marks(reset: bool) -> Marks {
    if reset { Marks::RESET } else { Marks::default() }
}

/// Whose fault an error is, by its name. The server's are those that another client would meet as well; the others,
/// and all names that servers' scripts and modules make up, are about the command.
fn outcome(name: &str) -> Outcome {
    match name {
        "BUSY" | "CLUSTERDOWN" | "FAILOVER" | "IOERR" | "LOADING" | "MASTERDOWN" | "MISCONF"
        | "NOMASTERLINK" | "NOREPLICAS" | "NOTREADY" | "OOM" | "READONLY" | "STALE" | "TRYAGAIN"
        | "UNBLOCKED" => Outcome::ServerError,
        _ => Outcome::ClientError,
    }
}
