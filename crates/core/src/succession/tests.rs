//! Statements as bytes, and who is who by them.

use proptest::prelude::*;

use super::*;

fn key(n: u8) -> PeerKey {
    [n; 32]
}

fn succession(old: u8, new: u8, until: Millis) -> Succession {
    Succession { old: key(old), new: key(new), made: until.saturating_sub(5), until }
}

fn statement(old: u8, new: u8) -> Statement {
    Statement { succession: succession(old, new, 1_700_000_000_005), signatures: ([old; 64], [new; 64]) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Releases must understand each other: these bytes change with the version in the domain only.
#[test]
fn a_statement_has_these_bytes_and_nothing_else_is_one() {
    let one = statement(1, 2);
    let bytes = one.encode();
    let golden = [
        "72656b6e69742073756363657373696f6e203100",
        &"01".repeat(32),
        &"02".repeat(32),
        "0000018bcfe56800",
        "0000018bcfe56805",
        &"01".repeat(64),
        &"02".repeat(64),
    ];
    assert_eq!(hex(&bytes), golden.concat());
    assert_eq!(bytes.len(), STATEMENT_BYTES);
    assert_eq!(Statement::decode(&bytes), Ok(one.clone()));
    for at in 0..bytes.len() {
        assert!(Statement::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let refused = |succession| Statement::decode(&Statement { succession, signatures: ([0; 64], [0; 64]) }.encode());
    let long = Succession { made: 0, until: OVERLAP_MILLIS_MAX + 1, ..succession(1, 2, 9) };
    assert!(matches!(refused(long), Err(DecodeError::Bound { .. })));
    assert!(refused(Succession { made: 10, until: 9, ..succession(1, 2, 9) }).is_err());
    assert!(refused(succession(1, 1, 9)).is_err());
}

#[test]
fn both_keys_have_signed_what_holds() {
    let one = statement(1, 2);
    let signed = one.succession.signed();
    let by = |key: &PeerKey, message: &[u8], signature: &Signature| message == signed && *signature == [key[0]; 64];
    assert!(one.holds(by));
    let forged = |signatures| !Statement { signatures, ..one.clone() }.holds(by);
    assert!(forged(([1; 64], [1; 64])) && forged(([2; 64], [2; 64])));
    let other = Statement { succession: Succession { until: 1_700_000_000_004, ..one.succession }, ..one.clone() };
    assert!(!other.holds(by));
}

#[test]
fn statements_are_shown_together_if_each_follows_the_one_before() {
    let all: Vec<Statement> = (0..10).map(|n| statement(n, n + 1)).collect();
    assert_eq!(decode_all(&encode_all(&all)).as_deref(), Ok(&all[2..]), "the newest");
    let many: Vec<u8> = all.iter().flat_map(Statement::encode).collect();
    assert!(matches!(decode_all(&many), Err(DecodeError::Bound { .. })));
    assert!(decode_all(&[]).is_err());
    assert!(decode_all(&encode_all(&[statement(1, 2), statement(3, 4)])).is_err());
}

#[test]
fn an_old_key_is_the_peer_until_the_overlap_ends_and_cannot_name_another() {
    let mut lines = Lines::default();
    assert_eq!(lines.take(&succession(1, 2, 100)), Ok(true));
    assert_eq!(lines.take(&succession(1, 2, 100)), Ok(false));
    assert_eq!((lines.ended(&key(1), 99), lines.ended(&key(1), 100), lines.ended(&key(2), 100)), (false, true, false));
    assert_eq!(lines.take(&succession(1, 3, 500)), Err(NotTaken::Another { known: key(2) }));
    assert_eq!(lines.take(&succession(1, 2, 500)), Ok(false), "never later");
    assert_eq!(lines.next_end(0), Some(100));
    assert_eq!(lines.take(&succession(1, 2, 50)), Ok(true), "but earlier");
    assert!(lines.ended(&key(1), 50));
    assert_eq!(lines.next_end(50), None);
    assert_eq!(lines.take(&succession(2, 4, 200)), Ok(true));
    assert_eq!(lines.line(key(2)), [key(4), key(2), key(1)]);
    assert_eq!(lines.newest(key(9)), key(9));
    assert_eq!(lines.take(&succession(4, 1, 300)), Err(NotTaken::Tangled), "no circle");
    assert_eq!(lines.take(&succession(7, 4, 300)), Err(NotTaken::Tangled), "no peer takes over another");
    lines.forget(key(1));
    assert_eq!(lines, Lines::default());
}

#[test]
fn what_is_remembered_is_bounded() {
    let chain = |n: u64| {
        let name = |n: u64| std::array::from_fn(|i| if i < 8 { n.to_be_bytes()[i] } else { 0 });
        Succession { old: name(n), new: name(n + 1), made: 0, until: n }
    };
    let mut lines = Lines::default();
    for n in 0..40 {
        assert_eq!(lines.take(&chain(n)), Ok(true));
    }
    assert_eq!(lines.all().count(), LINE_MAX);
    assert_eq!(lines.newest(chain(30).old), chain(39).new);
    for n in 0..(SUCCESSIONS_MAX - LINE_MAX) as u64 {
        assert_eq!(lines.take(&chain(1000 + 2 * n)), Ok(true));
    }
    assert_eq!(lines.take(&chain(900_000)), Err(NotTaken::Full));
}

proptest! {
    /// Whatever is stated in whatever order, keys are in lines: what is newest is the same for all of a line, and ends.
    #[test]
    fn whatever_is_stated_lines_stay_lines(all in prop::collection::vec((0u8..12, 0u8..12, 1u64..99), 0..60)) {
        let mut lines = Lines::default();
        for (old, new, until) in all {
            if old != new {
                let known = lines.next(&key(old));
                let taken = lines.take(&succession(old, new, until));
                if let Some(known) = known {
                    let next = lines.next(&key(old)).expect("it stays known");
                    prop_assert!(next.new == known.new && next.until <= known.until);
                    prop_assert_eq!(taken.is_err(), new != known.new[0]);
                }
            }
        }
        for n in 0..12 {
            let line = lines.line(key(n));
            prop_assert!(line.contains(&key(n)));
            let distinct: BTreeSet<PeerKey> = line.iter().copied().collect();
            prop_assert_eq!(distinct.len(), line.len());
            for other in &line {
                prop_assert_eq!(lines.newest(*other), line[0]);
            }
        }
        let again = Lines::new(lines.all().map(|(old, next)| (*old, *next)));
        prop_assert_eq!(again, Ok(lines));
    }

    #[test]
    fn bytes_from_outside_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = (Statement::decode(&bytes), decode_all(&bytes));
    }
}
