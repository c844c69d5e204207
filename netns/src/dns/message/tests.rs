//! Questions and answers, byte by byte; noise.

use super::*;
use proptest::prelude::*;

/// A question as a client writes it.
fn question(name: &str, kind: u16, size: Option<u16>) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [0x1234, 0x0100, 1, 0, 0, u16::from(size.is_some())] {
        message.extend(u16::to_be_bytes(word));
    }
    message.extend(wire_name(name));
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    if let Some(size) = size {
        message.push(0);
        message.extend(OPT.to_be_bytes());
        message.extend(size.to_be_bytes());
        message.extend([0; 6]);
    }
    message
}

#[test]
fn an_answer_repeats_the_question() {
    let asked = Question::parse(&question("Web.Net1", KIND_A, None)).unwrap();
    assert_eq!((asked.name.as_str(), asked.kind), ("web.net1", KIND_A));
    assert_eq!(asked.size, 512);
    let answer = asked.answer(Code::Ok, &[Data::A([10, 0, 0, 2].into())], 600, true);
    let mut want = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    want.extend(b"\x03Web\x04Net1\x00\x00\x01\x00\x01");
    want.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x02\x58\x00\x04\x0a\x00\x00\x02");
    assert_eq!(answer, want);
}

#[test]
fn an_answer_that_does_not_fit_says_so() {
    let many: Vec<Data> = (0..200).map(|n| Data::A([10, 0, 0, n].into())).collect();
    let asked = Question::parse(&question("x", KIND_A, Some(1232))).unwrap();
    assert_eq!(asked.size, 1232);
    let cut = asked.answer(Code::Ok, &many, 600, true);
    assert!((1232 - 16..=1232).contains(&cut.len()), "{}", cut.len());
    assert_eq!(cut[2] & 0x02, 0x02);
    let whole = asked.answer(Code::Ok, &many, 600, false);
    assert_eq!(whole[2] & 0x02, 0);
    assert!(whole.len() > 3200);
    // The additional record is there in both.
    assert_eq!(cut[11], 1);
}

#[test]
fn refuses_what_is_no_question() {
    let good = question("web", KIND_A, None);
    for (at, value) in [(2, 0x80), (2, 0x08), (5, 2)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Question::parse(&bad), Err(Malformed), "byte {at}");
    }
    for length in 0..good.len() {
        assert_eq!(Question::parse(&good[..length]), Err(Malformed));
    }
}

#[test]
fn names_of_addresses() {
    let long = format!("{}1.ip6.arpa", "");
    for (name, want) in [
        ("2.0.17.172.in-addr.arpa", Some("172.17.0.2")),
        ("0.17.172.in-addr.arpa", None),
        ("256.0.17.172.in-addr.arpa", None),
        (long.as_str(), None),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.1.0.0.0.0.d.f.ip6.arpa",
            Some("fd00:17::2"),
        ),
    ] {
        let want = want.map(|text| text.parse().unwrap());
        assert_eq!(reverse_address(name), want, "{name}");
    }
}

#[test]
fn an_answer_is_known_by_its_number_and_its_question() {
    let asked = Question::parse(&question("web", KIND_A, None)).unwrap();
    let mut answer = question("WEB", KIND_A, None);
    answer[2] |= 0x80;
    let fine = Heard {
        truncated: false,
        failed: false,
    };
    assert_eq!(asked.heard(0x1234, &answer), Some(fine));
    assert_eq!(asked.heard(0x1235, &answer), None);
    for (name, kind) in [("wex", KIND_A), ("web", KIND_AAAA), ("webb", KIND_A)] {
        let mut other = question(name, kind, None);
        assert_eq!(asked.heard(0x1234, &other), None, "no answer");
        other[2] |= 0x80;
        assert_eq!(asked.heard(0x1234, &other), None, "{name} {kind}");
    }
    answer[2] |= 0x02;
    assert!(asked.heard(0x1234, &answer).unwrap().truncated);
    answer[3] = 5;
    assert!(asked.heard(0x1234, &answer).unwrap().failed);
    // A refusal may leave the question out, an answer may not.
    answer[5] = 0;
    assert!(asked.heard(0x1234, &answer[..12]).is_some());
    answer[3] = 0;
    assert_eq!(asked.heard(0x1234, &answer[..12]), None);
}

#[test]
fn what_is_no_question_is_refused_or_left_alone() {
    let mut update = question("web", KIND_A, None);
    update[2] |= 0x28;
    let refused = refuse(&update).unwrap();
    assert_eq!((refused[2], refused[3]), (0xa9, 0x84));
    assert_eq!(
        refuse(&question("web", KIND_A, None)[..13]).unwrap()[3],
        0x81
    );
    update[2] |= 0x80;
    assert_eq!(refuse(&update), None);
    assert_eq!(refuse(&update[..11]), None);
}

proptest! {
    #[test]
    fn never_panics(message in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(question) = Question::parse(&message) {
            let _ = question.answer(Code::NoName, &[], 0, true);
            let _ = question.heard(question.id, &message);
        }
    }

    #[test]
    fn never_panics_past_the_header(rest in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 3];
        message.extend(rest);
        let _ = Question::parse(&message);
    }

    #[test]
    fn reads_what_clients_write(name in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,20}){0,4}", kind: u16) {
        let asked = Question::parse(&question(&name, kind, Some(4096))).unwrap();
        prop_assert_eq!(asked.name, name);
        prop_assert_eq!(asked.kind, kind);
    }
}
