// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @title ILedger
/// @notice Who is owed what, and how it leaves. Every scheme books what it pays as *credit* of an account; the account
/// collects it when it likes, to any address it likes. No scheme ever calls a payee.
///
/// Assumptions, for safety:
/// - An asset's balance changes by transfers only (no rebasing), and a transfer out takes exactly its amount from the
///   sender. A token that breaks this harms the accounts of that token alone; clients keep their own allow-list.
/// - A fee on a transfer *in* is safe: deposits count what arrived, not what was asked.
/// For liveness:
/// - The asset lets this contract transfer. A token that blocks one payee leaves that payee's credit in place, to be
///   collected to another address.
interface ILedger {
    /// @notice `account` moved `amount` atomic units of `asset` from its credit to `to`.
    event CreditWithdrawn(address indexed asset, address indexed account, address to, uint256 amount);

    /// @notice The native value sent does not equal the amount to deposit (zero for a token).
    error WrongValue(uint256 got, uint256 expected);
    /// @notice More was asked than the account's credit.
    error CreditTooLow(uint256 asked, uint256 credit);
    /// @notice Assets sent to the zero address or to this contract would be lost.
    error BadDestination(address to);
    /// @notice `to` refused the native asset.
    error NativeTransferFailed(address to, uint256 amount);

    /// @notice Credit of `account`, in atomic units of `asset` (the zero address is the native asset).
    function creditOf(address asset, address account) external view returns (uint256 amount);

    /// @notice Moves `amount` of the caller's credit to `to`. Callable by any account with credit.
    /// Emits {CreditWithdrawn}. Requires `amount` within the credit, and a destination that can hold it.
    function withdrawCredit(address asset, address to, uint256 amount) external;
}
