// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IOperators} from "./IOperators.sol";

/// @title Operators
/// @notice See {IOperators}. Schemes inherit it and ask {_actsFor} of the caller.
abstract contract Operators is IOperators {
    mapping(address recipient => mapping(address operator => bool approved)) private _operators;

    /// @inheritdoc IOperators
    function setOperator(address operator, bool approved) external {
        _operators[msg.sender][operator] = approved;
        emit OperatorSet(msg.sender, operator, approved);
    }

    /// @inheritdoc IOperators
    function isOperator(address recipient, address operator) external view returns (bool) {
        return _operators[recipient][operator];
    }

    /// @dev Whether the caller is `recipient` or an operator of it.
    function _actsFor(address recipient) internal view returns (bool) {
        return msg.sender == recipient || _operators[recipient][msg.sender];
    }

    /// @dev Reverts unless the caller is `recipient` or an operator of it.
    function _checkOperator(address recipient) internal view {
        require(_actsFor(recipient), NotOperator(msg.sender, recipient));
    }
}
