//! What is shipped, tried out: the images' roots with nothing else around them, and the packages on a Debian that is thrown
//! away afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that `systemd-analyze security` may say, in tenths: 0 is locked up, 100 is open. The hub is at 12, and the agent,
/// which has to load programs into the kernel, at 26.
const EXPOSURE: [(&str, &str); 2] = [("agent", "30"), ("hub", "15")];

/// Everything that runs in a bare root runs so: with its own mounts, which end with it.
const ENTER_ROOT: &str = "mount -t proc proc $0/proc && mount --rbind /sys $0/sys && exec chroot $0 \"$@\"";

/// A Debian like this one in which nothing that is done lasts.
const ON_A_COPY: &str = "mount -t tmpfs tmpfs $0 && cd $0 && mkdir upper work root && \
     mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root && \
     mount -t proc proc root/proc && mount -t tmpfs tmpfs root/tmp && mkdir root/tmp/debs && \
     cp $1/*.deb root/tmp/debs && exec chroot root sh -exc \"$2\"";

/// As somebody would: installs, changes a setting, installs again, removes, purges.
const LIFE_OF_A_PACKAGE: &str = "
    dpkg --force-confold -i /tmp/debs/*.deb
    test \"$(stat -c '%U %a' /var/lib/wiretape/tape)\" = 'wiretape-agent 750'
    test \"$(stat -c '%U %a' /var/lib/wiretape/hub)\" = 'wiretape-hub 750'
    wiretape-agent --version
    wiretape-hub --version
    systemd-analyze verify wiretape-agent.service wiretape-hub.service
    echo '# mine' >> /etc/default/wiretape-agent
    touch /var/lib/wiretape/tape/segment /var/lib/wiretape/hub/snapshot
    dpkg -i /tmp/debs/*.deb < /dev/null
    grep '# mine' /etc/default/wiretape-agent
    dpkg -r wiretape-agent wiretape-hub
    test ! -e /usr/bin/wiretape-agent
    test -e /etc/default/wiretape-agent
    test -e /var/lib/wiretape/tape/segment
    dpkg -P wiretape-agent wiretape-hub
    test ! -e /etc/default/wiretape-agent
    test ! -e /var/lib/wiretape/tape
    test -e /var/lib/wiretape/hub/snapshot
    echo all of it was as it should be";

/// An image is built from what the context lets through, and nobody here builds one.
#[test]
fn the_context_of_images_has_what_is_built_into_the_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let context = fs::read_to_string(root.join("deploy/Dockerfile.dockerignore")).expect("a list");
    let passes = |folder: &str| context.lines().any(|line| line == format!("!{folder}"));
    let built_in = r#"include_str!\("(\.\./)+[a-z_./-]+"#;
    let found = Command::new("grep")
        .args(["-rhoE", "--include=*.rs", built_in, "hub/src", "agent/src"])
        .current_dir(&root)
        .output()
        .expect("grep runs");
    let mut files = 0;
    for path in String::from_utf8(found.stdout).expect("text").lines() {
        let Some(folder) = path.rsplit("../").next().and_then(|path| path.split('/').next()) else {
            continue;
        };
        if root.join(folder).is_dir() {
            files += 1;
            assert!(passes(folder), "{path} is not in the context of images");
        }
    }
    assert!(files >= 3, "{files}");
}

#[test]
fn two_bare_roots_record_and_answer() {
    let Some(made) = made() else { return };
    if !is_root("to enter a root") {
        return;
    }
    let agent = Bare::start(
        made,
        "agent",
        &[
            "--backend",
            "pcap",
            "--interface",
            "lo",
            "--listen",
            "127.0.0.1:0",
            "--node-name",
            "bare-node",
        ],
        "serving on ",
    );
    // As a name service would tell it: the hub looks a name up, which takes the C library's own libraries.
    let hosts = made.join("hub/etc/hosts");
    fs::write(&hosts, "127.0.0.1 agents.test\n").expect("a file");
    let agents = format!("agents.test:{}", agent.address.port());
    let hub = Bare::start(
        made,
        "hub",
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            "/tmp/data",
            "--nodes-dns",
            &agents,
        ],
        "hub answers on http://",
    );
    assert!(get(agent.address, "/health").contains("\"status\":\"ok\""));
    assert!(get(hub.address, "/healthz").starts_with("HTTP/1.1 200"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let boundaries = get(hub.address, "/mcp/data-boundaries");
        if boundaries.contains("bare-node") {
            break;
        }
        assert!(Instant::now() < deadline, "{boundaries}");
    }
    drop(hub);
    drop(agent);
    let tape = fs::read_dir(made.join("agent/var/lib/wiretape/tape")).expect("the tape");
    assert!(tape.count() > 0, "nothing is on the tape");
    fs::remove_file(hosts).expect("it was written above");
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let (Some(made), Some(programs)) = (made(), programs()) else {
        return;
    };
    let again = tempfile::tempdir().expect("a folder");
    dist(&programs, again.path(), &["agent"]);
    let package = |folder: &Path| {
        let name = packages(folder)
            .into_iter()
            .find(|path| path.to_string_lossy().contains("wiretape-agent"));
        fs::read(name.expect("a package")).expect("readable")
    };
    assert_eq!(package(made), package(again.path()));
    for name in ["usr/bin/wiretape-agent", "etc/passwd", "lib64"] {
        let time = |folder: &Path| {
            let file = folder.join("agent").join(name);
            fs::metadata(file)
                .and_then(|file| file.modified())
                .map_err(|error| error.kind())
        };
        assert_eq!(time(made), time(again.path()), "{name}");
    }
}

#[test]
fn packages_are_installed_upgraded_and_purged() {
    let Some(made) = made() else { return };
    if !is_root("to install packages on a copy") || !Path::new("/usr/bin/dpkg").exists() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", ON_A_COPY])
        .args([place.path(), made])
        .arg(LIFE_OF_A_PACKAGE)
        .output()
        .expect("unshare starts");
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if told.contains("unknown filesystem type 'overlay'") {
        skipped("a kernel with overlayfs");
        return;
    }
    assert!(output.status.success(), "{told}");
    assert!(told.contains("all of it was as it should be"), "{told}");
}

#[test]
fn units_are_as_locked_up_as_they_were() {
    for (program, threshold) in EXPOSURE {
        let unit = root().join(format!("deploy/debian/{program}/wiretape-{program}.service"));
        let output = Command::new("systemd-analyze")
            .args([
                "security",
                "--offline=true",
                "--no-pager",
                "--threshold",
                threshold,
            ])
            .arg(unit)
            .output();
        let Ok(output) = output else {
            skipped("systemd-analyze");
            return;
        };
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A program in its bare root, stopped when dropped.
struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    /// Starts it, and waits for the line of its log in which the address follows `told`.
    fn start(made: &Path, program: &str, flags: &[&str], told: &str) -> Self {
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", ENTER_ROOT])
            .arg(made.join(program))
            .arg(format!("/usr/bin/wiretape-{program}"))
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut log = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("{program} ended: {log}");
            };
            if let Some((_, rest)) = line.split_once(told) {
                let address = rest.split_whitespace().next().unwrap_or_default();
                break address.parse().unwrap_or_else(|_| panic!("no address: {line}"));
            }
            log.push_str(&line);
        };
        // Read on, or it would wait for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}

/// Head and body of an answer.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// Roots and packages of the programs that are built, made once for all tests.
fn made() -> Option<&'static Path> {
    static MADE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a folder");
        dist(&programs, folder.path(), &[]);
        Some(folder)
    });
    folder.as_ref().map(tempfile::TempDir::path)
}

fn dist(programs: &Path, out: &Path, which: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("dist")
        .args(which)
        .arg("--binaries")
        .arg(programs)
        .arg("--out")
        .arg(out)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .expect("xtask starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where the programs are built: beside this one. They are there when all is tested, as `cargo xtask test` does.
fn programs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_xtask")).parent()?;
    let there = ["wiretape-agent", "wiretape-hub"]
        .iter()
        .all(|name| folder.join(name).exists());
    let tools = ["strip", "dpkg-deb", "dpkg-shlibdeps"]
        .iter()
        .all(|tool| Path::new("/usr/bin").join(tool).exists());
    if !there {
        skipped("an agent and a hub beside xtask (cargo build --release)");
    } else if !tools {
        skipped("strip, dpkg-deb and dpkg-shlibdeps (cargo xtask setup)");
    }
    (there && tools).then(|| folder.to_owned())
}

fn packages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect()
}

/// Of the machine: root of a user namespace may neither mount /proc nor install packages.
fn is_root(what_for: &str) -> bool {
    let id = Command::new("id").arg("-u").output();
    let ids = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all = ids.split_whitespace().nth(2) == Some("4294967295");
    let root = all && id.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root {
        skipped(&format!("the machine's root, {what_for}"));
    }
    root
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder")
}

/// Past the test harness, which holds back what a passing test prints.
fn skipped(missing: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: this test needs {missing}");
}
