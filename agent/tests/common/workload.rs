//! Processes that talk: the recorded ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What the process is to do; set by [`Workload::start`] alone.
pub const ROLE: &str = "WIRETAPE_TEST_ROLE";

/// The test in each binary that is the workload's `main`.
const ENTRY: &str = "workload_process";

/// A workload, killed when dropped.
pub struct Workload {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Workload {
    /// Starts a role in a cgroup, and in a namespace if one is given.
    pub fn start(role: &str, cgroup: &Path, namespace: Option<&str>) -> Self {
        Self::start_in(role, &[cgroup], namespace)
    }

    /// The same in cgroups of several hierarchies.
    pub fn start_in(role: &str, cgroups: &[&Path], namespace: Option<&str>) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new("sh");
        // The cgroups first: `ip netns exec` hides their file systems.
        const ENTER: &str = "until [ \"$1\" = -- ]; do echo 0 > \"$1/cgroup.procs\" || exit 1; shift; done; shift; exec \"$@\"";
        command.args(["-c", ENTER, "enter"]).args(cgroups).arg("--");
        if let Some(namespace) = namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(program);
        command
            .args(["--exact", ENTRY, "--nocapture", "--test-threads=1"])
            .env(ROLE, role);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, out }
    }

    /// The rest of the next line that begins so.
    pub fn said(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.out.read_line(&mut line).expect("a line") > 0,
                "the workload ended without {prefix:?}"
            );
            if let Some((_, rest)) = line.split_once(prefix) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Waits until it has ended, however that is.
    pub fn end(mut self) {
        self.child.wait().expect("the workload ends");
    }

    /// Waits until the role is done. One that serves ends with its input.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("the workload ends");
        assert!(status.success(), "the workload failed: {status}");
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `seed` stands for: bytes without a pattern that a mistake could repeat.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// The body of the test [`ENTRY`]: does what [`ROLE`] says, if it is set.
///
/// Roles: `exchange BYTES` (both ends of one connection over loopback), `serve PORT` (for `visit`), `bind PORT` (takes datagrams in and reads none), `visit
/// ADDR BYTES COUNT` (connections one after the other), `knock ADDR` (where nobody listens), `leave ADDR`
/// (goes before the server does), `hang-up ADDR` (with bytes unread), `datagram ADDR BYTES` (one, to nobody),
/// `datagrams COUNT BYTES` (over loopback), `numbered COUNT RATE BYTES` (datagrams at a rate, each with its number),
/// `talk MS` (a datagram over loopback every so often, until its input ends), `flood SECONDS` and `connect SECONDS` (datagrams of a byte, and connections, as fast as can be; says how many),
/// `crowd THREADS` (that end all together, with code 9), `run COMMAND` (in a shell).
pub fn main() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split_whitespace().collect();
    let number = |at: usize| {
        words
            .get(at)
            .and_then(|word| word.parse::<usize>().ok())
            .expect("a number")
    };
    match words.first().copied() {
        Some("exchange") => exchange(number(1)),
        Some("serve") => serve(number(1)),
        Some("bind") => bind(number(1)),
        Some("visit") => visit(words.get(1).expect("an address"), number(2), number(3)),
        Some("datagrams") => datagrams(number(1), number(2)),
        Some("numbered") => numbered(number(1), number(2), number(3)),
        Some("talk") => talk(number(1)),
        Some("flood") => flood(number(1)),
        Some("connect") => connect(number(1)),
        Some("knock") => knock(words.get(1).expect("an address")),
        Some("leave") => leave(words.get(1).expect("an address")),
        Some("hang-up") => hang_up(words.get(1).expect("an address")),
        Some("datagram") => datagram(words.get(1).expect("an address"), number(2)),
        Some("crowd") => crowd(number(1)),
        Some("run") => {
            let command = role.strip_prefix("run").expect("just seen");
            Command::new("sh")
                .args(["-c", command])
                .stdin(Stdio::null())
                .status()
                .expect("sh starts");
        }
        _ => panic!("no role {role:?}"),
    }
    println!("done");
}

/// The client sends `bytes(1, len)` and says that it is done, then the server sends `bytes(2, len)`.
fn exchange(len: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || answer(&listener, len));
    let stream = TcpStream::connect(address).expect("connects");
    println!(
        "client={} server={}",
        stream.local_addr().expect("an address").port(),
        address.port()
    );
    ask(stream, len);
    server.join().expect("the server is content");
}

fn crowd(threads: usize) {
    for _ in 0..threads {
        thread::spawn(|| thread::sleep(Duration::from_secs(60)));
    }
    std::process::exit(9);
}

fn serve(port: usize) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).expect("the port is free");
    println!("serving");
    thread::spawn(move || {
        loop {
            let (stream, _) = listener.accept().expect("a connection");
            serve_one(stream);
        }
    });
    // Until the test has no more need of it.
    let _ = std::io::stdin().read(&mut [0]);
}

fn bind(port: usize) {
    let _socket = UdpSocket::bind(format!("0.0.0.0:{port}")).expect("the port is free");
    println!("bound");
    // As above.
    let _ = std::io::stdin().read(&mut [0]);
}

/// The first eight bytes tell how many follow. A client may leave at any time.
fn serve_one(mut stream: TcpStream) {
    let mut len = [0; 8];
    if stream.read_exact(&mut len).is_err() {
        // So that the client's side is quite closed before this one.
        return thread::sleep(Duration::from_millis(100));
    }
    let len = usize::try_from(u64::from_be_bytes(len)).expect("a length");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("received");
    assert!(received == bytes(1, len), "the server received something else");
    let _ = stream.write_all(&bytes(2, len));
}

fn visit(address: &str, len: usize, count: usize) {
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(&(len as u64).to_be_bytes()).expect("sent");
        ask(stream, len);
    }
}

fn knock(address: &str) {
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Closes at once; the server, which still reads, closes a while after.
fn leave(address: &str) {
    drop(TcpStream::connect(address).expect("connects"));
    thread::sleep(Duration::from_millis(300));
}

/// Closes without having read what the server sent, which makes the kernel send a reset.
fn hang_up(address: &str) {
    // More than fits on the way, so that the server has not finished.
    let len = 20_000_000;
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(&(len as u64).to_be_bytes()).expect("sent");
    stream.write_all(&bytes(1, len)).expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    stream.peek(&mut [0]).expect("an answer");
}

/// Waits for the ICMP error that comes back.
fn datagram(address: &str, len: usize) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.connect(address).expect("connects");
    socket.send(&bytes(3, len)).expect("sent");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let refused = socket.recv(&mut [0]).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn answer(listener: &TcpListener, len: usize) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("received");
    assert!(received == bytes(1, len), "the server received something else");
    stream.write_all(&bytes(2, len)).expect("sent");
}

fn ask(mut stream: TcpStream, len: usize) {
    stream.write_all(&bytes(1, len)).expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("received");
    assert!(received == bytes(2, len), "the client received something else");
}

fn datagrams(count: usize, len: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    sender
        .connect(receiver.local_addr().expect("an address"))
        .expect("connects");
    receiver
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let (data, mut buffer) = (bytes(3, len), vec![0; len]);
    for _ in 0..count {
        sender.send(&data).expect("sent");
        // One at a time, so that none is lost on its way to the receiver.
        receiver.recv(&mut buffer).expect("received");
    }
}

/// Each datagram begins with its number, big-endian. Nobody waits for the receiver.
fn numbered(count: usize, rate: usize, len: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    sender
        .connect(receiver.local_addr().expect("an address"))
        .expect("connects");
    let mut data = bytes(4, len.max(8));
    let begun = Instant::now();
    for number in 0..count {
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        if let Some(early) = due
            .checked_sub(begun.elapsed())
            .filter(|early| early.as_millis() > 0)
        {
            thread::sleep(early);
        }
        data[..8].copy_from_slice(&(number as u64).to_be_bytes());
        sender.send(&data).expect("sent");
    }
}

fn talk(ms: usize) {
    thread::spawn(move || {
        loop {
            datagrams(1, 100);
            thread::sleep(Duration::from_millis(ms as u64));
        }
    });
    println!("talking");
    // Until the test has no more need of it.
    let _ = std::io::stdin().read(&mut [0]);
}

fn flood(seconds: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = receiver.local_addr().expect("an address");
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    let senders: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
                sender.connect(target).expect("connects");
                let mut sent = 0u64;
                while Instant::now() < end {
                    for _ in 0..100 {
                        sent += u64::from(sender.send(&[1]).is_ok());
                    }
                }
                sent
            })
        })
        .collect();
    let sent: u64 = senders
        .into_iter()
        .map(|thread| thread.join().expect("it sends"))
        .sum();
    println!("sent={sent}");
}

fn connect(seconds: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = listener.local_addr().expect("an address");
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let mut made = 0u64;
    while Instant::now() < end {
        // Ports run out now and then.
        made += u64::from(TcpStream::connect(target).is_ok());
    }
    println!("made={made}");
}
