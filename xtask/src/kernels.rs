//! The agent on kernels that this machine does not run: Debian's, booted in an emulator with the agent and its tests.
//!
//! Nothing of this machine is used but its programs, so that the tests inside are the tests outside. There is no disk:
//! all is unpacked into memory, and the results come over the console.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{dist, programs, setup, step};

/// Which, and how long.
#[derive(Args)]
pub struct Wanted {
    /// Debian's releases whose kernels are booted
    #[arg(default_values = ["bullseye", "bookworm", "trixie"])]
    releases: Vec<String>,
    /// The agent's tests that run there
    #[arg(long, num_args = 1.., default_values = ["recording", "against_tcpdump", "interfaces", "pins", "events"])]
    tests: Vec<String>,
    /// Minutes that a kernel has for all of them
    #[arg(long, default_value_t = 40)]
    minutes: u64,
}

/// Programs of this machine that the tests call.
const PROGRAMS: &[&str] = &["sh", "bash", "ip", "nft", "tcpdump", "unshare", "setpriv"];

/// What busybox stands for there. Not `sh`: its own would take its own `ip`.
const APPLETS: &[&str] = &[
    "cat", "chmod", "cut", "echo", "grep", "head", "insmod", "kill", "ln", "ls", "mkdir", "mount", "ping",
    "poweroff", "rm", "rmdir", "sed", "sleep", "sysctl", "tail", "timeout", "true", "umount", "uname",
];

/// Modules that some of Debian's kernels do not have built in, each behind those that it needs. Of the last four, a kernel may have fewer.
const MODULES: &[&str] = &[
    "drivers/net/veth",
    "net/sched/sch_ingress",
    "net/sched/cls_bpf",
    "crypto/crc32c_generic",
    "lib/libcrc32c",
    "net/netfilter/nfnetlink",
    "net/netfilter/nf_tables",
];

/// The first process. What it prints with a mark is read here. Where the agent lies, as on this machine, may be below /tmp.
const INIT: &str = "#!/bin/sh
export WIRETAPE_PATIENCE=10
export PATH=/bin:/sbin:/usr/bin:/usr/sbin RUST_BACKTRACE=0 TMPDIR=/scratch
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs scratch /scratch; mount -t tmpfs run /run; mkdir -p /run/netns
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t bpf bpf /sys/fs/bpf
for module in /modules/*.ko; do insmod $module; done
ip link set lo up
echo \"@kernel $(uname -r)\"
wiretape-agent doctor --tape /scratch/tape --tape-size 64MiB --segment-size 16MiB 2>&1 | sed 's/^/@doctor /'
for test in /tests/*; do
  timeout 1200 $test --test-threads=1 2>&1 | grep -E '^test |SKIPPED|panicked|not recorded on|are not recorded|is not recorded|is not told|waited in vain|^ *left:|^ *right:' | sed \"s|^|@test ${test##*/} |\"
done
echo @end
poweroff -f
";

/// Builds, boots each kernel, and prints a table.
pub fn run(wanted: &Wanted) -> Result<()> {
    setup::emulator()?;
    let tests = build(&wanted.tests)?;
    let mut failed = Vec::new();
    for release in &wanted.releases {
        let home = programs::target_dir().join("kernels").join(release);
        let report = fetch(release, &home)
            .and_then(|kernel| boot(&kernel, &home, &tests, Duration::from_secs(60 * wanted.minutes)));
        match report {
            Ok(report) => {
                let bad = print(&report);
                failed.extend(bad.then(|| release.clone()));
            }
            Err(error) => {
                println!("{release}: not tried: {error:#}");
                failed.push(release.clone());
            }
        }
    }
    if !failed.is_empty() {
        bail!("not all is well on the kernels of: {}", failed.join(", "));
    }
    Ok(())
}

/// The agent and its tests, as cargo builds them here: the tests look for the agent where it is on this machine.
fn build(tests: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut build = programs::cargo(&["test", "--release", "--package", "wiretape-agent", "--no-run"]);
    build.arg("--message-format=json");
    for test in tests {
        build.args(["--test", test]);
    }
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo speaks another JSON")?;
        if let (Some(name), Some(program)) = (
            message.pointer("/target/name").and_then(|name| name.as_str()),
            message.get("executable").and_then(|program| program.as_str()),
        ) {
            found.push((name.to_owned(), PathBuf::from(program)));
        }
    }
    Ok(found)
}

/// A kernel as its package has it.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

/// Debian's kernel of a release, by an apt that knows of that release and nothing else. Kept, so that the second time
/// nothing is fetched.
fn fetch(release: &str, home: &Path) -> Result<Kernel> {
    let root = home.join("root");
    if !root.is_dir() {
        let (lists, packages) = (home.join("lists/partial"), home.join("packages"));
        fs::create_dir_all(&lists)?;
        fs::create_dir_all(&packages)?;
        let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let sources = format!(
            "deb [signed-by={key}] http://deb.debian.org/debian {release} main\n\
             deb [signed-by={key}] http://deb.debian.org/debian-security {release}-security main\n"
        );
        fs::write(home.join("sources.list"), sources)?;
        let apt = |program: &str| {
            let mut apt = Command::new(program);
            let home = home.display();
            for option in [
                format!("Dir::Etc::sourcelist={home}/sources.list"),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                format!("Dir::State::lists={home}/lists"),
                format!("Dir::Cache={home}"),
                "Acquire::Languages=none".to_owned(),
                "APT::Sandbox::User=root".to_owned(),
            ] {
                apt.args(["-o", &option]);
            }
            apt
        };
        step::run(
            &format!("package lists of {release}"),
            apt("apt-get").args(["update", "-q"]),
        )?;
        let depends = apt("apt-cache")
            .args(["depends", "linux-image-cloud-amd64"])
            .output()?;
        let text = String::from_utf8_lossy(&depends.stdout);
        let package = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image"))
            .context("this release has no linux-image-cloud-amd64")?;
        let mut download = apt("apt-get");
        download.args(["download", &format!("linux-image{package}")]);
        step::run(&format!("kernel of {release}"), download.current_dir(&packages))?;
        let package = first(&packages, |_| true)?;
        let half = home.join("half");
        programs::finish(Command::new("dpkg-deb").arg("-x").arg(package).arg(&half))?;
        fs::rename(&half, &root)?;
    }
    let modules = ["lib/modules", "usr/lib/modules"].map(|folder| root.join(folder));
    let modules = modules.iter().find(|folder| folder.is_dir());
    Ok(Kernel {
        image: first(&root.join("boot"), |name| name.starts_with("vmlinuz"))?,
        modules: first(modules.context("the package has no modules")?, |_| true)?,
    })
}

fn first(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| wanted(&name.to_string_lossy()))
        })
        .min()
        .with_context(|| format!("{} has not what is looked for", folder.display()))
}

/// Boots it with the tests, and gives what it said.
fn boot(kernel: &Kernel, home: &Path, tests: &[(String, PathBuf)], within: Duration) -> Result<String> {
    let archive = archive(kernel, home, tests)?;
    let seconds = within.as_secs().to_string();
    let mut emulator = Command::new("timeout");
    emulator
        .args([
            &seconds,
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
        ])
        .args([
            "-m",
            "3072",
            "-nographic",
            "-nic",
            "none",
            "-no-reboot",
            "-kernel",
        ])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&archive)
        // The emulated timer is late on a busy machine, which the kernel would take for a broken one.
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init",
        ])
        .stdin(Stdio::null());
    let output = emulator.output().context("cannot start timeout")?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    fs::write(home.join("console.log"), &said)?;
    fs::remove_file(archive)?;
    if !said.contains("@kernel ") {
        bail!("it does not boot: see {}", home.join("console.log").display());
    }
    Ok(said)
}

/// All files that there are, in one archive.
fn archive(kernel: &Kernel, home: &Path, tests: &[(String, PathBuf)]) -> Result<PathBuf> {
    let root = home.join("initramfs");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for folder in [
        "proc", "sys", "dev", "tmp", "run", "bin", "modules", "tests", "root", "scratch",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    let agent = programs::target_dir().join("release/wiretape-agent");
    dist::put_with_libraries(&agent, &root, &agent)?;
    symlink(&agent, root.join("bin/wiretape-agent"))?;
    for (name, program) in tests {
        dist::put_with_libraries(program, &root, &Path::new("/tests").join(name))?;
    }
    for name in PROGRAMS {
        let program = setup::program(name).with_context(|| format!("{name} is not installed"))?;
        dist::put_with_libraries(&program, &root, &Path::new("/bin").join(name))?;
    }
    let busybox = setup::program("busybox").context("busybox is not installed")?;
    dist::put_with_libraries(&busybox, &root, Path::new("/bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for (number, module) in MODULES.iter().enumerate() {
        let (folder, name) = module.rsplit_once('/').unwrap_or(("", module));
        let Ok(from) = first(&kernel.modules.join("kernel").join(folder), |file| {
            file.starts_with(&format!("{name}.ko"))
        }) else {
            continue;
        };
        let file = from.file_name().unwrap_or_default().to_string_lossy();
        // They are loaded by the order of their names.
        let to = root.join("modules").join(format!("{number}-{file}"));
        fs::copy(&from, &to)?;
        if to.extension().is_some_and(|kind| kind == "xz") {
            programs::finish(Command::new("xz").arg("-d").arg(&to))?;
        }
    }
    dist::write(&root.join("init"), INIT, 0o755)?;
    let archive = home.join("initrd");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | cpio -o -H newc --quiet > \"$0\""])
        .arg(&archive)
        .current_dir(&root);
    programs::finish(&mut pack)?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

/// Prints what came out, and says whether something failed.
fn print(said: &str) -> bool {
    let marked = |mark: &'static str| said.lines().filter_map(move |line| line.strip_prefix(mark));
    let kernel = marked("@kernel ").next().unwrap_or("?");
    let mut bad = !said.lines().any(|line| line == "@end");
    println!(
        "\nLinux {kernel}{}",
        if bad { " (did not come to the end)" } else { "" }
    );
    marked("@doctor ").for_each(|line| println!("  {line}"));
    for line in marked("@test ") {
        println!("  {line}");
        bad |= line.ends_with("FAILED") || line.contains("panicked");
    }
    bad
}
