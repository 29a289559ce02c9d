//! Brings a Debian machine to where everything builds and every test can run.
//!
//! Each need knows how to see whether it is met and how to meet it, so running this twice does nothing the second time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{programs, step};

/// Debian's own Rust, whose `core` for `bpfel-unknown-none` comes ready-made: rustup's stable has none, and building
/// one takes nightly and rust-src.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const DEBIAN_RUST_PACKAGES: &[&str] = &[
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "rust-web-src",
    "llvm-22-dev",
];
/// The LLVM that Debian's rustc is built with; the linker must read its bitcode.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
/// The linker's version, held fast so that every machine links the same way.
const BPF_LINKER: &str = "bpf-linker@0.13.0";

/// Says by its age when the peers of `tests/peers` were built. Their program does not: cargo leaves it where a change
/// makes no difference.
const RUST_PEERS_BUILT: &str = "built";
/// Packages from PyPI in a folder of their own, with their versions held fast: whatever PyPI has next, tests use these.
struct Venv {
    folder: &'static str,
    packages: &'static [(&'static str, &'static str)],
}

const PYTHON_PEERS: &Venv = &Venv {
    folder: "python",
    packages: &[("grpcio", "1.85.1"), ("websockets", "17.4")],
};

const HELM: &Venv = &Venv {
    folder: "helm",
    packages: &[("helm-python-sdk", "0.2.2"), ("kubernetes-validate", "1.37.0")],
};

/// One thing that must be there.
struct Need {
    /// What it is, and what for.
    what: &'static str,
    met: fn() -> bool,
    meet: Meet,
}

enum Meet {
    /// Debian packages, by apt-get.
    Packages(&'static [&'static str]),
    /// A `core` that the kernel programs can be built with.
    BpfCore,
    /// The linker for it.
    BpfLinker,
    /// The peers of `tests/peers`, by cargo.
    RustPeers,
    /// Packages from PyPI, in a virtual environment.
    Python(&'static Venv),
}

/// Of these, so many come first that are needed to build, not to test.
const TO_BUILD: usize = 4;

const NEEDS: &[Need] = &[
    Need {
        what: "C compiler (for libraries that build C)",
        met: || has_program("cc"),
        meet: Meet::Packages(&["gcc", "libc6-dev", "pkg-config"]),
    },
    Need {
        what: "libpcap (capture filters, the second capture backend)",
        met: || Path::new("/usr/include/pcap/pcap.h").exists(),
        meet: Meet::Packages(&["libpcap-dev"]),
    },
    Need {
        what: "core for bpfel-unknown-none (the kernel programs)",
        met: has_bpf_core,
        meet: Meet::BpfCore,
    },
    Need {
        what: "bpf-linker (the kernel programs)",
        met: || cargo_program("bpf-linker").is_some(),
        meet: Meet::BpfLinker,
    },
    Need {
        what: "ip (network namespaces: the test cluster's nodes)",
        met: || has_program("ip"),
        meet: Meet::Packages(&["iproute2"]),
    },
    Need {
        what: "tcpdump, tshark, nginx, wrk, curl, nft (what tests and benchmarks compare with and talk to)",
        met: || {
            ["tcpdump", "tshark", "nginx", "wrk", "curl", "nft"]
                .into_iter()
                .all(has_program)
        },
        meet: Meet::Packages(&["tcpdump", "tshark", "nginx", "wrk", "curl", "nftables"]),
    },
    Need {
        what: "redis, postgresql (servers that tests record; these tests are skipped without them)",
        met: || ["redis-server", "pgbench"].into_iter().all(has_program),
        meet: Meet::Packages(&["redis-server", "postgresql"]),
    },
    Need {
        what: "nghttp2, dnsmasq, dnsperf, dig, openssl, ping (more of them)",
        met: || {
            [
                "nghttpd", "nghttpx", "nghttp", "h2load", "dnsmasq", "dnsperf", "dig", "openssl", "ping",
            ]
            .into_iter()
            .all(has_program)
        },
        meet: Meet::Packages(&[
            "nghttp2-server",
            "nghttp2-proxy",
            "nghttp2-client",
            "dnsmasq-base",
            "dnsperf",
            "bind9-dnsutils",
            "openssl",
            "iputils-ping",
        ]),
    },
    Need {
        what: "h2, tonic (crates that tests record; outside the workspace)",
        met: has_rust_peers,
        meet: Meet::RustPeers,
    },
    Need {
        what: "grpcio, websockets (from PyPI; tests record them, too)",
        met: || PYTHON_PEERS.is_there(),
        meet: Meet::Python(PYTHON_PEERS),
    },
    Need {
        what: "Helm's engine and the Kubernetes API's schemas (from PyPI; the chart is rendered and tested with them)",
        met: || HELM.is_there(),
        meet: Meet::Python(HELM),
    },
    Need {
        what: "dpkg-deb, strip, busybox (packages and images, and a bare root to try them in)",
        met: || {
            ["dpkg-deb", "dpkg-shlibdeps", "strip", "busybox"]
                .into_iter()
                .all(has_program)
        },
        meet: Meet::Packages(&["dpkg", "dpkg-dev", "binutils", "busybox-static"]),
    },
    Need {
        what: "dumpcap, stenographer, iperf3 (benchmarks record beside them, and what they send)",
        met: || ["dumpcap", "stenotype", "iperf3"].into_iter().all(has_program),
        meet: Meet::Packages(&["wireshark-common", "stenographer", "iperf3"]),
    },
    Need {
        what: "gRPC for Python (Debian's; benchmarks record it)",
        met: || Path::new("/usr/lib/python3/dist-packages/grpc").is_dir(),
        meet: Meet::Packages(&["python3-grpcio"]),
    },
];

/// Installs what is missing. What cannot be installed is said in one line each, and does not stop the rest.
pub fn run() -> Result<()> {
    meet(NEEDS)
}

/// The same of what a build needs: nothing that only tests talk to.
pub fn to_build() -> Result<()> {
    meet(NEEDS.get(..TO_BUILD).unwrap_or(NEEDS))
}

fn meet(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.met)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("{} of {} needs are not met yet:", missing.len(), needs.len());
    for need in &missing {
        eprintln!("  - {}", need.what);
    }
    let mut apt = Apt::default();
    for (at, need) in missing.iter().enumerate() {
        let title = format!("[{}/{}] {}", at + 1, missing.len(), need.what);
        let outcome = match need.meet {
            Meet::Packages(packages) => apt.install(&title, packages),
            Meet::BpfCore => meet_bpf_core(&title, &mut apt),
            Meet::BpfLinker => meet_bpf_linker(&title),
            Meet::RustPeers => meet_rust_peers(&title),
            Meet::Python(venv) => venv.install(&title, &mut apt),
        };
        if let Err(error) = outcome {
            eprintln!("✗ {title}: {error:#}");
        }
    }
    Ok(())
}

/// Says what is there and what is missing.
pub fn report() -> Result<()> {
    for need in NEEDS {
        println!("{} {}", if (need.met)() { "✓" } else { "✗" }, need.what);
    }
    Ok(())
}

/// Whether this user may install packages, make namespaces and load programs.
pub fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// Either of the two ways to have `core` for the kernel's target; `agent/build.rs` looks in the same places.
fn has_bpf_core() -> bool {
    has_debian_bpf_core() || has_nightly_source()
}

fn has_debian_bpf_core() -> bool {
    Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_BPF_CORE).is_dir()
}

fn has_nightly_source() -> bool {
    let sysroot = Command::new("rustc")
        .args(["+nightly", "--print", "sysroot"])
        .stderr(Stdio::null())
        .output();
    let Ok(output) = sysroot else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// Debian's packages first (they are signed, and need no nightly); rustup's nightly with its source second.
fn meet_bpf_core(title: &str, apt: &mut Apt) -> Result<()> {
    let by_packages = apt.install(title, DEBIAN_RUST_PACKAGES);
    if by_packages.is_ok() && has_debian_bpf_core() {
        return Ok(());
    }
    if has_program("rustup") {
        let mut rustup = Command::new("rustup");
        rustup.args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]);
        if step::run(&format!("{title}, by rustup"), &mut rustup).is_ok() && has_nightly_source() {
            return Ok(());
        }
    }
    by_packages?;
    bail!(
        "neither Debian's {} nor `rustup toolchain install nightly --component rust-src` gave it; \
         the agent is built without eBPF and records through libpcap",
        DEBIAN_RUST_PACKAGES.join(" ")
    )
}

fn meet_bpf_linker(title: &str) -> Result<()> {
    if !has_bpf_core() {
        bail!("left out: there is no core for the kernel's target to link");
    }
    let mut install = Command::new("cargo");
    // Out of the project's own build folder: its flags and lock file are not the linker's.
    install
        .args(["install", BPF_LINKER])
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    if has_debian_bpf_core() && Path::new(DEBIAN_LLVM).is_dir() {
        install
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", DEBIAN_LLVM);
    }
    step::run(&format!("{title}, 2 to 4 minutes"), &mut install)
}

/// Where peers are that are no packages: beside what cargo builds, where tests look for them.
fn peers() -> PathBuf {
    programs::target_dir().join("peers")
}

/// Built, and since their last change.
fn has_rust_peers() -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(built) = changed(&peers().join(RUST_PEERS_BUILT)) else {
        return false;
    };
    let source = programs::root().join("tests/peers");
    let sources = source.join("src").read_dir().into_iter().flatten().flatten();
    ["Cargo.toml", "Cargo.lock"]
        .map(|name| source.join(name))
        .into_iter()
        .chain(sources.map(|file| file.path()))
        .all(|file| changed(&file).is_some_and(|changed| changed <= built))
}

fn meet_rust_peers(title: &str) -> Result<()> {
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--locked"])
        .current_dir(programs::root().join("tests/peers"))
        .env("CARGO_TARGET_DIR", peers());
    step::run(&format!("{title}, 1 to 2 minutes"), &mut build)?;
    let built = peers().join(RUST_PEERS_BUILT);
    fs::write(&built, "").with_context(|| format!("cannot write {}", built.display()))
}

impl Venv {
    fn python(&self) -> PathBuf {
        peers().join(self.folder).join("bin/python")
    }

    fn is_there(&self) -> bool {
        let pinned =
            |(package, version): &(&str, &str)| format!("assert version('{package}') == '{version}'");
        let check: Vec<_> = self.packages.iter().map(pinned).collect();
        succeeds(Command::new(self.python()).arg("-c").arg(format!(
            "from importlib.metadata import version; {}",
            check.join("; ")
        )))
    }

    fn install(&self, title: &str, apt: &mut Apt) -> Result<()> {
        // Debian has it in a package of its own.
        if !succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])) {
            apt.install(&format!("{title}: venv"), &["python3-venv"])?;
        }
        let folder = peers().join(self.folder);
        step::run(
            &format!("{title}: a virtual environment"),
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )?;
        let pinned = self
            .packages
            .iter()
            .map(|(package, version)| format!("{package}=={version}"));
        step::run(
            title,
            Command::new(folder.join("bin/pip"))
                .args(["install", "--disable-pip-version-check", "--only-binary", ":all:"])
                .args(pinned),
        )
    }
}

/// A Python that has Helm's engine; installed if it is not there.
pub fn helm() -> Result<PathBuf> {
    if !HELM.is_there() {
        HELM.install("Helm's engine", &mut Apt::default())?;
    }
    Ok(HELM.python())
}

/// What `kernels` needs: installed if it is not there.
pub fn emulator() -> Result<()> {
    meet(&[Need {
        what: "qemu, cpio, xz, busybox (to boot other kernels)",
        met: || {
            ["qemu-system-x86_64", "cpio", "xz", "busybox"]
                .into_iter()
                .all(has_program)
        },
        meet: Meet::Packages(&["qemu-system-x86", "cpio", "xz-utils", "busybox-static"]),
    }])
}

/// Where a program of this machine is.
pub fn program(name: &str) -> Option<PathBuf> {
    folders()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// apt-get, with one `update` for all installs.
#[derive(Default)]
struct Apt {
    updated: bool,
}

impl Apt {
    fn install(&mut self, title: &str, packages: &[&str]) -> Result<()> {
        let by_hand = format!("apt-get install {}", packages.join(" "));
        if !has_program("apt-get") {
            bail!(
                "no apt-get on this machine; install what corresponds to: {}",
                packages.join(" ")
            );
        }
        if !is_root() {
            bail!("not root; as root: {by_hand}");
        }
        if !self.updated {
            step::run("package lists", Command::new("apt-get").args(["update", "-q"]))?;
            self.updated = true;
        }
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "-q"]).args(packages);
        // tshark asks whether everybody may capture, and nginx would start: neither is wanted.
        install
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1");
        step::run(title, &mut install).with_context(|| format!("by hand: {by_hand}"))
    }
}

fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn has_program(name: &str) -> bool {
    program(name).is_some()
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian keeps servers in folders that a user's PATH may lack.
    listed.into_iter().chain(["/usr/sbin".into(), "/sbin".into()])
}

/// A program that `cargo install` put where it puts them, or anywhere on the PATH.
fn cargo_program(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let installed = home?.join("bin").join(name);
    (installed.is_file() || has_program(name)).then_some(installed)
}
