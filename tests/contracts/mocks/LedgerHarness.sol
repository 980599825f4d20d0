// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ledger} from "contracts/shared/Ledger.sol";

/// @notice The smallest scheme: what arrives is credited to the caller.
contract LedgerHarness is Ledger {
    function deposit(address asset, uint256 amount) external payable nonReentrant returns (uint256 received) {
        received = _deposit(asset, amount);
        _credit(asset, msg.sender, received);
    }

    function credit(address asset, address account, uint256 amount) external {
        _credit(asset, account, amount);
    }

    function burnAddress() external pure returns (address) {
        return BURN_ADDRESS;
    }
}
