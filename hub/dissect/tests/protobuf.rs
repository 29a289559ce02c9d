//! Protobuf with names: descriptors as `protoc` writes them, and a message as it encodes it.

use proptest::prelude::*;
use serde_json::{Value, json};
use wiretape_dissect::protobuf::{DescriptorError, Descriptors, Method, decode};
use wiretape_dissect::{GrpcAbout, grpc_body};

/// Of this file, without what it imports:
///
/// ```proto
/// syntax = "proto3";
/// package shop.v1;
/// import "google/protobuf/timestamp.proto";
/// service Cart {
///   rpc Add(AddRequest) returns (AddResponse);
///   rpc Watch(AddRequest) returns (stream AddResponse);
/// }
/// enum Color { UNKNOWN = 0; RED = 1; BLUE = -2; }
/// message AddRequest {
///   string name = 1;
///   int32 count = 2;
///   repeated sint64 deltas = 3;
///   map<string, Item> items = 4;
///   Color color = 5;
///   oneof who { string user = 6; uint64 id = 7; }
///   bytes blob = 8;
///   double price = 9;
///   repeated string tags = 10;
///   repeated Color colors = 11;
///   google.protobuf.Timestamp at = 12;
///   bool gift = 13;
///   map<int32, bool> flags = 14;
///   fixed32 f32 = 15;
///   sfixed64 s64 = 16;
///   float ratio = 17;
///   message Item { string sku = 1; AddRequest.Item part = 2; optional int64 big = 3; }
///   repeated Item list = 18;
/// }
/// message AddResponse { bool ok = 1; }
/// ```
const SET: &[u8] =
    b"\n\x94\x08\n\nshop.proto\x12\x07shop.v1\x1a\x1fgoogle/protobuf/timestamp.proto\"\x92\x06\n\nAddR\
    equest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x14\n\x05count\x18\x02 \x01(\x05R\x05count\
    \x12\x16\n\x06deltas\x18\x03 \x03(\x12R\x06deltas\x124\n\x05items\x18\x04 \x03(\x0b2\x1e.shop.v1\
    .AddRequest.ItemsEntryR\x05items\x12$\n\x05color\x18\x05 \x01(\x0e2\x0e.shop.v1.ColorR\x05color\
    \x12\x14\n\x04user\x18\x06 \x01(\tH\0R\x04user\x12\x10\n\x02id\x18\x07 \x01(\x04H\0R\x02id\x12\
    \x12\n\x04blob\x18\x08 \x01(\x0cR\x04blob\x12\x14\n\x05price\x18\t \x01(\x01R\x05price\x12\x12\n\
    \x04tags\x18\n \x03(\tR\x04tags\x12&\n\x06colors\x18\x0b \x03(\x0e2\x0e.shop.v1.ColorR\x06colors\
    \x12*\n\x02at\x18\x0c \x01(\x0b2\x1a.google.protobuf.TimestampR\x02at\x12\x12\n\x04gift\x18\x0d \
    \x01(\x08R\x04gift\x124\n\x05flags\x18\x0e \x03(\x0b2\x1e.shop.v1.AddRequest.FlagsEntryR\x05flag\
    s\x12\x10\n\x03f32\x18\x0f \x01(\x07R\x03f32\x12\x10\n\x03s64\x18\x10 \x01(\x10R\x03s64\x12\x14\
    \n\x05ratio\x18\x11 \x01(\x02R\x05ratio\x12,\n\x04list\x18\x12 \x03(\x0b2\x18.shop.v1.AddRequest\
    .ItemR\x04list\x1aR\n\nItemsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12.\n\x05value\x18\
    \x02 \x01(\x0b2\x18.shop.v1.AddRequest.ItemR\x05value:\x028\x01\x1a8\n\nFlagsEntry\x12\x10\n\x03\
    key\x18\x01 \x01(\x05R\x03key\x12\x14\n\x05value\x18\x02 \x01(\x08R\x05value:\x028\x01\x1ae\n\
    \x04Item\x12\x10\n\x03sku\x18\x01 \x01(\tR\x03sku\x12,\n\x04part\x18\x02 \x01(\x0b2\x18.shop.v1.\
    AddRequest.ItemR\x04part\x12\x15\n\x03big\x18\x03 \x01(\x03H\0R\x03big\x88\x01\x01B\x06\n\x04_bi\
    gB\x05\n\x03who\"\x1d\n\x0bAddResponse\x12\x0e\n\x02ok\x18\x01 \x01(\x08R\x02ok*0\n\x05Color\x12\
    \x0b\n\x07UNKNOWN\x10\0\x12\x07\n\x03RED\x10\x01\x12\x11\n\x04BLUE\x10\xfe\xff\xff\xff\xff\xff\
    \xff\xff\xff\x012n\n\x04Cart\x120\n\x03Add\x12\x13.shop.v1.AddRequest\x1a\x14.shop.v1.AddRespons\
    e\x124\n\x05Watch\x12\x13.shop.v1.AddRequest\x1a\x14.shop.v1.AddResponse0\x01b\x06proto3";

const MESSAGE: &[u8] =
    b"\n\tcaf\xc3\xa9 \"x\"\x10\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x10\x01\x80\xc8\xaf\xa0%\
    \xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\"\x10\n\x01a\x12\x0b\n\x02S1\x12\x05\n\x01P\x18\x07\"\
    \x05\n\x01b\x12\0(\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x018\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \x01B\x03\0\x01\xffI\0\0\0\0\0\0)@R\x01xR\x01yZ\x02\x01\0b\x08\x08\x80\xe2\xcf\xaa\x06\x10\x05h\
    \x01r\x0d\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01}\xff\xff\xff\xff\x81\x01\xfb\xff\
    \xff\xff\xff\xff\xff\xff\x8d\x01\0\0\x80>\x92\x01\x05\n\x03one\x92\x01\x05\n\x03two";

fn shop() -> Descriptors {
    let mut descriptors = Descriptors::default();
    descriptors.add(SET).expect("a set of descriptors");
    descriptors
}

fn told(bytes: &[u8], of: &str) -> Value {
    let json = decode(bytes, &shop(), Some(of)).expect("a message");
    serde_json::from_str(&json.text).expect("JSON")
}

#[test]
fn every_type_of_field_by_name() {
    let expected = json!({
        "name": "caf\u{e9} \"x\"",
        "count": -3,
        // Packed; one of them is beyond what a double holds.
        "deltas": [-1, 5_000_000_000_u64, "-9223372036854775808"],
        "items": {"a": {"sku": "S1", "part": {"sku": "P", "big": 7}}, "b": {}},
        "color": "BLUE",
        "id": "18446744073709551615",
        "blob": "AAH/",
        "price": 12.5,
        "tags": ["x", "y"],
        "colors": ["RED", "UNKNOWN"],
        // Its type is in a file that is not in the set.
        "at": {"1": 1_700_000_000, "2": 5},
        "gift": true,
        "flags": {"-1": true},
        "f32": 4_294_967_295_u32,
        "s64": -5,
        "ratio": 0.25,
        "list": [{"sku": "one"}, {"sku": "two"}],
    });
    assert_eq!(told(MESSAGE, "shop.v1.AddRequest"), expected);
}

#[test]
fn methods_and_what_they_take() {
    let method = Method {
        request: "shop.v1.AddRequest".to_owned(),
        response: "shop.v1.AddResponse".to_owned(),
    };
    let shop = shop();
    assert_eq!(shop.method("shop.v1.Cart", "Watch"), Some(&method));
    assert_eq!(shop.method("Cart", "Watch"), None);
}

#[test]
fn fields_that_the_schema_does_not_have_or_has_otherwise() {
    // A text where a number should be, an unknown field, an unknown value of an enum, one that is not repeated twice.
    let bytes = b"\x12\x02no\x98\x06\x07\x28\x63\x0a\x01a\x0a\x01b";
    let expected = json!({"2": "no", "99": 7, "color": 99, "name": ["a", "b"]});
    assert_eq!(told(bytes, "shop.v1.AddRequest"), expected);
    // A repeated number that is not packed, and a list of none.
    assert_eq!(
        told(b"\x18\x02\x1a\0\x18\x04", "shop.v1.AddRequest"),
        json!({"deltas": [1, 2]})
    );
}

#[test]
fn a_type_that_is_not_known_is_told_in_numbers() {
    assert_eq!(told(b"\x08\x01", "shop.v1.Other"), json!({"1": 1}));
    assert_eq!(told(b"\x08\x01", "shop.v1.AddResponse"), json!({"ok": true}));
}

#[test]
fn a_message_that_is_cut() {
    let cut = decode(&MESSAGE[..20], &shop(), Some("shop.v1.AddRequest")).expect("its begin");
    assert!(cut.truncated && cut.text.contains("caf"), "{cut:?}");
    assert_eq!(decode(b"\x0f", &shop(), Some("shop.v1.AddRequest")), None);
}

#[test]
fn what_is_no_set_of_descriptors() {
    for bytes in [
        &b""[..],
        b"{}",
        b"\x0a\x02\xff\xff",
        &SET[..SET.len() - 1],
        MESSAGE,
    ] {
        let added = Descriptors::default().add(bytes);
        assert_eq!(added, Err(DescriptorError::Malformed), "{bytes:x?}");
    }
}

#[test]
fn more_descriptors_than_are_kept() {
    // A file with an enum of a million values, and some.
    let values = b"\x12\x02\x10\x01".repeat(1 << 20);
    let mut file = vec![0x2a];
    integer(values.len(), &mut file);
    file.extend_from_slice(&values);
    let mut set = vec![0x0a];
    integer(file.len(), &mut set);
    set.extend_from_slice(&file);
    assert_eq!(Descriptors::default().add(&set), Err(DescriptorError::TooMany));
}

#[test]
fn types_inside_one_another_without_end() {
    let mut message = Vec::new();
    for _ in 0..100 {
        let mut outer = vec![0x1a];
        integer(message.len(), &mut outer);
        outer.extend_from_slice(&message);
        message = outer;
    }
    let mut file = vec![0x22];
    integer(message.len(), &mut file);
    file.extend_from_slice(&message);
    let mut set = vec![0x0a];
    integer(file.len(), &mut set);
    set.extend_from_slice(&file);
    assert_eq!(Descriptors::default().add(&set), Err(DescriptorError::TooMany));
    // Values as deep as that are told in numbers from some depth on.
    let mut item = vec![0x0a, 1, b'x'];
    for _ in 0..60 {
        let mut outer = vec![0x12];
        integer(item.len(), &mut outer);
        outer.extend_from_slice(&item);
        item = outer;
    }
    let text = decode(&item, &shop(), Some("shop.v1.AddRequest.Item"))
        .expect("a message")
        .text;
    assert!(
        text.starts_with("{\"part\":{\"part\":") && text.contains("{\"2\":"),
        "{text}"
    );
}

#[test]
fn more_fields_than_are_told() {
    let many = b"\x08\x01".repeat(10_000);
    let json = decode(&many, &shop(), Some("shop.v1.AddResponse")).expect("a message");
    assert!(json.truncated && json.text.len() < 5 * 4200);
    let packed = [&[0x1a, 0x90, 0x4e][..], &[2; 10_000]].concat();
    let json = decode(&packed, &shop(), Some("shop.v1.AddRequest")).expect("a message");
    assert!(
        json.truncated && json.text.len() < 2 * 4200,
        "{}",
        json.text.len()
    );
    // All of them different.
    let mut different = Vec::new();
    for number in 1..10_000_usize {
        integer(number << 3, &mut different);
        different.push(1);
    }
    assert!(decode(&different, &shop(), None).is_some_and(|json| json.truncated));
}

fn integer(mut number: usize, bytes: &mut Vec<u8>) {
    while number >= 128 {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
}

proptest! {
    #[test]
    fn anything_is_json_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), known in any::<bool>()) {
        let of = known.then_some("shop.v1.AddRequest");
        if let Some(json) = decode(&bytes, &shop(), of) {
            prop_assert!(serde_json::from_str::<Value>(&json.text).is_ok_and(|json| json.is_object()), "{}", json.text);
        }
    }

    #[test]
    fn a_body_of_grpc_is_lines_of_json(
        messages in prop::collection::vec((0..3u8, prop::collection::vec(any::<u8>(), 0..60)), 0..5),
        cut in 0..400usize,
        most in 0..200usize,
        web in any::<bool>(),
    ) {
        let mut body = Vec::new();
        for (flags, message) in &messages {
            body.push(*flags);
            body.extend((message.len() as u32).to_be_bytes());
            body.extend(message);
        }
        body.truncate(cut);
        let about = GrpcAbout {
            content_type: if web { "application/grpc-web-text" } else { "application/grpc" },
            encoding: "gzip",
            path: "/shop.v1.Cart/Add",
            is_response: false,
        };
        let shown = grpc_body(&body, about, &shop(), most).expect("a body of gRPC");
        let lines = shown.text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        prop_assert_eq!(lines, shown.messages.len(), "{:?}", shown);
    }

    #[test]
    fn a_message_with_a_byte_changed_or_cut(at in 0..MESSAGE.len(), byte in any::<u8>(), len in 0..MESSAGE.len()) {
        let mut bytes = MESSAGE.to_vec();
        bytes[at] = byte;
        bytes.truncate(len);
        if let Some(json) = decode(&bytes, &shop(), Some("shop.v1.AddRequest")) {
            prop_assert!(serde_json::from_str::<Value>(&json.text).is_ok(), "{}", json.text);
        }
    }

    #[test]
    fn a_set_with_a_byte_changed_or_cut(at in 0..SET.len(), byte in any::<u8>(), len in 0..SET.len()) {
        let mut bytes = SET.to_vec();
        bytes[at] = byte;
        bytes.truncate(len.max(at));
        let mut descriptors = Descriptors::default();
        if descriptors.add(&bytes).is_ok() {
            let _told_somehow = decode(MESSAGE, &descriptors, Some("shop.v1.AddRequest"));
        }
    }
}
