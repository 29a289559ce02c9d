//! What the kernel says of the interfaces of a network namespace.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

/// The interfaces that a `/proc/.../net/dev` names: two lines of heads, then a line for each.
pub(super) fn names(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines.map(|(name, _)| name.trim().to_owned()).collect()
}

/// The cookie of the namespace that a socket was made in.
pub(super) fn namespace_cookie(socket: &UnixDatagram) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the descriptor is open, and both pointers are of live variables of the sizes told.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            cookie,
            &raw mut len,
        )
    };
    if outcome == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(super) fn ifindex(socket: &UnixDatagram, name: &str) -> io::Result<u32> {
    let request = ask(socket, name, libc::SIOCGIFINDEX)?;
    // SAFETY: the call has filled in this member.
    #[expect(unsafe_code, reason = "the kernel answers by a union")]
    let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(ifindex).map_err(io::Error::other)
}

/// Its address, if it is an Ethernet interface.
pub(super) fn ethernet_address(socket: &UnixDatagram, name: &str) -> io::Result<Option<[u8; 6]>> {
    let request = ask(socket, name, libc::SIOCGIFHWADDR)?;
    // SAFETY: the call has filled in this member.
    #[expect(unsafe_code, reason = "the kernel answers by a union")]
    let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
    let [a, b, c, d, e, f, ..] = hardware.sa_data;
    let address = [a, b, c, d, e, f].map(|byte| byte.to_ne_bytes()[0]);
    Ok((hardware.sa_family == libc::ARPHRD_ETHER).then_some(address))
}

/// Asks about an interface of the namespace that the socket was made in.
fn ask(socket: &UnixDatagram, name: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    // SAFETY: all of it is numbers.
    #[expect(unsafe_code, reason = "the kernel's structure has a union in it")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the descriptor is open, and the request is what both of the calls used here take.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if outcome == 0 {
        Ok(request)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_loopback_interface_that_is_not_ethernet() {
        let names = names("/proc/thread-self/net/dev");
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        let asked = UnixDatagram::unbound().expect("a socket");
        assert_eq!(ifindex(&asked, "lo").expect("an index"), 1);
        assert_eq!(ethernet_address(&asked, "lo").expect("a kind"), None);
        assert!(ifindex(&asked, "no-such-link").is_err());
    }
}
