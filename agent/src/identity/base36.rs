//! Numbers of 256 bits in base 36, as Swarm writes digests.

/// Digits of a whole digest: the smallest number of them that holds 256 bits.
pub(super) const DIGEST_DIGITS: usize = 50;

/// A digest as 50 digits of base 36, the most significant first, padded with
/// zeros.
pub(super) fn digits(digest: [u8; 32]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = digest;
    let mut text = [b'0'; DIGEST_DIGITS];
    for digit in text.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            // Below 36 × 256, so that the quotient fits a byte.
            *byte = (value / 36) as u8;
            rest = value % 36;
        }
        *digit = DIGITS[rest as usize];
    }
    text.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_and_the_largest() {
        assert_eq!(digits([0; 32]), "0".repeat(50));
        let mut one = [0; 32];
        one[31] = 37;
        assert_eq!(digits(one), format!("{}11", "0".repeat(48)));
        // 2^256 - 1, worked out by another program.
        let all = digits([255; 32]);
        assert_eq!(all, "6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof");
    }
}
