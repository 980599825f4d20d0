// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ILedger} from "./ILedger.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Ledger
/// @notice The only code that moves assets: in by measured difference, out by pull. Schemes inherit it and book credit.
abstract contract Ledger is ILedger, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev The native asset's place in the asset type.
    address internal constant NATIVE = address(0);

    /// @dev Burned money is credit of an address whose key nobody can know. Booking it, rather than sending it, keeps a
    /// token that refuses this address from holding up a burn.
    address internal constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    mapping(address asset => mapping(address account => uint256 amount)) private _creditOf;

    /// @inheritdoc ILedger
    function creditOf(address asset, address account) external view returns (uint256) {
        return _creditOf[asset][account];
    }

    /// @inheritdoc ILedger
    function withdrawCredit(address asset, address to, uint256 amount) external nonReentrant {
        // Check.
        require(to != address(0) && to != address(this), BadDestination(to));
        uint256 held = _creditOf[asset][msg.sender];
        require(amount <= held, CreditTooLow(amount, held));

        // Effect.
        unchecked {
            _creditOf[asset][msg.sender] = held - amount; // amount <= held
        }
        emit CreditWithdrawn(asset, msg.sender, to, amount);

        // Interaction.
        if (asset == NATIVE) {
            (bool ok,) = to.call{value: amount}("");
            require(ok, NativeTransferFailed(to, amount));
        } else {
            IERC20(asset).safeTransfer(to, amount);
        }
    }

    /// @dev Takes `amount` of `asset` from the caller and returns what arrived. Every caller is `nonReentrant`: a token
    /// that calls back in the middle could otherwise have one transfer counted twice.
    function _deposit(address asset, uint256 amount) internal returns (uint256 received) {
        if (asset == NATIVE) {
            require(msg.value == amount, WrongValue(msg.value, amount));
            return amount;
        }
        require(msg.value == 0, WrongValue(msg.value, 0));
        uint256 before = IERC20(asset).balanceOf(address(this));
        IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
        return IERC20(asset).balanceOf(address(this)) - before;
    }

    /// @dev Adds to an account's credit.
    function _credit(address asset, address account, uint256 amount) internal {
        _creditOf[asset][account] += amount;
    }
}
