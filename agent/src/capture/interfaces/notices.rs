//! What has the follower look at once instead of when its time comes: processes that have started, as the programs of
//! events tell, and the kernel's word of interfaces and namespaces (netlink).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::capture::Waker;

/// Processes that are remembered between two looks. Of more, some are found by the look alone.
const MAX_STARTED: usize = 256;

/// For those who know that something has changed.
#[derive(Clone, Debug)]
pub struct Notices {
    waker: Waker,
    started: Arc<Mutex<Vec<u32>>>,
}

impl Notices {
    /// New ones.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new()?,
            started: Arc::default(),
        })
    }

    /// A process of the recorded sub-tree has started: it may be the first of its namespace.
    pub fn started(&self, process: u32) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.len() < MAX_STARTED {
            started.push(process);
        }
        drop(started);
        self.waker.wake();
    }

    /// What ends the follower's rest.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The processes that have started since the last call.
    pub(super) fn take_started(&self) -> Vec<u32> {
        std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the kernel has told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Interfaces have come, gone or changed.
    pub changed: bool,
    /// Numbers of namespaces that are gone.
    pub gone: Vec<i32>,
    /// Some of what was told is lost.
    pub missed: bool,
}

/// The kernel's word of interfaces: those of the agent's own namespace, and of all that have a number in it.
pub(super) struct Links {
    told: OwnedFd,
    asks: OwnedFd,
}

/// Attributes of messages about namespaces, as `net_namespace.h` numbers them.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// In place of a number: the kernel is to choose one.
const ANY_NUMBER: i32 = -1;

/// A message's head (`nlmsghdr`), what follows it (`rtgenmsg`, filled up), and an attribute with a number.
const HEAD: usize = 16;
const FAMILY: usize = 4;
const ATTRIBUTE: usize = 8;

/// Room for what is told at once; the kernel makes no message longer.
const ROOM: usize = 32 * 1024;

impl Links {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel refuses. Where it tells only of the agent's own namespace (without `CAP_NET_BROADCAST`), that is
    /// all that is heard.
    pub fn open() -> io::Result<Self> {
        let route = |flags| {
            let flags = flags | SockFlag::SOCK_CLOEXEC;
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                flags,
                SockProtocol::NetlinkRoute,
            )
        };
        let told = route(SockFlag::SOCK_NONBLOCK)?;
        if let Err(error) = listen_to_all(told.as_fd()) {
            tracing::info!("interfaces of other namespaces are looked for, not told of: {error}");
        }
        let groups = libc::RTMGRP_LINK.cast_unsigned() | 1 << (libc::RTNLGRP_NSID - 1);
        bind(told.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self {
            told,
            asks: route(SockFlag::empty())?,
        })
    }

    /// The number of a namespace, by which the kernel tells of it. One that has none is given one, which holds nothing of
    /// it in place.
    pub fn number(&self, namespace: &File) -> Option<i32> {
        let of_namespace = (NETNSA_FD, namespace.as_raw_fd());
        // Refused where it has one.
        self.ask(libc::RTM_NEWNSID, &[of_namespace, (NETNSA_NSID, ANY_NUMBER)])
            .ok()?;
        let answer = self.ask(libc::RTM_GETNSID, &[of_namespace]).ok()?;
        let number = messages(&answer)
            .find_map(|(kind, body)| (kind == libc::RTM_NEWNSID).then(|| number_in(body))?);
        number.filter(|number| *number >= 0)
    }

    /// Asks, and gives the answer.
    fn ask(&self, kind: u16, attributes: &[(u16, i32)]) -> nix::Result<Vec<u8>> {
        // The kernel answers before it returns.
        send(
            self.asks.as_raw_fd(),
            &request(kind, attributes),
            MsgFlags::empty(),
        )?;
        let mut answer = vec![0; ROOM];
        let bytes = recv(self.asks.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
        answer.truncate(bytes);
        Ok(answer)
    }

    /// Takes out what was told since the last call.
    pub fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        let mut room = vec![0; ROOM];
        loop {
            match recv(self.told.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
                Ok(bytes) => heard.take(room.get(..bytes).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => heard.missed = true,
                // There is nothing more, most often.
                Err(_) => return heard,
            }
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

impl Heard {
    fn take(&mut self, told: &[u8]) {
        for (kind, body) in messages(told) {
            match kind {
                libc::RTM_NEWLINK | libc::RTM_DELLINK => self.changed = true,
                libc::RTM_DELNSID => self.gone.extend(number_in(body)),
                _ => {}
            }
        }
    }
}

/// A message with attributes that are numbers; it asks for a word when it is done.
fn request(kind: u16, attributes: &[(u16, i32)]) -> Vec<u8> {
    let bytes = HEAD + FAMILY + attributes.len() * ATTRIBUTE;
    // What is asked for is answered; what is ordered only if that is asked for.
    let flags = libc::NLM_F_REQUEST
        | if kind == libc::RTM_GETNSID {
            0
        } else {
            libc::NLM_F_ACK
        };
    let mut message = Vec::with_capacity(bytes);
    message.extend(u32::try_from(bytes).unwrap_or(0).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    message.resize(HEAD + FAMILY, 0);
    for (name, value) in attributes {
        message.extend(u16::try_from(ATTRIBUTE).unwrap_or(0).to_ne_bytes());
        message.extend(name.to_ne_bytes());
        message.extend(value.to_ne_bytes());
    }
    message
}

/// Kind and body of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length)?;
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let body = message.get(HEAD..)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The number of the namespace that a message is about.
fn number_in(body: &[u8]) -> Option<i32> {
    let mut attributes = body.get(FAMILY..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let attribute = attributes.get(..length)?;
        if attribute.get(2..4)? == NETNSA_NSID.to_ne_bytes() {
            return Some(i32::from_ne_bytes(*attribute.get(4..)?.first_chunk()?));
        }
        attributes = attributes.get(length.next_multiple_of(4).max(4)..)?;
    }
}

/// Has the kernel tell a socket of all namespaces that have a number in its own.
fn listen_to_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the pointer is of a live variable of the size told.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_LISTEN_ALL_NSID,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_gone_is_told_by_its_number_and_an_interface_as_a_change() {
        let mut told = request(libc::RTM_DELNSID, &[(NETNSA_FD, 9), (NETNSA_NSID, 7)]);
        told.extend(request(libc::RTM_NEWLINK, &[]));
        let mut heard = Heard::default();
        heard.take(&told);
        let all = Heard {
            changed: true,
            gone: vec![7],
            missed: false,
        };
        assert_eq!(heard, all);
        // Cut anywhere, it is no more than the messages that are whole.
        for end in 0..told.len() {
            let mut heard = Heard::default();
            heard.take(told.get(..end).unwrap());
            assert!(heard.gone.len() <= 1 && !heard.changed);
        }
    }

    #[test]
    fn processes_are_taken_once_and_no_more_are_kept_than_there_may_be() {
        let notices = Notices::new().unwrap();
        (0..1000).for_each(|process| notices.started(process));
        assert_eq!(notices.take_started().len(), MAX_STARTED);
        assert_eq!(notices.take_started(), Vec::<u32>::new());
    }
}
