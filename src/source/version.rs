//! Versions of Debian packages and their order (Debian policy 5.6.12).

use std::cmp::Ordering;

/// Which of two versions is later: epoch, upstream version, revision.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = parts(left);
    let (right_epoch, right_upstream, right_revision) = parts(right);
    compare_numbers(left_epoch.as_bytes(), right_epoch.as_bytes())
        .then_with(|| compare_part(left_upstream.as_bytes(), right_upstream.as_bytes()))
        .then_with(|| compare_part(left_revision.as_bytes(), right_revision.as_bytes()))
}

/// A version without its epoch and revision.
pub fn upstream(version: &str) -> &str {
    parts(version).1
}

fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Stretches that are no digits, by letter, and stretches of digits, by number, in turn.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split(right, |byte| !byte.is_ascii_digit());
        let length = left_text.len().max(right_text.len());
        for at in 0..length {
            let order = rank(left_text.get(at)).cmp(&rank(right_text.get(at)));
            if order.is_ne() {
                return order;
            }
        }
        let (left_number, left_rest) = split(left_rest, |byte| byte.is_ascii_digit());
        let (right_number, right_rest) = split(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_numbers(left_number, right_number);
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split(text: &[u8], is_in: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is_in(byte)).unwrap_or(text.len()))
}

/// A tilde comes before the end, the end before letters, letters before everything else.
fn rank(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = split(left, |byte| *byte == b'0');
    let (_, right) = split(right, |byte| *byte == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_policy_says() {
        let ordered = [
            "~~",
            "~~a",
            "~",
            "0~rc1",
            "0",
            "0.1~a-1",
            "0.1-1~deb12u1",
            "0.1-1",
            "0.1-1+b1",
            "0.1-1.1",
            "0.1a-1",
            "0.1+dfsg-1",
            "0.9",
            "0.10",
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-2",
            "1.0-10",
            "2.36-9+deb12u4",
            "2.36-9+deb12u14",
            "1:0.4-1",
            "1:0.4-1.1",
            "2:0",
            "10:0",
        ];
        for (at, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                assert_eq!(compare(left, right), at.cmp(&other), "{left} {right}");
            }
        }
    }

    #[test]
    fn some_texts_mean_the_same() {
        for (left, right) in [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("1.0-", "1.0")]
        {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
        let huge = "99999999999999999999999999999999999999";
        assert_eq!(compare(huge, "1"), Ordering::Greater);
        assert_eq!(upstream("1:2.3-4-5"), "2.3-4");
    }
}
