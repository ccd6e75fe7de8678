use super::*;

/// The counts of the golden vectors. With one shard it is always shard 0.
const COUNTS: [u16; 7] = [2, 3, 16, 64, 65, 256, 1024];

/// What the plugin's own code answers for each count of [`COUNTS`], on all three brokers.
///
/// Never to be changed: see the module.
const GOLDEN_VECTORS: &[(&str, [u16; 7])] = &[
    ("USMF/SO-000001", [1, 1, 4, 55, 55, 55, 933]),
    ("USMF/SO-000002", [0, 0, 3, 35, 35, 211, 907]),
    ("USMF/SO-000003", [1, 2, 8, 46, 46, 194, 877]),
    ("USMF/SO-000010", [1, 1, 1, 35, 35, 150, 949]),
    ("USMF/SO-2025-0145", [1, 1, 12, 63, 63, 63, 656]),
    ("usmf/so-2025-0145", [0, 0, 5, 50, 50, 175, 731]),
    ("usmf/SO-2025-0145", [0, 2, 9, 50, 50, 252, 690]),
    ("DEMF/SO-2025-0145", [0, 2, 7, 7, 7, 234, 540]),
    ("GBSI/000741", [1, 2, 6, 25, 25, 127, 533]),
    ("usrt/PO-9", [0, 0, 14, 36, 36, 36, 741]),
    ("USMF/SO-999999", [1, 2, 11, 41, 64, 93, 93]),
    ("USMF/SO%2F2025", [1, 2, 10, 10, 10, 10, 10]),
    ("", [0, 0, 9, 45, 45, 161, 161]),
    ("a", [1, 1, 15, 47, 47, 47, 47]),
    ("ab", [1, 1, 6, 28, 28, 139, 970]),
    ("abc", [1, 1, 10, 56, 56, 88, 543]),
    ("abcd", [1, 1, 5, 36, 36, 208, 208]),
    ("abcde", [1, 1, 3, 17, 17, 142, 142]),
    ("abcdef", [0, 0, 10, 10, 10, 10, 359]),
    ("abcdefg", [0, 2, 2, 2, 2, 66, 66]),
    ("abcdefgh", [1, 1, 13, 26, 26, 220, 497]),
    ("abcdefghi", [1, 1, 7, 32, 32, 144, 295]),
    ("abcdefghij", [1, 2, 3, 45, 45, 253, 564]),
    ("abcdefghijk", [1, 1, 1, 1, 1, 222, 222]),
    ("abcdefghijkl", [0, 0, 6, 6, 6, 217, 754]),
    ("abcdefghijklm", [1, 1, 6, 30, 30, 113, 961]),
    ("abcdefghijklmnopqrstuvw", [1, 2, 12, 20, 20, 161, 161]),
    ("abcdefghijklmnopqrstuvwx", [1, 1, 12, 12, 12, 12, 422]),
    ("abcdefghijklmnopqrstuvwxy", [0, 2, 3, 3, 3, 3, 3]),
    ("0", [1, 1, 3, 50, 50, 201, 201]),
    ("1", [1, 2, 8, 33, 33, 158, 391]),
    ("42", [0, 0, 0, 0, 0, 71, 492]),
    ("/", [1, 1, 12, 35, 35, 227, 469]),
    ("//", [0, 2, 2, 39, 39, 249, 285]),
    (" ", [1, 1, 1, 58, 58, 147, 732]),
    ("USMF/", [0, 0, 10, 26, 26, 117, 352]),
    ("/SO-1", [1, 1, 12, 44, 44, 84, 84]),
    ("Zürich/Auftrag-7", [1, 2, 3, 42, 42, 221, 221]),
    ("Łódź/Zamówienie-1", [0, 0, 15, 18, 18, 253, 253]),
    ("東京/注文-0001", [1, 2, 6, 63, 63, 195, 690]),
    ("Москва/Заказ-12", [1, 2, 4, 40, 40, 40, 304]),
    ("café", [0, 2, 2, 2, 2, 2, 731]),
    ("cafe\u{301}", [1, 1, 15, 57, 57, 195, 600]),
    ("🚚/📦", [1, 1, 7, 7, 7, 114, 408]),
    ("ß", [1, 1, 9, 32, 32, 166, 714]),
    ("\u{0}", [0, 2, 5, 40, 40, 67, 67]),
    ("\u{7f}", [0, 2, 13, 39, 39, 199, 367]),
    ("ÿ", [1, 1, 9, 36, 36, 114, 954]),
    ("550e8400-e29b-41d4-a716-446655440000", [1, 2, 12, 20, 20, 161, 483]),
];

/// The same for the longest keys that a routing key can hold.
fn long_golden_vectors() -> [(String, [u16; 7]); 4] {
    [
        ("x".repeat(254), [0, 2, 9, 44, 44, 91, 719]),
        ("x".repeat(255), [1, 2, 11, 11, 11, 204, 769]),
        ("é".repeat(127) + "x", [1, 1, 4, 4, 4, 172, 658]),
        ("SO-0123456789".repeat(19), [0, 0, 3, 37, 37, 152, 413]),
    ]
}

#[test]
fn golden_vectors_never_change() {
    let long = long_golden_vectors();
    let long = long.iter().map(|(key, expected)| (key.as_str(), *expected));
    for (key, expected) in GOLDEN_VECTORS.iter().copied().chain(long) {
        assert_eq!(COUNTS.map(|count| shard_of(key, count)), expected, "{key:?}");
        assert_eq!([0, 1].map(|count| shard_of(key, count)), [0, 0], "{key:?}");
    }
}

/// Only so many bits of the hash count, so this is all that lies behind it.
///
/// The digest was made by the plugin's own code, the same on all three brokers. It also shows that
/// no random number is zero: Erlang would have failed.
#[test]
fn every_hash_leads_where_the_plugin_leads_it() {
    let mut digest = 1_469_598_103_934_665_603;
    for hash in 0..1 << 21 {
        for count in [64, 1024] {
            digest = (digest ^ u64::from(jump(hash, count))).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(digest, 6_811_834_418_351_988_975);
    assert_eq!(jump(u32::MAX, u16::MAX), jump((1 << 21) - 1, u16::MAX), "higher bits do not count");
}

/// `erlang:phash2(<<"USMF/SO-2025-0145"/utf8>>)` and so on.
#[test]
fn hash_is_that_of_erlang() {
    let hash = |key: &str| phash2(key.as_bytes()) % (1 << 27);
    assert_eq!(hash(""), 13_708_901);
    assert_eq!(hash("abcdefghijkl"), 15_432_855);
    assert_eq!(hash("USMF/SO-2025-0145"), 60_669_977);
    assert_eq!(hash("東京/注文-0001"), 91_234_413);
}

#[test]
fn shards_get_an_even_share_of_a_hundred_thousand_orders() {
    let mut orders = [0_u32; 64];
    for number in 0..100_000 {
        orders[usize::from(shard_of(&format!("USMF/SO-{number:06}"), 64))] += 1;
    }
    let (min, max) = (*orders.iter().min().unwrap(), *orders.iter().max().unwrap());
    assert!(1_400 < min && max < 1_700, "from {min} to {max}, mean 1,562.5");
}

#[test]
fn one_more_shard_takes_orders_from_the_others_and_moves_none_between_them() {
    let keys: Vec<_> = (0..2_000).map(|number| format!("USMF/SO-{number:06}")).collect();
    for shards in 1..200 {
        let mut moved = 0;
        for key in &keys {
            let (before, after) = (shard_of(key, shards), shard_of(key, shards + 1));
            assert!(after == before || after == shards, "{key}: {before} to {after} of {shards}");
            moved += u32::from(after != before);
        }
        assert!(moved > 0, "shard {shards} got nothing");
    }
}
