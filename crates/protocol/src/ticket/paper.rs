//! The paper's own win rules, for attack tests and for reproducing its numbers. **Not for payments**: each of these can be
//! biased by one side, which is why [`super::draw`] is another rule (`ticket.md` §2, M1-6, M1-7, M1-10).
//!
//! The text states the rule four ways. All of them look at r1 ⊕ r2 of 128 bits; the strings "first 2 digits" and
//! "last 2 digits" are read here as digits of its decimal form, as in the implementation that section 3.3 shows.

/// Decimal digits of the largest 128-bit number.
pub const DIGITS: u32 = 39;

/// r1 ⊕ r2 of two 128-bit halves: the paper's coin toss (section 2.1).
pub fn coin_toss(r1: u128, r2: u128) -> u128 {
    r1 ^ r2
}

/// Section 2.1: "the first 2 digits of r1 ⊕ r2 are 00", of the 39-digit decimal form padded with zeros. Holds for
/// 10^37 / 2^128 = 2.94 % of all tosses, not for the 1 % that the section states. (Without padding it holds for none.)
pub fn first_two_digits(r1: u128, r2: u128) -> bool {
    coin_toss(r1, r2) < 10u128.pow(DIGITS - 2)
}

/// Sections 2.2, 2.3 and 3.3: "the last 2 digits of r1 ⊕ r2 are 00", of the decimal form. 1 %.
pub fn last_two_digits(r1: u128, r2: u128) -> bool {
    coin_toss(r1, r2).is_multiple_of(100)
}

/// Section 1: "the most significant two bits of the random tape are 00". One in 4.
pub fn first_two_bits(r1: u128, r2: u128) -> bool {
    coin_toss(r1, r2) >> 126 == 0
}

/// The rate 1/512 that section 4 computes with: the last 9 bits are 0.
pub fn last_nine_bits(r1: u128, r2: u128) -> bool {
    coin_toss(r1, r2).trailing_zeros() >= 9
}

/// Section 3.3: what the implemented payer draws for r2, a single byte. It reaches only the lowest 8 bits of the toss, and
/// leaves the rest to the merchant.
pub fn eight_bit_r2(byte: u8) -> u128 {
    u128::from(byte)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;
    use sha2::{Digest, Sha256};

    use super::*;

    /// Section 3.3, step 2: the commitment is SHA-256 over the 16 bytes of r1, without a separate opening (M1-9).
    #[test]
    fn example_of_section_3_3() {
        let r1 = 0x29c1_4f18_638d_a11b_7566_3e05_0087_b591_u128;
        let commitment = hex!("7c12e848a4a3a9f31c7abea5ab323eeb6893c3a08675cc6c076e39950e52695e");
        assert_eq!(Sha256::digest(r1.to_be_bytes())[..], commitment);
        // Step 3 draws r2 = 37.
        assert!(!last_two_digits(r1, eight_bit_r2(37)));
        assert!(!first_two_digits(r1, eight_bit_r2(37)));
    }

    #[test]
    fn edges_of_the_rules() {
        let limit = 10u128.pow(37);
        assert!(first_two_digits(limit - 1, 0) && !first_two_digits(limit, 0));
        assert!(last_two_digits(300, 0) && !last_two_digits(301, 0) && last_two_digits(0, 0));
        assert!(first_two_bits(u128::MAX >> 2, 0) && !first_two_bits(1 << 126, 0));
        assert!(last_nine_bits(1 << 9, 0) && !last_nine_bits(1 << 8, 0) && last_nine_bits(0, 0));
        assert_eq!(u128::MAX.to_string().len(), DIGITS as usize);
    }
}
