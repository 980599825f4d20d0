// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @notice The coin of Pass & shelat as the text has it, in each of its readings (M1-6). Only the attack tests use it:
/// to show what the paper's own rule allows before they show that ours does not.
library PaperRule {
    /// @dev A 128-bit number has up to 39 decimal digits; padded to 39, the first two are zero below this.
    uint256 internal constant FIRST_TWO_DIGITS = 10 ** 37;

    /// @dev Section 2.1: "the first 2 digits of r1 XOR r2 are 00".
    function firstDigitsWin(uint128 r1, uint128 r2) internal pure returns (bool) {
        return (r1 ^ r2) < FIRST_TWO_DIGITS;
    }

    /// @dev Sections 2.2 and 2.3: "the last 2 digits are 00".
    function lastDigitsWin(uint128 r1, uint128 r2) internal pure returns (bool) {
        return (r1 ^ r2) % 100 == 0;
    }

    /// @dev The rate 1/512 in bits: the last nine are zero.
    function lastNineBitsWin(uint128 r1, uint128 r2) internal pure returns (bool) {
        return ((r1 ^ r2) & 0x1ff) == 0;
    }

    /// @dev Section 2.4 with ECDSA: the coin hashes the payer's signature, byte by byte, and wins at 1/128.
    function signatureWins(bytes32 merchantSecret, bytes32 r, bytes32 s, uint8 v) internal pure returns (bool) {
        return uint256(keccak256(abi.encode(merchantSecret, r, s, v))) < 1 << 249;
    }
}

/// @notice The paper's escrow on an EVM chain, as a newcomer would write it from section 2.1: one address, one prize, and
/// whoever shows a winning witness (r1, r2, σ over (c, r2, a2)) first gets all of it.
contract PaperEscrow {
    address private immutable PAYER = msg.sender;
    address private immutable KEY;

    constructor(address key) payable {
        KEY = key;
    }

    function digest(bytes32 commitment, uint128 r2, address payee) public pure returns (bytes32) {
        return keccak256(abi.encode(commitment, r2, payee));
    }

    /// @dev Anyone may send it: the payee is signed.
    function release(uint128 r1, uint128 r2, address payee, uint8 v, bytes32 r, bytes32 s) external {
        require(isWitness(r1, r2, payee, v, r, s), "no witness");
        require(address(this).balance != 0, "nothing left");
        _send(payee);
    }

    function isWitness(uint128 r1, uint128 r2, address payee, uint8 v, bytes32 r, bytes32 s)
        public
        view
        returns (bool)
    {
        bytes32 commitment = sha256(abi.encodePacked(r1)); // the paper's example: over the 16 raw bytes
        return ecrecover(digest(commitment, r2, payee), v, r, s) == KEY && PaperRule.lastDigitsWin(r1, r2);
    }

    /// @dev The "slight modification" of section 2.1 that lets the payer have its money back.
    function refund() external {
        require(msg.sender == PAYER, "not payer");
        _send(PAYER);
    }

    function _send(address to) private {
        (bool ok,) = to.call{value: address(this).balance}("");
        require(ok, "refused");
    }
}
