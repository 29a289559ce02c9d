//! A filter in libpcap's language, as libpcap compiles it: classic BPF for Ethernet, interpreted. The same steps are
//! taken in the kernel and in the agent.
//!
//! What sockets send and receive begins at its IP header; an Ethernet header is made up for it, of which only the type
//! is not 0.

use crate::headers::Bytes;

/// Instructions of a filter. As jumps go forward only, no more are executed.
pub const MAX_INSTRUCTIONS: usize = 128;

/// Words of memory that a filter may use.
pub const MEMORY_WORDS: usize = 16;

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if a condition holds.
    pub jump_true: u8,
    /// The same if it does not.
    pub jump_false: u8,
    /// The constant.
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// Classes, modes and operations of classic BPF.
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the kernel's bpf_common.h")]

    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const CLASS: u16 = 0x07;

    pub const SIZE_W: u16 = 0x00;
    pub const SIZE_H: u16 = 0x08;
    pub const SIZE_B: u16 = 0x10;
    pub const SIZE: u16 = 0x18;

    pub const IMM: u16 = 0x00;
    pub const ABS: u16 = 0x20;
    pub const IND: u16 = 0x40;
    pub const MEM: u16 = 0x60;
    pub const LEN: u16 = 0x80;
    pub const MSH: u16 = 0xa0;
    pub const MODE: u16 = 0xe0;

    pub const ADD: u16 = 0x00;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const MOD: u16 = 0x90;
    pub const XOR: u16 = 0xa0;
    pub const OPERATION: u16 = 0xf0;

    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;

    pub const BY_X: u16 = 0x08;
    pub const RETURN_A: u16 = 0x10;
    pub const TXA: u16 = 0x80;
}

use code::{
    ABS, ADD, ALU, AND, BY_X, CLASS, DIV, IMM, IND, JA, JEQ, JGE, JGT, JMP, JSET, LD, LDX, LEN, LSH, MEM,
    MOD, MODE, MSH, MUL, NEG, OPERATION, OR, RET, RETURN_A, RSH, SIZE, SIZE_B, SIZE_H, ST, STX, SUB, TXA,
    XOR,
};

/// The length of an Ethernet header.
const ETHERNET: u32 = 14;

/// Where its type stands.
const ETHERTYPE: u32 = 12;

/// A packet as an Ethernet frame.
#[derive(Clone, Copy)]
pub struct Frame<'a, B: ?Sized> {
    bytes: &'a B,
    /// Where the network's header is.
    network: u32,
    /// There is an Ethernet header before it.
    real: bool,
    /// Bytes from there on.
    length: u32,
}

impl<'a, B: Bytes + ?Sized> Frame<'a, B> {
    /// Of a packet whose network header is at `network`, `length` bytes from there to its end.
    #[inline(always)]
    pub fn new(bytes: &'a B, network: u32, real: bool, length: u32) -> Self {
        Self {
            bytes,
            network,
            real,
            length,
        }
    }

    /// A number of one, two or four bytes.
    #[inline(always)]
    fn number(&self, at: u32, size: u16) -> Option<u32> {
        if at < ETHERNET && !self.real {
            return Some(if at == ETHERTYPE && size == SIZE_H {
                self.made_up_type()
            } else {
                0
            });
        }
        let at = self.network.wrapping_sub(ETHERNET).wrapping_add(at);
        match size {
            SIZE_B => self.bytes.load::<1>(at).map(|[byte]| u32::from(byte)),
            SIZE_H => self
                .bytes
                .load::<2>(at)
                .map(|two| u32::from(u16::from_be_bytes(two))),
            _ => self.bytes.load::<4>(at).map(u32::from_be_bytes),
        }
    }

    #[inline(always)]
    fn made_up_type(&self) -> u32 {
        match self.bytes.load::<1>(self.network) {
            Some([first]) if first >> 4 == 4 => 0x0800,
            Some([first]) if first >> 4 == 6 => 0x86dd,
            _ => 0,
        }
    }
}

/// Whether a filter lets a packet through. What reads beyond the end of the packet does not, as in libpcap.
pub fn passes<B: Bytes + ?Sized>(filter: &[Instruction; MAX_INSTRUCTIONS], frame: &Frame<'_, B>) -> bool {
    let mut machine = Machine::default();
    // As jumps go forward only, it ends by then.
    (0..MAX_INSTRUCTIONS)
        .find_map(|_| machine.step(filter, frame))
        .unwrap_or(false)
}

/// What executes a filter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    a: u32,
    x: u32,
    /// The next instruction.
    at: u32,
    memory: [u32; MEMORY_WORDS],
}

impl Machine {
    /// Executes one instruction. `Some` is the end: whether the packet passes.
    #[inline(always)]
    pub fn step<B: Bytes + ?Sized>(
        &mut self,
        filter: &[Instruction; MAX_INSTRUCTIONS],
        frame: &Frame<'_, B>,
    ) -> Option<bool> {
        const REFUSED: Option<bool> = Some(false);
        let index = self.at as usize % MAX_INSTRUCTIONS;
        let Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = filter[index];
        self.at = index as u32 + 1;
        let word = k as usize % MEMORY_WORDS;
        let operand = if code & BY_X != 0 { self.x } else { k };
        match code & CLASS {
            LD | LDX => {
                let loaded = match code & MODE {
                    IMM => k,
                    MEM => self.memory[word],
                    LEN => frame.length.wrapping_add(ETHERNET),
                    mode => {
                        let (at, size) = match mode {
                            ABS => (k, code & SIZE),
                            IND => (k.wrapping_add(self.x), code & SIZE),
                            MSH => (k, SIZE_B),
                            _ => return REFUSED,
                        };
                        let Some(number) = frame.number(at, size) else {
                            return REFUSED;
                        };
                        if mode == MSH { (number & 0x0f) * 4 } else { number }
                    }
                };
                if code & CLASS == LD {
                    self.a = loaded;
                } else {
                    self.x = loaded;
                }
            }
            ST => self.memory[word] = self.a,
            STX => self.memory[word] = self.x,
            ALU => match calculate(code & OPERATION, self.a, operand) {
                Some(result) => self.a = result,
                None => return REFUSED,
            },
            JMP => {
                let jump = match code & OPERATION {
                    JA => k,
                    JEQ => choose(self.a == operand, jump_true, jump_false),
                    JGT => choose(self.a > operand, jump_true, jump_false),
                    JGE => choose(self.a >= operand, jump_true, jump_false),
                    JSET => choose(self.a & operand != 0, jump_true, jump_false),
                    _ => return REFUSED,
                };
                self.at = self.at.wrapping_add(jump);
            }
            RET => return Some(if code & RETURN_A != 0 { self.a != 0 } else { k != 0 }),
            // What is left is MISC.
            _ if code & TXA != 0 => self.a = self.x,
            _ => self.x = self.a,
        }
        None
    }
}

#[inline(always)]
fn choose(holds: bool, jump_true: u8, jump_false: u8) -> u32 {
    u32::from(if holds { jump_true } else { jump_false })
}

#[inline(always)]
fn calculate(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        MOD => a.checked_rem(operand)?,
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.wrapping_shl(operand),
        RSH => a.wrapping_shr(operand),
        NEG => a.wrapping_neg(),
        _ => return None,
    })
}
