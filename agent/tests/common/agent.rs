//! The agent, as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use wiretape_tape::{Boundaries, Chunk, Cut, Event};

use super::packets::{self, Recorded};

/// No test waits longer than this for anything: 20 seconds, so many times as `WIRETAPE_PATIENCE` says where a machine is slow.
pub fn patience() -> Duration {
    let times = std::env::var("WIRETAPE_PATIENCE").ok();
    20 * times.map_or(Duration::from_secs(1), |times| {
        Duration::from_secs(times.parse().expect("WIRETAPE_PATIENCE is a number"))
    })
}

/// An agent, stopped when dropped.
pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    pub address: SocketAddr,
    pub tape: PathBuf,
}

/// Whether the agent has the kernel programs and the kernel takes them.
pub fn has_programs() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(try_programs)
}

fn try_programs() -> bool {
    let (dir, cgroup) = (
        tempfile::tempdir().expect("a folder"),
        super::places::Cgroup::new(),
    );
    let mut command = command(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()],
    );
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the agent starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    let recording = lines
        .take_while(|line| !line.contains("ERROR"))
        .any(|line| line.contains("serving on"));
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    child.wait().expect("the agent ends");
    recording
}

fn command(tape: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-agent"));
    command
        .args(["--listen", "127.0.0.1:0", "--node-name", "node-1", "--tape"])
        .arg(tape);
    if !flags.contains(&"--flush") {
        command.args(["--flush", "200ms"]);
    }
    // Nothing is to outlive a test that does not ask for it.
    if !flags.contains(&"--pin") {
        command.args(["--pin", "none"]);
    }
    // Small, for tests that run side by side on one disk; flags may say otherwise.
    if !flags.contains(&"--tape-size") {
        command.args(["--tape-size", "256MiB", "--segment-size", "64MiB"]);
    }
    command.args(flags);
    command
}

impl Agent {
    /// Starts the agent on the tape in `tape` and waits until it serves.
    pub fn start(tape: &Path, flags: &[&str]) -> Self {
        Self::spawn(command(tape, flags), tape)
    }

    /// The same, with something in its environment.
    pub fn start_with(tape: &Path, flags: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = command(tape, flags);
        command.envs(environment.iter().copied());
        Self::spawn(command, tape)
    }

    /// The same in a network namespace, where only its log can be reached.
    pub fn start_in(namespace: &str, tape: &Path, flags: &[&str]) -> Self {
        let inner = command(tape, flags);
        let mut outer = Command::new("ip");
        outer
            .args(["netns", "exec", namespace])
            .arg(inner.get_program())
            .args(inner.get_args());
        Self::spawn(outer, tape)
    }

    /// The same as a container's only process: in `cgroup`, which it sees as `/`, with the node's hierarchy mounted
    /// read-only, as root with no more than `capabilities`.
    pub fn start_contained(cgroup: &Path, capabilities: &[String], tape: &Path, flags: &[&str]) -> Self {
        const CONTAIN: &str = "echo 0 > $1/cgroup.procs || exit 1; root=$2 caps=$3; shift 3; export root caps; \
             exec unshare --cgroup --mount sh -c 'mount -o remount,bind,ro $root || exit 1; \
             exec setpriv --bounding-set=$caps --inh-caps=-all --no-new-privs -- \"$@\"' contained \"$@\"";
        let mut bounding = String::from("-all");
        for capability in capabilities {
            bounding.push_str(",+");
            bounding.push_str(&capability.to_lowercase());
        }
        let inner = command(tape, flags);
        let mut outer = Command::new("sh");
        outer
            .args(["-c", CONTAIN, "contain"])
            .arg(cgroup)
            .arg(
                wiretape_agent::own_cgroup::Hierarchy::find()
                    .expect("a hierarchy")
                    .root(),
            )
            .arg(bounding)
            .arg(inner.get_program())
            .args(inner.get_args());
        Self::spawn(outer, tape)
    }

    /// The same as systemd starts the package's unit: in `cgroup`, as `user` with the unit's `capabilities`, and with the
    /// folder `pins`, which it can reach only by being shown it at `shown`.
    pub fn start_as_unit(
        cgroup: &Path,
        (user, capabilities): (u32, &[String]),
        (pins, shown): (&Path, &Path),
        program: &Path,
        tape: &Path,
        flags: &[&str],
    ) -> Self {
        const START: &str = "echo 0 > $1/cgroup.procs || exit 1; pins=$2 shown=$3 user=$4 caps=$5; shift 5; \
             export pins shown user caps; exec unshare --mount sh -c 'mount --bind $pins $shown || exit 1; \
             exec setpriv --reuid=$user --regid=$user --clear-groups --bounding-set=-all,$caps --inh-caps=-all,$caps \
             --ambient-caps=-all,$caps --no-new-privs -- \"$@\"' unit \"$@\"";
        let given: Vec<String> = capabilities
            .iter()
            .map(|name| format!("+{}", name.to_lowercase()))
            .collect();
        let inner = command(tape, flags);
        let mut outer = Command::new("sh");
        outer
            .args(["-c", START, "start"])
            .args([cgroup, pins, shown])
            .args([user.to_string(), given.join(",")])
            .arg(program)
            .args(inner.get_args());
        Self::spawn(outer, tape)
    }

    fn spawn(mut command: Command, tape: &Path) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the agent starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("agent: {line}");
                let _ = send.send(line);
            }
        });
        let mut agent = Self {
            child,
            lines,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tape: tape.to_owned(),
        };
        agent.address = agent.logged("serving on ").parse().expect("an address");
        agent
    }

    /// Waits for a line of the log; gives what follows `text` in it.
    pub fn logged(&self, text: &str) -> String {
        let deadline = Instant::now() + patience();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("the agent did not log {text:?}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Memory of its own that it holds (without the ring, which is the kernel's), in KiB, and CPU time that it has taken, in ms.
    pub fn usage(&self) -> (u64, u64) {
        let read =
            |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs");
        let status = read("status");
        let held = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let held = held.and_then(|text| text.split_whitespace().next()?.parse().ok());
        // After the name, which may hold blanks: user and system time are the 12th and 13th, in hundredths.
        let stat = read("stat");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        (held.expect("a size"), ticks * 10)
    }

    /// Nanoseconds that its programs have run, and how often, as far as the kernel was asked to measure it.
    pub fn programs_ran(&self) -> (u64, u64) {
        let infos = std::fs::read_dir(format!("/proc/{}/fdinfo", self.child.id())).expect("it runs");
        let infos = infos.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        let field = |info: &str, name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        infos.fold((0, 0), |(time, runs), info| {
            let more = field(&info, "run_time_ns:").zip(field(&info, "run_cnt:"));
            let (more_time, more_runs) = more.unwrap_or_default();
            (time + more_time, runs + more_runs)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the agent runs");
    }

    /// Has it stop by itself.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("the agent ends")
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("the agent runs");
        self.child.wait().expect("the agent ends");
    }

    /// One request; status, head and body of its answer.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("the agent listens");
        stream.set_read_timeout(Some(patience())).expect("set");
        let headers = format!(
            "Host: agent\r\nConnection: close\r\nContent-Length: {}\r\n{headers}",
            body.len()
        );
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        // An agent that refuses a long body need not read it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let split = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a head");
        let body = answer.split_off(split + 4);
        let head = String::from_utf8(answer).expect("text");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("a status");
        Answer {
            status,
            head: head.to_lowercase(),
            body,
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    pub fn boundaries(&self) -> Boundaries {
        serde_json::from_slice(&self.get("/boundaries").body).expect("boundaries")
    }

    /// The value of one metric.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}")) as u64
    }

    /// What `/health` fails with.
    pub fn conditions(&self) -> Vec<String> {
        let answer = self.get("/health");
        let health = answer.json();
        let conditions: Vec<String> =
            serde_json::from_value(health["conditions"].clone()).expect("conditions");
        assert_eq!(
            answer.status,
            if conditions.is_empty() { 200 } else { 503 },
            "{health}"
        );
        conditions
    }

    /// Waits until health fails with a condition, and says so in the metrics too.
    pub fn wait_for_condition(&self, condition: &str) {
        self.wait_for(condition, |agent| {
            agent.conditions().iter().any(|it| it == condition)
        });
        let metric = format!("wiretape_agent_condition{{condition=\"{condition}\"}}");
        assert_eq!(self.metric(&metric), 1);
    }

    /// Every packet that was seen is on the tape, left out, or counted as lost; gives how many were seen and lost.
    pub fn accounts(&self) -> (u64, u64) {
        let deadline = Instant::now() + patience();
        loop {
            // The counters are read once a second.
            thread::sleep(Duration::from_millis(1100));
            let lost: u64 = ["buffer_full", "unreadable", "disk_full", "write_error"]
                .iter()
                .map(|stage| self.metric(&format!("wiretape_agent_lost_total{{stage=\"{stage}\"}}")))
                .sum();
            let (seen, kept) = (
                self.metric("wiretape_agent_seen_total"),
                self.metric("wiretape_agent_tape_packets_total")
                    + self.metric("wiretape_agent_excluded_total")
                    + self.left_out(),
            );
            if seen == kept + lost {
                return (seen, lost);
            }
            assert!(
                Instant::now() < deadline,
                "seen {seen}, on tape or left out {kept}, lost {lost}"
            );
        }
    }

    /// Packets left out by choice or budget.
    pub fn left_out(&self) -> u64 {
        ["filter", "rule", "sample", "budget"]
            .iter()
            .map(|by| self.metric(&format!("wiretape_agent_left_out_total{{by=\"{by}\"}}")))
            .sum()
    }

    /// Waits until something is so.
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + patience();
        while !is_so(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until all that the kernel has seen is on the tape, or counted as lost; gives how many packets
    /// were seen.
    pub fn settle(&self) -> u64 {
        let deadline = Instant::now() + patience();
        let mut last = None;
        loop {
            let seen = self.metric("wiretape_agent_seen_total");
            let lost = self.metric("wiretape_agent_lost_total{stage=\"buffer_full\"}")
                + self.metric("wiretape_agent_lost_total{stage=\"unreadable\"}");
            let come = self.metric("wiretape_agent_tape_packets_total");
            // Counted anew each second: twice the same says that nothing is under way.
            let state = (seen, lost, come);
            let excluded = self.metric("wiretape_agent_excluded_total") + self.left_out();
            if seen == excluded + lost + come && last == Some(state) {
                return seen;
            }
            assert!(
                Instant::now() < deadline,
                "(seen, lost, on tape) = {state:?} do not settle"
            );
            last = Some(state);
            thread::sleep(Duration::from_millis(1100));
        }
    }

    /// Cuts the whole tape and fetches every segment of the cut into `dir`.
    pub fn collect(&self, id: &str, dir: &Path) -> Vec<PathBuf> {
        let order = serde_json::json!({ "id": id, "start": 0, "end": u64::MAX });
        let answer = self.request("POST", "/cuts", "", order.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let cut: Cut = serde_json::from_slice(&answer.body).expect("a cut");
        let fetched = cut.segments.iter().map(|segment| {
            let answer = self.get(&format!("/cuts/{id}/segments/{}", segment.name));
            assert_eq!((answer.status, answer.body.len() as u64), (200, segment.bytes));
            let path = dir.join(&segment.name);
            std::fs::write(&path, answer.body).expect("written");
            path
        });
        let fetched = fetched.collect();
        assert_eq!(
            self.request("DELETE", &format!("/cuts/{id}"), "", b"").status,
            204
        );
        fetched
    }

    /// All events of a cut that is made now.
    pub fn events(&self) -> Vec<Event> {
        let fetched = tempfile::tempdir().expect("a folder");
        let mut events = Vec::new();
        for segment in self.collect("events", fetched.path()) {
            let mut reader = wiretape_tape::open(&segment).expect("a segment");
            let mut chunk = Chunk::default();
            while reader.next_chunk(&mut chunk).expect("reads on") {
                events.append(&mut chunk.events);
            }
        }
        events
    }

    /// All packets of a cut that is made now.
    pub fn recorded(&self, id: &str) -> Vec<Recorded> {
        let fetched = tempfile::tempdir().expect("a folder");
        let segments = self.collect(id, fetched.path());
        segments.iter().flat_map(|path| packets::read(path)).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // By itself it removes its cgroup.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + patience();
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the agent.
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}
