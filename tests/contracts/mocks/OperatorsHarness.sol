// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Operators} from "contracts/shared/Operators.sol";

/// @notice The smallest scheme: asks who may act for whom.
contract OperatorsHarness is Operators {
    function actsFor(address recipient) external view returns (bool) {
        return _actsFor(recipient);
    }

    function check(address recipient) external view {
        _checkOperator(recipient);
    }
}
