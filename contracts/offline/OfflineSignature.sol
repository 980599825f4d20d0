// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineHash} from "./OfflineHash.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

/// @title OfflineSignature
/// @notice What counts as a wallet's signature: P-256 with `s` in the lower half.
library OfflineSignature {
    /// @dev Half of the order of P-256: of the two signatures (r, s) and (r, n - s) the lower one counts.
    uint256 private constant HALF_N = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8;

    /// @dev ES256 over a digest.
    function verify(bytes32 digest, bytes32 r, bytes32 s, bytes32 x, bytes32 y) internal view returns (bool) {
        return verifyHash(OfflineHash.sha(digest), r, s, x, y);
    }

    /// @dev P-256, by the precompile if it says yes, and else by OpenZeppelin's library: it knows a missing precompile from a
    /// bad signature, and has the Solidity for one. In assembly, and beside the library, because every hop pays for it: of
    /// what the library checks first, the precompile checks all but the half of `s` (EIP-7951); 450 gas less.
    function verifyHash(bytes32 hash, bytes32 r, bytes32 s, bytes32 x, bytes32 y) internal view returns (bool) {
        if (uint256(s) > HALF_N) return false;
        uint256 valid;
        assembly ("memory-safe") {
            let input := mload(0x40) // used up before anything else can want it, so not allocated
            mstore(input, hash)
            mstore(add(input, 0x20), r)
            mstore(add(input, 0x40), s)
            mstore(add(input, 0x60), x)
            mstore(add(input, 0x80), y)
            mstore(0x00, 0) // a missing precompile answers nothing
            pop(staticcall(gas(), 0x100, input, 0xa0, 0x00, 0x20))
            valid := mload(0x00)
        }
        return valid == 1 || P256.verify(hash, r, s, x, y);
    }
}
