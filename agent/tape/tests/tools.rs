//! Other tools read the tape without complaint, and see in it what was put there.

mod common;

use common::*;
use wiretape_tape::{
    ChunkReader, Direction, DropReason, Export, ExportFormat, InterfaceInfo, LinkType, Packet, PacketMeta,
    Tape, open,
};

#[test]
fn segment_opens_in_tshark() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.interface_name(3, "eth0");
    tape.interface_name(4, "veth7");
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..200);
    tape.lost(7);
    tape.seal().unwrap();
    let file = segment_files(dir.path()).remove(0);
    let path = file.to_str().unwrap();
    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "ip.src_host",
        "frame.len",
    ];
    // tshark lists our custom blocks among the packets, as frames without any protocol.
    let mut args = vec![
        "-r",
        path,
        "-Y",
        "ip",
        "-o",
        "nameres.network_name:TRUE",
        "-T",
        "fields",
    ];
    args.extend(fields.iter().flat_map(|field| ["-e", *field]));
    let Some(lines) = tool("tshark", &args) else {
        return;
    };
    assert_eq!(lines.len(), 200, "{lines:#?}");
    for (n, line) in (0..).zip(&lines) {
        let data = datagram(n);
        let packet = packet(n, &data);
        let values: Vec<&str> = line.split('\t').collect();
        let interface = if packet.ifindex == 3 { "eth0" } else { "veth7" };
        let direction = match packet.direction {
            Direction::Unknown => "",
            Direction::In => "0x00000001",
            Direction::Out => "0x00000002",
        };
        let time = format!("{}.{:09}", packet.ts / SECOND, packet.ts % SECOND);
        let length = packet.orig_len.to_string();
        assert_eq!(values[0].trim_end_matches('0'), time.trim_end_matches('0'));
        assert_eq!(
            values[1..],
            [interface, direction, "frontend-abc123.shop", &length],
            "packet {n}"
        );
    }
    // Our custom option and blocks are read, not refused.
    let counted = tool(
        "tshark",
        &[
            "-r",
            path,
            "-T",
            "fields",
            "-e",
            "frame.number",
            "-Y",
            "ip && udp",
        ],
    )
    .unwrap();
    assert_eq!(counted.len(), 200);
    let Some(about) = tool("capinfos", &["-M", path]) else {
        return;
    };
    let has = |text: &str| {
        assert!(
            about.iter().any(|line| line.contains(text)),
            "{text} in {about:#?}"
        )
    };
    has("pcapng");
    has("node-1");
    has("wiretape-agent 0.1.0 (test)");
    has("Name = eth0");
    has("Name = veth7");
}

#[test]
fn a_packet_that_was_dropped_says_why_to_us_and_to_people() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let reasons: Vec<Option<DropReason>> = [None].into_iter().chain(DropReason::all().map(Some)).collect();
    for (n, dropped) in (0..).zip(&reasons) {
        let data = datagram(n);
        tape.append(&Packet {
            dropped: *dropped,
            ..packet(n, &data)
        })
        .unwrap();
    }
    tape.seal().unwrap();
    let file = segment_files(dir.path()).remove(0);
    let (copy, export) = (dir.path().join("copy"), dir.path().join("export"));
    let mut reader = open(&file).unwrap();
    let packets = read_all(&mut reader);
    let mut written = Export::new(
        std::fs::File::create(&export).unwrap(),
        ExportFormat::Pcapng,
        "hub",
    );
    for (meta, data) in &packets {
        written
            .commented_packet("node-1", reader.interfaces(), meta, data, "of a call")
            .unwrap();
    }
    written.finish().unwrap();
    let name = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let rewritten = tool("editcap", &["-F", "pcapng", &name(&file), &name(&copy)]);
    for path in [&file, &export]
        .into_iter()
        .chain(rewritten.is_some().then_some(&copy))
    {
        let read: Vec<_> = read_file(path).iter().map(|(meta, _)| meta.dropped).collect();
        assert_eq!(read, reasons, "{}", path.display());
    }
    // All else of them is there, too.
    packet_numbers(&file);
    let shown = [
        "-r",
        &name(&file),
        "-Y",
        "ip && frame.comment",
        "-T",
        "fields",
        "-e",
        "frame.comment",
    ];
    if let Some(lines) = tool("tshark", &shown) {
        let said: Vec<String> = DropReason::all()
            .map(|reason| format!("dropped {}", reason.meaning()))
            .collect();
        assert_eq!(lines, said);
    }
}

#[test]
fn open_segment_opens_in_tshark() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..50);
    tape.lost(1);
    tape.flush().unwrap();
    let file = segment_files(dir.path()).remove(0);
    let Some(lines) = tool("tshark", &["-r", file.to_str().unwrap()]) else {
        return;
    };
    assert_eq!(lines.len(), 50);
}

#[test]
fn tools_that_rewrite_a_segment_keep_what_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..50);
    tape.seal().unwrap();
    let file = segment_files(dir.path()).remove(0);
    let copy = dir.path().join("copy");
    let Some(_) = tool(
        "editcap",
        &["-F", "pcapng", file.to_str().unwrap(), copy.to_str().unwrap()],
    ) else {
        return;
    };
    assert_eq!(packet_numbers(&copy), (0..50).collect::<Vec<_>>());
}

#[test]
fn export_of_two_nodes_opens_in_tshark() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.interface_name(3, "eth0");
    record(&mut tape, 0..40);
    tape.seal().unwrap();
    let mut reader = open(&segment_files(dir.path())[0]).unwrap();
    let packets = read_all(&mut reader);

    let out = dir.path().join("export");
    let sink = std::fs::File::create(&out).unwrap();
    let mut export = Export::new(sink, ExportFormat::Pcapng, "hub 0.1.0");
    export.names([&frontend()]).unwrap();
    for (meta, data) in &packets {
        for node in ["node-1", "node-2"] {
            export.packet(node, reader.interfaces(), meta, data).unwrap();
        }
    }
    assert_eq!(export.counters().packets, 80);
    export.finish().unwrap();

    let mut again = open(&out).unwrap();
    assert_eq!(read_all(&mut again).len(), 80);
    let interfaces: Vec<&str> = again
        .interfaces()
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    assert_eq!(
        interfaces,
        ["node-1/eth0", "node-2/eth0", "node-1/if4", "node-2/if4"]
    );
    let args = [
        "-r",
        out.to_str().unwrap(),
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
    ];
    let Some(lines) = tool("tshark", &args) else {
        return;
    };
    assert_eq!(lines.iter().filter(|name| *name == "node-2/if4").count(), 20);
}

#[test]
fn interfaces_of_many_segments_are_told_apart_by_name_in_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let mut export = Export::new(Vec::new(), ExportFormat::Pcapng, "hub");
    // Each segment begins with another of the two.
    for (segment, from) in [0_u64, 1].into_iter().enumerate() {
        let folder = dir.path().join(segment.to_string());
        let mut tape = Tape::open(options(&folder), START).unwrap();
        tape.interface_name(3, "eth0");
        tape.interface_name(4, "lo");
        record(&mut tape, from..from + 10);
        tape.seal().unwrap();
        let mut reader = open(&segment_files(&folder)[0]).unwrap();
        for (meta, data) in &read_all(&mut reader) {
            export.packet("node-1", reader.interfaces(), meta, data).unwrap();
        }
    }
    // Those without a name are told by their numbers.
    let nameless = [
        InterfaceInfo::new(LinkType::RAW, ""),
        InterfaceInfo::new(LinkType::RAW, ""),
    ];
    let data = datagram(0);
    for interface in [0, 1, 0] {
        let meta = PacketMeta {
            ts: START,
            data: 0..data.len() as u32,
            orig_len: data.len() as u32,
            link: LinkType::RAW,
            interface,
            direction: Direction::In,
            cgroup: 0,
            cookie: 0,
            dropped: None,
            at: 0,
        };
        export.packet("node-1", &nameless, &meta, &data).unwrap();
    }
    let exported = export.finish().unwrap();
    let mut again = ChunkReader::new(exported.as_slice()).unwrap();
    let packets = read_all(&mut again);
    let name = |meta: &PacketMeta| again.interfaces()[meta.interface as usize].name.clone();
    let told: Vec<String> = packets.iter().map(|(meta, _)| name(meta)).collect();
    for (told, (meta, _)) in told.iter().zip(&packets).take(20) {
        let is_even = ((meta.ts - START) / STEP).is_multiple_of(2);
        assert_eq!(told, if is_even { "node-1/eth0" } else { "node-1/lo" });
    }
    assert_eq!(told[20..], ["node-1"; 3]);
    assert_eq!(again.interfaces().len(), 4);
}

#[test]
fn export_as_pcap_opens_in_tshark() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..40);
    tape.seal().unwrap();
    let mut reader = open(&segment_files(dir.path())[0]).unwrap();
    let packets = read_all(&mut reader);
    for format in [ExportFormat::Pcap, ExportFormat::PcapRaw] {
        let mut export = Export::new(Vec::new(), format, "hub");
        export.names([&frontend()]).unwrap();
        for (meta, data) in &packets {
            export.packet("node-1", reader.interfaces(), meta, data).unwrap();
        }
        let out = dir.path().join("export");
        std::fs::write(&out, export.finish().unwrap()).unwrap();
        let again: Vec<_> = read_file(&out)
            .into_iter()
            .map(|(meta, data)| (meta.ts, meta.orig_len, data))
            .collect();
        assert_eq!(
            again,
            packets
                .iter()
                .map(|(m, data)| (m.ts, m.orig_len, data.clone()))
                .collect::<Vec<_>>()
        );
        let Some(lines) = tool("tshark", &["-r", out.to_str().unwrap(), "-Y", "udp"]) else {
            return;
        };
        assert_eq!(lines.len(), 40);
    }
}
