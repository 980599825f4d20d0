// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @title IOperators
/// @notice Who may act for whom. A recipient lets operators send the transactions that turn promises into its credit; what
/// they earn is the recipient's all the same, and the credit itself stays out of their reach.
interface IOperators {
    /// @notice `recipient` lets `operator` act for it, or no longer.
    event OperatorSet(address indexed recipient, address indexed operator, bool approved);

    /// @notice Only the recipient or an operator it approved may.
    error NotOperator(address caller, address recipient);

    /// @notice Lets `operator` act for the caller. What it earns is credited to the caller all the same.
    /// Emits {OperatorSet}.
    function setOperator(address operator, bool approved) external;

    /// @notice Whether `operator` may act for `recipient`.
    function isOperator(address recipient, address operator) external view returns (bool approved);
}
