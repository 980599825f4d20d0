// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "contracts/shared/ILedger.sol";

/// @notice Refuses the native asset.
contract RefusingPayee {
    function withdraw(ILedger ledger, address to, uint256 amount) external {
        ledger.withdrawCredit(address(0), to, amount);
    }
}

/// @notice Asks for its credit again while it is being paid.
contract ReentrantPayee {
    ILedger private immutable _LEDGER;
    bytes public answer;

    constructor(ILedger ledger) {
        _LEDGER = ledger;
    }

    function withdraw(uint256 amount) external {
        _LEDGER.withdrawCredit(address(0), address(this), amount);
    }

    receive() external payable {
        try _LEDGER.withdrawCredit(address(0), address(this), msg.value) {}
        catch (bytes memory reason) {
            answer = reason;
        }
    }
}
