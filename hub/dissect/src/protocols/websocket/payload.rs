//! Payload that goes by: unmasked, inflated, and kept as far as it is shown.

use flate2::{Decompress, FlushDecompress, Status};

use super::frame::{Header, Opcode, unmask};
use crate::Counters;
use crate::limits::{WS_ALONE, WS_INFLATED, WS_PAYLOAD, WS_RATIO};

/// What a sender takes off the end of every compressed message (RFC 7692, section 7.2.1).
const TAIL: &[u8] = &[0x00, 0x00, 0xff, 0xff];

/// An empty last block, behind which nothing can follow.
const NOTHING_MORE: &[u8] = &[0x03, 0x00];

/// Bytes that a decoder holds: its window of 32 KiB, and its tables.
const DECODER: usize = 44 << 10;

/// Bytes that are unmasked and inflated at a time.
const STEP: usize = 4096;

/// One direction's compression.
#[derive(Default)]
pub(super) struct Inflater {
    /// Whether each message is compressed by itself (`no_context_takeover`).
    pub by_itself: bool,
    context: Context,
    /// Bytes that were inflated, and what they have become.
    taken: u64,
    given: u64,
}

/// What messages refer to that go on from one another.
#[derive(Default)]
enum Context {
    /// There is none yet.
    Fresh,
    Known(Box<Decompress>),
    /// It was before the recording, or in a gap, or larger than the limit.
    #[default]
    Unknown,
}

/// What is known of a message's payload.
#[derive(Debug, Default)]
pub(super) struct Payload {
    /// What the message is; `None` if its begin was not seen.
    pub opcode: Option<Opcode>,
    pub compressed: bool,
    /// Bytes as sent.
    pub len: u64,
    /// Whether bytes of it are missing.
    pub gap: bool,
    /// Its first bytes, as meant.
    pub kept: Vec<u8>,
    /// Whether there are more of them.
    pub cut: bool,
    /// What is compressed, as long as it may be that it refers to nothing before it.
    alone: Option<Vec<u8>>,
}

impl Inflater {
    /// A direction whose messages refer to nothing that was not seen.
    pub fn fresh(by_itself: bool) -> Self {
        Self {
            by_itself,
            context: Context::Fresh,
            ..Self::default()
        }
    }

    /// What comes may refer to what was not seen.
    pub fn lose(&mut self) {
        self.context = Context::Unknown;
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        match self.context {
            Context::Known(_) => DECODER,
            Context::Fresh | Context::Unknown => 0,
        }
    }
}

impl Payload {
    /// Of a message that begins; `opcode` is `None` if it did before.
    pub fn new(opcode: Option<Opcode>, compressed: bool, inflater: &mut Inflater) -> Self {
        if compressed && inflater.by_itself {
            inflater.context = Context::Fresh;
        }
        let unknown = compressed && matches!(inflater.context, Context::Unknown);
        Self {
            opcode,
            compressed,
            gap: opcode.is_none(),
            alone: unknown.then(Vec::new),
            ..Self::default()
        }
    }

    /// Takes bytes of a frame, of whose payload `offset` went by before.
    pub fn take(
        &mut self,
        frame: &Header,
        offset: u64,
        bytes: &[u8],
        inflater: &mut Inflater,
        counters: &mut Counters,
    ) {
        self.len += bytes.len() as u64;
        if self.opcode.is_none() {
            return;
        }
        let mut plain = [0; STEP];
        let mut offset = offset;
        for part in bytes.chunks(STEP) {
            if !self.wants(inflater) {
                self.cut |= !self.compressed;
                return;
            }
            for (to, byte) in plain.iter_mut().zip(part) {
                *to = unmask(frame.mask, offset, *byte);
                offset += 1;
            }
            let plain = plain.get(..part.len()).unwrap_or_default();
            if self.compressed {
                self.inflate(plain, inflater, counters);
            } else {
                self.keep(plain);
            }
        }
    }

    /// Bytes of it are missing.
    pub fn skip(&mut self, len: u64, inflater: &mut Inflater) {
        self.len += len;
        self.gap = true;
        self.alone = None;
        if self.compressed {
            inflater.lose();
        }
    }

    /// It ends here.
    pub fn end(&mut self, inflater: &mut Inflater, counters: &mut Counters) {
        if !self.compressed || self.gap {
            return;
        }
        // All that is shown is known; what came behind it was passed over, so the end means nothing to the decoder.
        if !self.wants(inflater) {
            return;
        }
        self.inflate(TAIL, inflater, counters);
        if let Some(mut alone) = self.alone.take() {
            alone.extend_from_slice(NOTHING_MORE);
            self.inflate_alone(&alone);
        }
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.kept.len() + self.alone.as_ref().map_or(0, Vec::len)
    }

    /// Whether its next bytes tell anything.
    fn wants(&self, inflater: &Inflater) -> bool {
        let room = !self.cut && self.kept.len() < WS_PAYLOAD && !self.gap;
        if !self.compressed {
            return room;
        }
        match inflater.context {
            Context::Unknown => self.alone.is_some(),
            // What others refer to must be known to its end.
            Context::Fresh | Context::Known(_) => room || !inflater.by_itself,
        }
    }

    fn keep(&mut self, plain: &[u8]) {
        let room = WS_PAYLOAD - self.kept.len().min(WS_PAYLOAD);
        let (kept, rest) = plain.split_at(room.min(plain.len()));
        self.cut |= !rest.is_empty();
        if !self.gap {
            self.kept.extend_from_slice(kept);
        }
    }

    fn inflate(&mut self, mut bytes: &[u8], inflater: &mut Inflater, counters: &mut Counters) {
        if let Some(alone) = &mut self.alone {
            if alone.len() + bytes.len() > WS_ALONE {
                counters.texts_cut += 1;
                self.alone = None;
            } else {
                alone.extend_from_slice(bytes);
            }
            return;
        }
        if matches!(inflater.context, Context::Fresh) {
            inflater.context = Context::Known(Box::new(Decompress::new(false)));
        }
        let Context::Known(decoder) = &mut inflater.context else {
            return;
        };
        let mut plain = [0; STEP];
        loop {
            let (taken, given) = (decoder.total_in(), decoder.total_out());
            let status = decoder.decompress(bytes, &mut plain, FlushDecompress::None);
            let (taken, given) = (decoder.total_in() - taken, decoder.total_out() - given);
            inflater.taken += taken;
            inflater.given += given;
            let given = usize::try_from(given).unwrap_or(STEP);
            self.keep(plain.get(..given).unwrap_or_default());
            let left = usize::try_from(taken).ok().and_then(|taken| bytes.get(taken..));
            bytes = left.unwrap_or_default();
            if inflater.given > WS_INFLATED + WS_RATIO * inflater.taken {
                counters.ws_inflation_stopped += 1;
                self.cut = true;
                inflater.lose();
                return;
            }
            match status {
                Err(_) => {
                    // Whatever it was that came out, it is not what was meant.
                    self.kept.clear();
                    self.cut = true;
                    inflater.lose();
                    return;
                }
                // A last block: what comes begins anew (RFC 7692, section 7.2.3.4).
                Ok(Status::StreamEnd) => decoder.reset(false),
                Ok(Status::Ok | Status::BufError) if given < STEP => return,
                Ok(Status::Ok | Status::BufError) => {}
            }
            if bytes.is_empty() && given < STEP {
                return;
            }
        }
    }

    /// Inflates a message of unknown context: it succeeds if it refers to nothing before it.
    fn inflate_alone(&mut self, bytes: &[u8]) {
        let mut plain = vec![0; WS_PAYLOAD + 1];
        let mut decoder = Decompress::new(false);
        // All at once, so that the decoder knows that there is nothing before the first byte that it gives.
        let status = decoder.decompress(bytes, &mut plain, FlushDecompress::Finish);
        let given = usize::try_from(decoder.total_out()).unwrap_or_default();
        match status {
            Ok(Status::StreamEnd) => self.keep(plain.get(..given).unwrap_or_default()),
            Ok(Status::Ok | Status::BufError) if given > WS_PAYLOAD => self.keep(&plain),
            Ok(Status::Ok | Status::BufError) | Err(_) => {}
        }
    }
}
