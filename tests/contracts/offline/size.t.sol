// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Test} from "forge-std/Test.sol";

/// @notice The vault carries P-256 in Solidity and is compiled with fewer runs of the optimizer for it (foundry.toml).
contract SizeTest is Test {
    function test_size_FitsEip170() external {
        emit log_named_uint("bytes", deployCode("OfflineVault.sol:OfflineVault").code.length);
        assertLe(deployCode("OfflineVault.sol:OfflineVault").code.length, 24_576);
    }
}
