//! Programs and ring that outlive the agent: what passes between two agents is on the tape, once.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use common::agent::Agent;
use common::packets::{self, Recorded};
use common::places::{BpfFs, Cgroup, Link, RIGHT, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload};
use wiretape_agent::clocks::wall_clock;
use wiretape_tape::Direction;

#[test]
fn workload_process() {
    workload::main();
}

/// How often each number was recorded, as sent.
fn times_sent(packets: &[Recorded]) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.direction == Direction::Out) {
        let number = packet.data.get(28..36).expect("a numbered datagram");
        *times
            .entry(u64::from_be_bytes(number.try_into().expect("eight bytes")))
            .or_default() += 1;
    }
    times
}

#[test]
fn no_number_is_missing_or_there_twice_however_the_agent_goes_and_comes() {
    comes_and_goes(40_000, 4000, 200, "200ms");
}

/// 16 MB a second each way, so that whole pieces of four go past the page cache.
#[test]
fn no_number_is_missing_or_there_twice_when_it_is_killed_with_large_pieces_on_their_way() {
    comes_and_goes(32_000, 4000, 3900, "1s");
}

fn comes_and_goes(sent: u64, rate: u64, bytes: u64, flush: &str) {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let (bpf, tape) = (BpfFs::new(dir.path()), dir.path().join("tape"));
    let (path, pin) = (cgroup.path.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let flags = [
        "--backend",
        "ebpf",
        "--cgroup",
        &path,
        "--pin",
        &pin,
        "--flush",
        flush,
        "--shortest-tape",
        "0s",
    ];
    let larger = [&flags[..], &["--buffer-size", "32MiB"]].concat();
    let mut agent = Agent::start(&tape, &flags);
    let traffic = Workload::start(
        &format!("numbered {sent} {rate} {bytes}"),
        &cgroup.child("shop"),
        None,
    );
    for round in 0..6 {
        agent.wait_for("packets", |agent| {
            agent.metric("wiretape_agent_tape_packets_total") > 500
        });
        if bytes > 1000 {
            agent.wait_for("a large piece", |agent| {
                agent.metric("wiretape_agent_direct_bytes_total") > 0
            });
        }
        // No moment that the agent's own rhythm meets.
        thread::sleep(Duration::from_millis(37 * round));
        if round % 2 == 0 {
            agent.kill();
        } else {
            assert!(agent.stop().success());
        }
        thread::sleep(Duration::from_millis(300));
        // In the end with another ring, and then with the first one again.
        agent = Agent::start(&tape, if round == 4 { &larger } else { &flags });
    }
    traffic.finish();
    let (_, lost) = agent.accounts();
    assert_eq!(lost, 0);
    assert_eq!(agent.conditions(), Vec::<String>::new());
    let times = times_sent(&agent.recorded("all"));
    let wrong: Vec<_> = (0..sent)
        .map(|number| (number, times.get(&number).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {sent} not once: {:?} …",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    assert!(agent.stop().success());
    assert!(!bpf.pins().is_empty(), "what waits for the next agent stays");
    bpf.cleanup();
    assert_eq!(bpf.pins(), Vec::<PathBuf>::new());
}

#[test]
fn what_the_ring_could_not_hold_while_nobody_read_is_told_with_its_time() {
    const SENT: u64 = 4_000;
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let (bpf, tape) = (BpfFs::new(dir.path()), dir.path().join("tape"));
    let (path, pin) = (cgroup.path.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let flags = [
        "--backend",
        "ebpf",
        "--cgroup",
        &path,
        "--pin",
        &pin,
        "--buffer-size",
        "256KiB",
    ];
    let agent = Agent::start(&tape, &flags);
    agent.settle();
    agent.kill();
    let killed = wall_clock();
    Workload::start(&format!("numbered {SENT} 4000 400"), &cgroup.child("shop"), None).finish();
    let agent = Agent::start(&tape, &flags);
    let back = wall_clock();
    let (seen, lost) = agent.accounts();
    assert_eq!(seen, 2 * SENT);
    assert!(lost > 1000, "only {lost} lost");
    let boundaries = agent.boundaries();
    assert_eq!((boundaries.lost, boundaries.packets), (lost, seen - lost));
    let second = 1_000_000_000;
    for loss in &boundaries.losses {
        assert!(
            loss.since + 2 * second > killed && loss.until < back + 2 * second,
            "{loss:?}, killed {killed}, back {back}"
        );
    }
    assert!(agent.stop().success());
    bpf.cleanup();
}

#[test]
fn what_processes_do_while_there_is_no_agent_is_told_by_the_next_one_once() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let (bpf, tape) = (BpfFs::new(dir.path()), dir.path().join("tape"));
    let (path, pin) = (cgroup.path.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let flags = ["--backend", "ebpf", "--cgroup", &path, "--pin", &pin];
    let shop = cgroup.child("shop");
    let exit = |code: i32| Workload::start(&format!("run exit {code}"), &shop, None).finish();
    let mut agent = Agent::start(&tape, &flags);
    for (code, kill) in [(11, true), (12, false)] {
        if kill {
            agent.kill();
        } else {
            assert!(agent.stop().success());
        }
        exit(code);
        agent = Agent::start(&tape, &flags);
    }
    exit(13);
    let codes = |agent: &Agent| -> Vec<i32> {
        let events = agent.events().into_iter();
        events
            .filter_map(|event| event.exit_code.filter(|code| *code > 10))
            .collect()
    };
    agent.wait_for("the last exit", |agent| codes(agent).contains(&13));
    assert_eq!(codes(&agent), [11, 12, 13]);
    assert!(agent.stop().success());
    bpf.cleanup();
    assert_eq!(bpf.pins(), Vec::<PathBuf>::new());
}

/// The unit's user may not enter the BPF file system, of which the unit shows it a folder.
#[test]
fn the_packages_unit_pins_and_misses_nothing_over_a_restart() {
    if common::cannot_record() {
        return;
    }
    const USER: u32 = 64_321;
    const SENT: u64 = 4_000;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian/agent/wiretape-agent.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let setting = |name: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a setting")
    };
    let (hidden, shown) = setting("BindPaths=-").split_once(':').expect("two paths");
    assert_eq!(setting("Environment=WIRETAPE_PIN="), shown);
    let made = setting("ExecStartPre=-+/usr/bin/install -d ");
    assert!(made.ends_with(&format!("-m 0700 {hidden}")), "{made}");
    let capabilities = setting("AmbientCapabilities=").split_whitespace();
    let capabilities: Vec<String> = capabilities.map(|name| name.replace("CAP_", "")).collect();

    let (dir, recorded, own) = (
        tempfile::tempdir().expect("a folder"),
        Cgroup::new(),
        Cgroup::new(),
    );
    let bpf = BpfFs::new(dir.path());
    let (pins, shown, tape) = (
        bpf.0.join("wiretape"),
        dir.path().join("shown"),
        dir.path().join("tape"),
    );
    let program = dir.path().join("wiretape-agent");
    fs::copy(env!("CARGO_BIN_EXE_wiretape-agent"), &program).expect("copied");
    for folder in [&pins, &shown, &tape] {
        fs::create_dir(folder).expect("a folder");
        chown(folder, Some(USER), Some(USER)).expect("given");
    }
    // As systemd mounts it.
    fs::set_permissions(&bpf.0, Permissions::from_mode(0o700)).expect("set");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("set");
    let (path, pin) = (recorded.path.to_string_lossy(), shown.to_string_lossy());
    let flags = [
        "--backend",
        "ebpf",
        "--interfaces",
        "none",
        "--cgroup",
        &path,
        "--pin",
        &pin,
    ];
    let start = || {
        Agent::start_as_unit(
            &own.path,
            (USER, &capabilities),
            (&pins, &shown),
            &program,
            &tape,
            &flags,
        )
    };
    let agent = start();
    assert!(agent.stop().success());
    assert!(!bpf.pins().is_empty(), "what waits for the next agent");
    Workload::start(
        &format!("numbered {SENT} 4000 200"),
        &recorded.child("shop"),
        None,
    )
    .finish();
    let agent = start();
    assert_eq!(agent.accounts(), (2 * SENT, 0));
    assert!(agent.stop().success());
    bpf.cleanup();
    assert_eq!(bpf.pins(), Vec::<PathBuf>::new());
}

#[test]
fn interfaces_go_on_too_and_pins_of_what_is_gone_are_let_go() {
    if common::cannot_record() || common::is_older_than(6, 6, "which has links to interfaces") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (bpf, link) = (BpfFs::new(dir.path()), Link::new());
    let (cgroup, tape) = (Cgroup::new(), dir.path().join("tape"));
    let (left, right) = (cgroup.child("left"), cgroup.child("right"));
    let mut pause = Workload::start("serve 79", &left, Some(&link.left));
    pause.said("serving");
    let (path, pin) = (left.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let flags = ["--backend", "ebpf", "--cgroup", &path, "--pin", &pin];
    let agent = Agent::start(&tape, &flags);
    // One that would share the ring records without it.
    let other = Agent::start(&dir.path().join("other"), &flags);
    agent.kill();
    // The answer to it is what the interface alone sees.
    let knock = format!("knock {}:81", common::places::LEFT);
    Workload::start(&knock, &right, Some(&link.right)).finish();
    let agent = Agent::start(&tape, &flags);
    Workload::start(&knock, &right, Some(&link.right)).finish();
    agent.settle();
    let refused: Vec<_> = agent
        .recorded("all")
        .into_iter()
        .filter(|packet| {
            packet
                .segment()
                .is_some_and(|segment| segment.flags & packets::RST != 0)
        })
        .map(|packet| packet.cgroup)
        .collect();
    assert_eq!(refused, [cgroup_id(&left); 2], "resets to {RIGHT}");
    let has_programs = |kind: &str| bpf.pins().iter().any(|pin| pin.to_string_lossy().contains(kind));
    assert!(has_programs("interface-") && has_programs("packet_in"));
    assert!(agent.stop().success() && other.stop().success());

    // The recorded cgroup goes; the next agent, of another one, lets go what was its.
    pause.finish();
    fs::remove_dir(&left).expect("removed");
    let next = cgroup.child("next");
    let path = next.to_string_lossy();
    let flags = ["--backend", "ebpf", "--cgroup", &path, "--pin", &pin];
    // The kernel takes its time to let a cgroup go.
    for _ in 0..20 {
        assert!(Agent::start(&tape, &flags).stop().success());
        if !has_programs("interface-") {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(!has_programs("interface-"), "{:?}", bpf.pins());
    bpf.cleanup();
}
