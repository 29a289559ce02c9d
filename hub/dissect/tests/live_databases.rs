//! Redis and PostgreSQL as they are installed, asked by their own benchmarks and recorded on the loopback: what they
//! count must be what comes out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use wiretape_captures::read;
use wiretape_dissect::testing::dissect;
use wiretape_dissect::{Call, Outcome};

#[test]
fn redis_counts_the_same_commands() {
    let Some(place) = Place::new(
        "redis",
        &["redis-server", "redis-cli", "redis-benchmark", "tcpdump"],
    ) else {
        return;
    };
    let port = place.port.to_string();
    let _server = place.spawn(
        "redis-server",
        &["--port", &port, "--bind", "127.0.0.1", "--save", ""],
    );
    place.await_server();
    let recorder = place.record();
    let test = [
        "-p",
        &port,
        "-n",
        "500",
        "-c",
        "3",
        "-P",
        "4",
        "-q",
        "-t",
        "set,get,lpush,lrange_100",
    ];
    run("redis-benchmark", &test);
    for command in [
        &["MSET", "a", "1", "b", "2"][..],
        &["-3", "CONFIG", "GET", "maxmemory"],
        &["LPUSH", "a", "1"],
    ] {
        run("redis-cli", &[&["-p", &port], command].concat());
    }
    let counted = run("redis-cli", &["-p", &port, "INFO", "commandstats"]);
    let calls = place.calls(recorder);

    let mut theirs = BTreeMap::new();
    for line in String::from_utf8_lossy(&counted.stdout).lines() {
        let told = line
            .strip_prefix("cmdstat_")
            .and_then(|line| line.split_once(":calls="));
        if let Some((name, rest)) = told {
            let count = rest
                .split(',')
                .next()
                .and_then(|count| count.parse::<usize>().ok());
            theirs.insert(name.replace('|', " ").to_uppercase(), count.unwrap());
        }
    }
    let mut ours = BTreeMap::new();
    // The question how many there were is not counted yet when it is answered.
    for call in calls.iter().filter(|call| call.method != "INFO") {
        assert_eq!((call.protocol, call.marks.0), ("redis", 0), "{call:?}");
        *ours.entry(call.method.to_string()).or_insert(0) += 1;
    }
    assert_eq!(ours, theirs);
    let failed: Vec<&str> = calls
        .iter()
        .filter(|call| call.outcome != Outcome::Ok)
        .map(|call| &*call.method)
        .collect();
    assert_eq!(failed, ["LPUSH"]);
}

#[test]
fn pgbench_counts_the_same_transactions() {
    let Some(place) = Place::new("postgresql", &["runuser", "pgbench", "psql", "tcpdump"]) else {
        return;
    };
    let Some(server) = Postgres::start(&place) else {
        return;
    };
    let port = place.port.to_string();
    let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
    run("pgbench", &[&to[..], &["-i", "-q", "postgres"]].concat());
    let recorder = place.record();
    for mode in ["simple", "extended", "prepared"] {
        let test = ["-M", mode, "-c", "2", "-t", "50", "-n", "postgres"];
        run("pgbench", &[&to[..], &test].concat());
    }
    // It says by its exit that one of them failed.
    let asked = [
        "-c",
        "SELECT 1 FROM nowhere",
        "-c",
        "COPY pgbench_branches TO STDOUT",
        "postgres",
    ];
    Command::new("psql").args(to).args(asked).output().unwrap();
    let calls = place.calls(recorder);
    drop(server);

    let count = |method: &str, path: &str| {
        calls
            .iter()
            .filter(|call| call.method == method && call.path == path)
            .count()
    };
    for (method, path, times) in [
        ("BEGIN", "", 300),
        ("UPDATE", "pgbench_accounts", 300),
        ("SELECT", "pgbench_accounts", 300),
        ("UPDATE", "pgbench_tellers", 300),
        ("UPDATE", "pgbench_branches", 300),
        ("INSERT", "pgbench_history", 300),
        ("END", "", 300),
        // Each of the two clients prepares each of the seven statements once.
        ("PARSE", "pgbench_accounts", 4),
        ("COPY", "pgbench_branches", 1),
    ] {
        assert_eq!(count(method, path), times, "{method} {path}");
    }
    for call in &calls {
        assert_eq!((call.protocol, call.marks.0), ("postgresql", 0), "{call:?}");
        let failed = call.path == "nowhere";
        assert_eq!(call.outcome == Outcome::ClientError, failed, "{call:?}");
    }
}

/// A port that nobody has, a folder, and what is started there.
struct Place {
    port: u16,
    folder: PathBuf,
}

impl Place {
    /// A place to run these programs, if there are all of them and they may be.
    fn new(name: &str, programs: &[&str]) -> Option<Self> {
        for program in programs {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .output();
            if !found.is_ok_and(|found| found.status.success()) {
                eprintln!("skipped: {program} is not installed");
                return None;
            }
        }
        if !std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("Uid:\t0")) {
            eprintln!("skipped: only root may record");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("wiretape-live-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Some(Self { port, folder })
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        Running(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn await_server(&self) {
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server does not listen");
    }

    /// Records the port, from when this returns.
    fn record(&self) -> Running {
        let port = self.port.to_string();
        let arguments = [
            "-i",
            "lo",
            "-U",
            "--immediate-mode",
            "-B",
            "65536",
            "-Z",
            "root",
            "-w",
            "packets.pcap",
            "port",
            &port,
        ];
        let mut recorder = self.spawn("tcpdump", &arguments);
        let mut line = String::new();
        let mut said = BufReader::new(recorder.0.stderr.take().unwrap());
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not record");
        }
        recorder
    }

    /// What the recording holds.
    fn calls(&self, recorder: Running) -> Vec<Call> {
        std::thread::sleep(Duration::from_millis(500));
        drop(recorder);
        dissect(&read(&self.folder.join("packets.pcap")).unwrap()).calls
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with data of its own.
struct Postgres {
    control: PathBuf,
    data: String,
}

impl Postgres {
    fn start(place: &Place) -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten();
        let Some(programs) = versions.map(|version| version.path().join("bin")).max() else {
            eprintln!("skipped: postgresql is not installed");
            return None;
        };
        let data = place.folder.join("data").to_string_lossy().into_owned();
        run("install", &["-d", "-o", "postgres", &data]);
        let server = Self {
            control: programs.join("pg_ctl"),
            data,
        };
        let options = format!("-p {} -h 127.0.0.1 -k {} -c fsync=off", place.port, server.data);
        let log = format!("{}/log", server.data);
        server.control(&["initdb", "-o", "-A trust -N"]);
        server.control(&["start", "-w", "-l", &log, "-o", &options]);
        Some(server)
    }

    fn control(&self, arguments: &[&str]) {
        let control = self.control.to_string_lossy();
        run(
            "runuser",
            &[&["-u", "postgres", "--", &control, "-D", &self.data], arguments].concat(),
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.control(&["stop", "-m", "immediate"]);
    }
}

/// Runs a program to its end, which must be a good one.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
