//! What the decoder makes of blocks, whole and joined late.

use super::*;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> (Vec<String>, Result<(), Malformed>) {
    let mut fields = Vec::new();
    let outcome = decoder.decode(block, &mut |field| {
        fields.push(match field {
            Field::Known { name, value } => {
                format!(
                    "{}: {}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                )
            }
            Field::Unresolved => "?".to_owned(),
        });
    });
    (fields, outcome)
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &[u8], expected: &[&str]) {
    let (fields, outcome) = decoded(decoder, block);
    assert_eq!((fields.as_slice(), outcome), (&*strings(expected), Ok(())));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// RFC 7541, appendix C.3: three requests without Huffman code.
const REQUESTS: [&[u8]; 3] = [
    b"\x82\x86\x84\x41\x0fwww.example.com",
    b"\x82\x86\x84\xbe\x58\x08no-cache",
    b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
];

#[test]
fn requests_of_the_rfc() {
    let mut decoder = Decoder::new();
    let start = [
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
    ];
    check(&mut decoder, REQUESTS[0], &start);
    check(
        &mut decoder,
        REQUESTS[1],
        &[&start[..], &["cache-control: no-cache"]].concat(),
    );
    let third = [
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ];
    check(&mut decoder, REQUESTS[2], &third);
    assert_eq!(decoder.table.memory(), 164);
}

/// RFC 7541, appendix C.6: three responses with a table of 256 bytes, from which entries go.
#[test]
fn responses_of_the_rfc_with_evictions() {
    let mut decoder = Decoder::new();
    check(&mut decoder, &[0x3f, 0xe1, 0x01], &[]);
    let first = b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\
        \x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
    let expected = [
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    check(&mut decoder, first, &expected);
    let second = [&[":status: 307"], &expected[1..]].concat();
    check(&mut decoder, b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf", &second);
    assert_eq!(decoder.table.memory(), 222);
    // `:status: 302` is no more.
    assert_eq!(decoded(&mut decoder, b"\xc2").1, Err(Malformed));
}

#[test]
fn joined_late_what_was_inserted_before_is_unresolved() {
    let mut decoder = Decoder::unknown();
    let second = [
        ":method: GET",
        ":scheme: http",
        ":path: /",
        "?",
        "cache-control: no-cache",
    ];
    check(&mut decoder, REQUESTS[1], &second);
    // The authority has moved on by one, and is still not taken for anything else.
    let third = [
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        "?",
        "custom-key: custom-value",
    ];
    check(&mut decoder, REQUESTS[2], &third);
    check(
        &mut decoder,
        b"\xbe\xbf\xc0",
        &["custom-key: custom-value", "cache-control: no-cache", "?"],
    );
}

#[test]
fn a_literal_whose_name_is_an_index_from_before_the_join() {
    let mut decoder = Decoder::unknown();
    // Inserted with the name of entry 62: the new entry 62 has a value, but its name is not known; 63 is not known.
    check(&mut decoder, b"\x7e\x01v", &["?"]);
    check(&mut decoder, b"\xbe\xbf", &["?", "?"]);
    // Named by it, and then by one that is known.
    check(
        &mut decoder,
        b"\x7e\x01w\x40\x01n\x01x\x7e\x01y\xbe\xbf",
        &["?", "n: x", "n: y", "n: y", "n: x"],
    );
    // Not inserted: nothing moves.
    check(
        &mut decoder,
        b"\x0f\x31\x01z\x0f\x2f\x01z\xbe",
        &["?", "n: z", "n: y"],
    );
}

#[test]
fn a_table_that_was_emptied_is_known_again() {
    let mut decoder = Decoder::unknown();
    check(&mut decoder, b"\x20", &[]);
    // With a size of nothing, nothing is inserted, and no index reaches anything.
    check(&mut decoder, b"\x40\x01n\x01x", &["n: x"]);
    assert_eq!(decoded(&mut decoder, b"\xbe").1, Err(Malformed));
    check(&mut decoder, b"\x3f\xe1\x1f\x40\x01n\x01x\xbe", &["n: x", "n: x"]);
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    check(&mut decoder, b"\x3f\x21\x40\x01n\x01x", &["n: x"]);
    let mut block = b"\x40\x01n\x50".to_vec();
    block.extend_from_slice(&[b'y'; 0x50]);
    assert_eq!(decoded(&mut decoder, &block).1, Ok(()));
    assert_eq!(decoded(&mut decoder, b"\xbe").1, Err(Malformed));
    assert_eq!(decoder.table.memory(), 0);
}

/// One literal that is inserted, with a value of so many bytes.
fn literal(len: usize) -> Vec<u8> {
    let mut block = b"\x40\x01n\x7f".to_vec();
    let mut rest = len - 127;
    while rest >= 128 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
    block.resize(block.len() + len, b'v');
    block
}

#[test]
fn a_table_larger_than_is_kept_forgets_the_oldest_only() {
    // One that says so, and one that never said.
    let told = {
        let mut decoder = Decoder::new();
        check(&mut decoder, b"\x3f\xe1\xff\x3f", &[]);
        decoder
    };
    for (mut decoder, most) in [
        (told, crate::limits::HPACK_TABLE),
        (Decoder::unknown(), crate::limits::HPACK_TABLE_UNTOLD),
    ] {
        check(&mut decoder, b"\x40\x05first\x01x", &["first: x"]);
        for _ in 0..100 {
            assert_eq!(decoded(&mut decoder, &literal(1000)).1, Ok(()));
        }
        assert!(
            decoder.table.memory() <= most && decoder.memory() > most - 1100,
            "{}",
            decoder.table.memory()
        );
        assert_eq!(decoder.take_dropped(), 101 - most as u64 / 1033);
        // 62 is the newest; index 162 was the first one.
        check(&mut decoder, b"\xff\x23", &["?"]);
        check(&mut decoder, b"\x40\x04last\x01x\xbe", &["last: x", "last: x"]);
    }
}

#[test]
fn an_entry_too_large_to_be_kept_keeps_its_place() {
    let mut decoder = Decoder::unknown();
    check(&mut decoder, b"\x40\x05first\x01x", &["first: x"]);
    assert_eq!(decoded(&mut decoder, &literal(20_000)).1, Ok(()));
    check(
        &mut decoder,
        b"\x40\x04last\x01x\xbe\xbf",
        &["last: x", "last: x", "?"],
    );
    assert!(decoder.table.memory() < 200);
}

#[test]
fn blocks_that_are_none() {
    let malformed: [&[u8]; 8] = [
        b"\x80",
        b"\x40",
        b"\x40\x05ab",
        b"\x40\x01n\x7f\xff\xff\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x40\x81\x00\x00",
        b"\x7f",
        b"\xbe",
    ];
    for block in malformed {
        assert_eq!(
            decoded(&mut Decoder::new(), block),
            (Vec::new(), Err(Malformed)),
            "{block:x?}"
        );
    }
    // What came before is right.
    assert_eq!(
        decoded(&mut Decoder::new(), b"\x82\x80"),
        (strings(&[":method: GET"]), Err(Malformed))
    );
}
