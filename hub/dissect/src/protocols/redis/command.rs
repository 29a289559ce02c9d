//! What a command is called, which key it is about, and how it is shown.

use std::borrow::Cow;

use super::seen::Texts;
use crate::limits::KEY_BYTES;

/// A command, as it is shown.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// Its name, in upper case.
    pub verb: Cow<'static, str>,
    /// The subcommand, in upper case, where the name alone says nothing.
    pub sub: Option<String>,
    /// Its first key, as far as it is shown.
    pub key: Option<String>,
    /// Its first channel.
    pub channel: Option<String>,
    /// All of it in a line, as far as it is kept.
    pub line: String,
    /// Arguments, without the name.
    pub arguments: u64,
    pub effect: Effect,
}

/// What a command does to the answers that come after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Effect {
    #[default]
    None,
    /// Each channel is confirmed: by messages of this name.
    Confirms(&'static str),
    /// `HELLO`: the version may change.
    Version,
    /// `CLIENT REPLY`: no answers, to this and all that come.
    RepliesOff,
    /// No answer to this nor to the next.
    RepliesSkip,
    /// Answers again.
    RepliesOn,
    /// What comes after the answer is replication.
    Replicates,
}

/// Where the first key stands among the arguments.
#[derive(Clone, Copy)]
enum At {
    Nowhere,
    /// This argument.
    Key(usize),
    /// The first behind a number of keys, which is this argument.
    Counted(usize),
    /// The first behind the word `STREAMS`.
    Streams,
    /// This argument is a channel.
    Channel(usize),
}

/// What most commands are, and where their keys are. None of them has any effect on what comes next.
const MOST: &[(&str, At)] = &[
    ("GET", At::Key(1)),
    ("SET", At::Key(1)),
    ("DEL", At::Key(1)),
    ("INCR", At::Key(1)),
    ("EXPIRE", At::Key(1)),
    ("HGET", At::Key(1)),
    ("HSET", At::Key(1)),
    ("HGETALL", At::Key(1)),
    ("LPUSH", At::Key(1)),
    ("RPUSH", At::Key(1)),
    ("LPOP", At::Key(1)),
    ("RPOP", At::Key(1)),
    ("LRANGE", At::Key(1)),
    ("SADD", At::Key(1)),
    ("ZADD", At::Key(1)),
    ("MGET", At::Key(1)),
    ("EXISTS", At::Key(1)),
    ("SETEX", At::Key(1)),
    ("TTL", At::Key(1)),
    ("XADD", At::Key(1)),
    ("PING", At::Nowhere),
    ("MULTI", At::Nowhere),
    ("EXEC", At::Nowhere),
];

/// The names in [`MOST`] as numbers, which are compared at once.
const MOST_PACKED: [u64; MOST.len()] = {
    let mut names = [0; MOST.len()];
    let mut n = 0;
    while n < MOST.len() {
        names[n] = packed(MOST[n].0.as_bytes());
        n += 1;
    }
    names
};

/// A word of at most eight letters as a number, in upper case; 0 for a longer one.
const fn packed(word: &[u8]) -> u64 {
    let mut letters = [0; 8];
    if word.len() > letters.len() {
        return 0;
    }
    let mut n = 0;
    while n < word.len() {
        letters[n] = word[n].to_ascii_uppercase();
        n += 1;
    }
    u64::from_le_bytes(letters)
}

/// Whether a command's name says nothing without the word behind it (`COMMAND LIST` of Redis 7.4, those with subcommands).
fn is_container(verb: &str) -> bool {
    matches!(
        verb,
        "ACL"
            | "CLIENT"
            | "CLUSTER"
            | "COMMAND"
            | "CONFIG"
            | "DEBUG"
            | "FUNCTION"
            | "LATENCY"
            | "MEMORY"
            | "MODULE"
            | "OBJECT"
            | "PUBSUB"
            | "SCRIPT"
            | "SENTINEL"
            | "SLOWLOG"
            | "XGROUP"
            | "XINFO"
    )
}

/// Where commands have their first key that have none, or not as their first argument.
fn listed(verb: &str) -> Option<At> {
    let place = match verb {
        "ACL" | "ASKING" | "AUTH" | "BGREWRITEAOF" | "BGSAVE" | "CLIENT" | "CLUSTER" | "COMMAND"
        | "CONFIG" | "DBSIZE" | "DISCARD" | "ECHO" | "EXEC" | "FAILOVER" | "FLUSHALL" | "FLUSHDB"
        | "FUNCTION" | "HELLO" | "INFO" | "KEYS" | "LASTSAVE" | "LATENCY" | "LOLWUT" | "MODULE"
        | "MONITOR" | "MULTI" | "PING" | "PSYNC" | "PUBSUB" | "QUIT" | "RANDOMKEY" | "READONLY"
        | "READWRITE" | "REPLCONF" | "REPLICAOF" | "RESET" | "ROLE" | "SAVE" | "SCAN" | "SCRIPT"
        | "SELECT" | "SENTINEL" | "SHUTDOWN" | "SLAVEOF" | "SLOWLOG" | "SWAPDB" | "SYNC" | "TIME"
        | "UNWATCH" | "WAIT" | "WAITAOF" => At::Nowhere,
        "BITOP" | "DEBUG" | "MEMORY" | "OBJECT" | "XGROUP" | "XINFO" => At::Key(2),
        "MIGRATE" => At::Key(3),
        "LMPOP" | "SINTERCARD" | "ZDIFF" | "ZINTER" | "ZINTERCARD" | "ZMPOP" | "ZUNION" => At::Counted(1),
        "BLMPOP" | "BZMPOP" | "EVAL" | "EVALSHA" | "EVALSHA_RO" | "EVAL_RO" | "FCALL" | "FCALL_RO" => {
            At::Counted(2)
        }
        "XREAD" | "XREADGROUP" => At::Streams,
        "PSUBSCRIBE" | "PUBLISH" | "PUNSUBSCRIBE" | "SPUBLISH" | "SSUBSCRIBE" | "SUBSCRIBE"
        | "SUNSUBSCRIBE" | "UNSUBSCRIBE" => At::Channel(1),
        _ => return None,
    };
    Some(place)
}

/// Whether it is one of the other commands that servers have, by which connections are recognised.
fn is_usual(verb: &str) -> bool {
    matches!(
        verb,
        "APPEND"
            | "BLMOVE"
            | "BLPOP"
            | "BRPOP"
            | "BRPOPLPUSH"
            | "BZPOPMAX"
            | "BZPOPMIN"
            | "BITCOUNT"
            | "BITFIELD"
            | "BITPOS"
            | "COPY"
            | "DECR"
            | "DECRBY"
            | "DEL"
            | "DUMP"
            | "EXISTS"
            | "EXPIRE"
            | "EXPIREAT"
            | "EXPIRETIME"
            | "GEOADD"
            | "GEODIST"
            | "GEOPOS"
            | "GEORADIUS"
            | "GEOSEARCH"
            | "GET"
            | "GETBIT"
            | "GETDEL"
            | "GETEX"
            | "GETRANGE"
            | "GETSET"
            | "HDEL"
            | "HEXISTS"
            | "HGET"
            | "HGETALL"
            | "HINCRBY"
            | "HINCRBYFLOAT"
            | "HKEYS"
            | "HLEN"
            | "HMGET"
            | "HMSET"
            | "HSCAN"
            | "HSET"
            | "HSETNX"
            | "HSTRLEN"
            | "HVALS"
            | "INCR"
            | "INCRBY"
            | "INCRBYFLOAT"
            | "LINDEX"
            | "LINSERT"
            | "LLEN"
            | "LMOVE"
            | "LPOP"
            | "LPOS"
            | "LPUSH"
            | "LPUSHX"
            | "LRANGE"
            | "LREM"
            | "LSET"
            | "LTRIM"
            | "MGET"
            | "MOVE"
            | "MSET"
            | "MSETNX"
            | "PERSIST"
            | "PEXPIRE"
            | "PEXPIREAT"
            | "PFADD"
            | "PFCOUNT"
            | "PFMERGE"
            | "PSETEX"
            | "PTTL"
            | "RENAME"
            | "RENAMENX"
            | "RESTORE"
            | "RPOP"
            | "RPOPLPUSH"
            | "RPUSH"
            | "RPUSHX"
            | "SADD"
            | "SCARD"
            | "SDIFF"
            | "SET"
            | "SETBIT"
            | "SETEX"
            | "SETNX"
            | "SETRANGE"
            | "SINTER"
            | "SISMEMBER"
            | "SMEMBERS"
            | "SMISMEMBER"
            | "SMOVE"
            | "SORT"
            | "SPOP"
            | "SRANDMEMBER"
            | "SREM"
            | "SSCAN"
            | "STRLEN"
            | "SUBSTR"
            | "SUNION"
            | "TOUCH"
            | "TTL"
            | "TYPE"
            | "UNLINK"
            | "WATCH"
            | "XACK"
            | "XADD"
            | "XAUTOCLAIM"
            | "XCLAIM"
            | "XDEL"
            | "XLEN"
            | "XPENDING"
            | "XRANGE"
            | "XREVRANGE"
            | "XTRIM"
            | "ZADD"
            | "ZCARD"
            | "ZCOUNT"
            | "ZINCRBY"
            | "ZLEXCOUNT"
            | "ZMSCORE"
            | "ZPOPMAX"
            | "ZPOPMIN"
            | "ZRANGE"
            | "ZRANGEBYLEX"
            | "ZRANGEBYSCORE"
            | "ZRANGESTORE"
            | "ZRANK"
            | "ZREM"
            | "ZREMRANGEBYRANK"
            | "ZREMRANGEBYSCORE"
            | "ZREVRANGE"
            | "ZREVRANGEBYSCORE"
            | "ZREVRANK"
            | "ZSCAN"
            | "ZSCORE"
    )
}

/// The longest name of a command.
pub(super) const NAME_BYTES: usize = 32;

/// Whether a word names a command that servers have, or a module's (`JSON.GET`).
pub(super) fn is_known(name: &[u8]) -> bool {
    if !is_name(name) {
        return false;
    }
    let name = text(name).to_ascii_uppercase();
    // What stands before the dot is the module's name.
    is_usual(&name) || is_container(&name) || listed(&name).is_some() || name.contains('.')
}

/// Whether a word may name a command.
pub(super) fn is_name(word: &[u8]) -> bool {
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    word.first().is_some_and(u8::is_ascii_alphabetic) && word.len() <= NAME_BYTES && word.iter().all(rest)
}

impl Command {
    /// A command of so many words, of which these were kept.
    pub fn new(words: &Texts, count: u64) -> Self {
        let first = words.get(0).unwrap_or_default();
        let number = packed(first);
        let usual = MOST_PACKED.iter().position(|usual| *usual == number);
        let usual = usual
            .and_then(|n| MOST.get(n))
            .filter(|(usual, _)| usual.len() == first.len());
        let (verb, sub, place, effect) = match usual {
            Some((usual, place)) => (Cow::Borrowed(*usual), None, *place, Effect::None),
            None => {
                let upper = |word: &[u8]| text(word).to_ascii_uppercase();
                let verb = upper(first);
                let sub = words.get(1).filter(|_| is_container(&verb)).map(upper);
                let place = place(&verb, sub.as_deref());
                let effect = effect(&verb, sub.as_deref(), words);
                (verb.into(), sub, place, effect)
            }
        };
        let word = |n: usize| words.known(n, KEY_BYTES).map(shown);
        let (key, channel) = match place {
            At::Nowhere => (None, None),
            At::Key(n) => (word(n), None),
            At::Channel(n) => (None, word(n)),
            At::Counted(n) => (
                words
                    .get(n)
                    .filter(|count| *count != b"0")
                    .and_then(|_| word(n + 1)),
                None,
            ),
            At::Streams => {
                let at = words
                    .iter()
                    .position(|word| word.eq_ignore_ascii_case(b"STREAMS"));
                (at.and_then(|at| word(at + 1)), None)
            }
        };
        Self {
            line: line(words, &verb, sub.as_deref()),
            verb,
            sub,
            key,
            channel,
            arguments: count.saturating_sub(1),
            effect,
        }
    }

    /// Name and subcommand.
    pub fn method(&self) -> Cow<'static, str> {
        match &self.sub {
            Some(sub) => format!("{} {sub}", self.verb).into(),
            None => self.verb.clone(),
        }
    }
}

fn place(verb: &str, sub: Option<&str>) -> At {
    let keyed = match (verb, sub) {
        ("OBJECT" | "XGROUP" | "XINFO", Some("HELP")) => false,
        ("OBJECT" | "XGROUP" | "XINFO", _) | ("MEMORY", Some("USAGE")) | ("DEBUG", Some("OBJECT")) => true,
        ("MEMORY" | "DEBUG", _) => false,
        _ => true,
    };
    if keyed {
        listed(verb).unwrap_or(At::Key(1))
    } else {
        At::Nowhere
    }
}

fn effect(verb: &str, sub: Option<&str>, words: &Texts) -> Effect {
    let on = words.get(2).map(<[u8]>::to_ascii_uppercase);
    match (verb, sub, on.as_deref()) {
        ("SUBSCRIBE", ..) => Effect::Confirms("subscribe"),
        ("PSUBSCRIBE", ..) => Effect::Confirms("psubscribe"),
        ("SSUBSCRIBE", ..) => Effect::Confirms("ssubscribe"),
        ("UNSUBSCRIBE", ..) => Effect::Confirms("unsubscribe"),
        ("PUNSUBSCRIBE", ..) => Effect::Confirms("punsubscribe"),
        ("SUNSUBSCRIBE", ..) => Effect::Confirms("sunsubscribe"),
        ("HELLO" | "RESET", ..) => Effect::Version,
        ("PSYNC" | "SYNC", ..) => Effect::Replicates,
        ("CLIENT", Some("REPLY"), Some(b"OFF")) => Effect::RepliesOff,
        ("CLIENT", Some("REPLY"), Some(b"SKIP")) => Effect::RepliesSkip,
        ("CLIENT", Some("REPLY"), Some(b"ON")) => Effect::RepliesOn,
        _ => Effect::None,
    }
}

/// The words with a space between them; without those that are a secret, as the server's own log leaves them out.
fn line(words: &Texts, verb: &str, sub: Option<&str>) -> String {
    let none = !matches!(verb, "AUTH" | "ACL" | "HELLO" | "MIGRATE" | "CONFIG" | "SENTINEL");
    let secret = |n: usize, word: &[u8]| match (verb, sub) {
        _ if none => false,
        ("AUTH", _) | ("ACL", Some("SETUSER")) => n > 0 && !word.eq_ignore_ascii_case(b"SETUSER"),
        // Behind `AUTH`, if there is one.
        ("HELLO", _) => n > 2,
        ("MIGRATE", _) => n > 5,
        ("CONFIG", Some("SET")) | ("SENTINEL", Some("SET" | "CONFIG")) => {
            let name = words
                .get(n.saturating_sub(1))
                .unwrap_or_default()
                .to_ascii_lowercase();
            let ends = |end: &&[u8]| name.ends_with(end);
            n > 2 && [&b"auth"[..], b"pass", b"-secret"].iter().any(ends)
        }
        _ => false,
    };
    let mut line = String::with_capacity(words.len_in_line());
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            line.push(' ');
        }
        if secret(n, word) {
            line.push_str("(redacted)");
        } else {
            line.push_str(&text(word));
        }
    }
    line
}

fn text(word: &[u8]) -> Cow<'_, str> {
    crate::call::text_of(word)
}

/// As much of a key as is shown.
pub(super) fn shown(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        // Between two characters.
        Ok(text) => text
            .get(..text.floor_char_boundary(KEY_BYTES))
            .unwrap_or(text)
            .to_owned(),
        Err(_) => String::from_utf8_lossy(key.get(..KEY_BYTES).unwrap_or(key)).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::COMMAND_BYTES;

    fn command(line: &str) -> Command {
        let mut texts = Texts::within(COMMAND_BYTES);
        let words: Vec<&str> = line.split(' ').collect();
        for word in &words {
            texts.begin();
            texts.add(word.as_bytes());
        }
        Command::new(&texts, words.len() as u64)
    }

    #[track_caller]
    fn check(line: &str, method: &str, key: &str) {
        let command = command(line);
        assert_eq!(
            (&*command.method(), command.key.unwrap_or_default().as_str()),
            (method, key)
        );
    }

    #[test]
    fn the_key_stands_where_the_command_has_it() {
        check("get user:1", "GET", "user:1");
        check("SET k v EX 10", "SET", "k");
        check("PING", "PING", "");
        check("BITOP AND dest a b", "BITOP", "dest");
        check("EVAL script 1 k arg", "EVAL", "k");
        check("EVALSHA abc 0 arg", "EVALSHA", "");
        check("ZUNION 2 a b", "ZUNION", "a");
        check(
            "XREADGROUP GROUP g c COUNT 5 streams s1 s2 > >",
            "XREADGROUP",
            "s1",
        );
        check("JSON.SET doc $ 1", "JSON.SET", "doc");
    }

    #[test]
    fn containers_are_named_with_their_subcommand() {
        check("config get maxmemory", "CONFIG GET", "");
        check("OBJECT ENCODING k", "OBJECT ENCODING", "k");
        check("MEMORY USAGE k", "MEMORY USAGE", "k");
        check("MEMORY STATS", "MEMORY STATS", "");
        check("XGROUP CREATE s g $", "XGROUP CREATE", "s");
    }

    #[test]
    fn passwords_are_not_shown() {
        for (line, shown) in [
            ("AUTH user secret", "AUTH (redacted) (redacted)"),
            ("HELLO 3 AUTH user secret", "HELLO 3 AUTH (redacted) (redacted)"),
            (
                "CONFIG SET requirepass secret",
                "CONFIG SET requirepass (redacted)",
            ),
            (
                "CONFIG SET maxmemory 1 masterauth secret",
                "CONFIG SET maxmemory 1 masterauth (redacted)",
            ),
            (
                "SENTINEL SET mymaster auth-pass secret quorum 2",
                "SENTINEL SET mymaster auth-pass (redacted) quorum 2",
            ),
            (
                "sentinel config set sentinel-pass secret",
                "sentinel config set sentinel-pass (redacted)",
            ),
            ("SENTINEL MASTER pass", "SENTINEL MASTER pass"),
            ("ACL SETUSER u >secret", "ACL SETUSER (redacted) (redacted)"),
        ] {
            assert_eq!(command(line).line, shown);
        }
    }

    #[test]
    fn a_key_that_is_not_all_there_is_none_unless_as_much_of_it_is_as_is_shown() {
        let script = |len: usize, key: &str| format!("EVAL {} 1 {key}", "x".repeat(len));
        let left = COMMAND_BYTES - "EVAL1".len();
        check(&script(left - 6, "user:1"), "EVAL", "user:1");
        check(&script(left - 6, "user:12"), "EVAL", "");
        // What is not kept does not belong to what stands before it either.
        check(&script(left - 2, "user:1"), "EVAL", "");
        let key = "k".repeat(KEY_BYTES);
        check(&script(left - KEY_BYTES, &format!("{key}more")), "EVAL", &key);
    }

    #[test]
    fn a_key_is_cut_between_two_characters() {
        assert_eq!(shown(&[b'a'; 100]).len(), KEY_BYTES);
        let text = format!("{}ä", "a".repeat(KEY_BYTES - 1));
        assert_eq!(shown(text.as_bytes()), "a".repeat(KEY_BYTES - 1));
    }
}
