// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice Tokens as they should not be, each with one fault on top of OpenZeppelin's. Anyone may mint.
abstract contract MintableToken is ERC20("Hostile Token", "HT") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice Keeps a hundredth of what is transferred into `taxed`, so that less arrives than was asked.
contract FeeOnTransferToken is MintableToken {
    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee != 0) super._update(from, address(0xFEE), fee);
    }
}

/// @notice Takes a hundredth more from the sender than is transferred. Breaks the ledger's assumption for safety: shows
/// that it harms its own accounts alone.
contract TaxedSenderToken is MintableToken {
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0)) super._update(from, address(0xFEE), amount / 100);
    }
}

/// @notice Answers `false` and moves nothing.
contract FalseReturnToken is MintableToken {
    bool public failing;

    function setFailing(bool failing_) external {
        failing = failing_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return !failing && super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !failing && super.transferFrom(from, to, amount);
    }
}

/// @notice Says that it moved what it did not: the ledger must count what arrived.
contract LyingToken is MintableToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }
}

/// @notice Says that whatever was asked of anybody arrived.
contract InflatingToken is MintableToken {
    mapping(address account => uint256) private _said;

    function transferFrom(address, address to, uint256 amount) public override returns (bool) {
        _said[to] += amount;
        return true;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return _said[account];
    }
}

/// @notice Returns nothing from its transfers, as USDT does.
contract NoReturnToken is MintableToken {
    function transfer(address to, uint256 amount) public override returns (bool) {
        super.transfer(to, amount);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }
}

/// @notice Refuses to pay the accounts on its list, as USDC can.
contract BlocklistToken is MintableToken {
    error Blocked(address account);

    mapping(address account => bool) public blocked;

    function setBlocked(address account, bool blocked_) external {
        blocked[account] = blocked_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!blocked[to], Blocked(to));
        super._update(from, to, amount);
    }
}

/// @notice Takes all from the contract's balance while a transfer to it is under way: the difference is negative.
contract ShrinkingToken is MintableToken {
    function transferFrom(address, address to, uint256) public override returns (bool) {
        _burn(to, 1);
        return true;
    }
}

/// @notice Calls a list of entries of the contract from within its transfers, and keeps the answers. It can also act as a
/// payer, merchant or curer itself, so that the calls come from an account with rights.
contract ReentrantToken is MintableToken {
    struct Call {
        address target;
        bytes data;
    }

    Call[] private _calls;
    bool[] private _ok;
    bytes[] private _answers;
    bool private _entered;

    /// @notice What to call in the next transfer. Each is called once before the money moves and once after.
    function arm(Call[] calldata calls) external {
        delete _calls;
        delete _ok;
        delete _answers;
        for (uint256 i; i < calls.length; ++i) {
            _calls.push(calls[i]);
        }
    }

    /// @notice Acts as an account.
    function execute(address target, uint256 value, bytes calldata data) external payable returns (bytes memory) {
        (bool ok, bytes memory answer) = target.call{value: value}(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        return answer;
    }

    function answers() external view returns (bool[] memory ok, bytes[] memory data) {
        return (_ok, _answers);
    }

    function _update(address from, address to, uint256 amount) internal override {
        _reenter();
        super._update(from, to, amount);
        _reenter();
    }

    function _reenter() private {
        if (_entered) return;
        _entered = true;
        for (uint256 i; i < _calls.length; ++i) {
            (bool ok, bytes memory answer) = _calls[i].target.call(_calls[i].data);
            _ok.push(ok);
            _answers.push(answer);
        }
        _entered = false;
    }
}
