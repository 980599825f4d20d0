// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @notice The paper's payment on an EVM chain, as a newcomer would write it from sections 4.1 to 4.3: a forward chain of
/// coins, and money for who shows the last of the unlocked signatures. Only the attack tests use it: to show what the
/// paper's own rule allows before they show that ours does not.
contract PaperChannel {
    address private immutable CLIENT = msg.sender;
    address private immutable VENDOR;
    address private immutable KEY;
    bytes32 private immutable FIRST;
    uint256 private immutable UNIT;
    uint256 private immutable EXPIRY;

    constructor(address vendor, address key, bytes32 first, uint256 unit, uint256 expiry) payable {
        (VENDOR, KEY, FIRST, UNIT, EXPIRY) = (vendor, key, first, unit, expiry);
    }

    /// @dev Section 4.2: `f_i = H(f_{i-1})`.
    function coin(bytes32 first, uint256 index) public pure returns (bytes32 f) {
        f = first;
        for (uint256 i = 1; i < index; ++i) {
            f = keccak256(abi.encode(f));
        }
    }

    /// @dev A coin is authentic if it follows from the first one.
    function redeem(uint256 index, bytes32 f) external {
        require(coin(FIRST, index) == f, "no coin");
        _send(VENDOR, index * UNIT);
    }

    /// @dev "The last transaction": the vendor is paid against the client's signature on payment n, which it has only when
    /// the client opened the last lock.
    function close(uint256 index, bytes32 digest, uint8 v, bytes32 r, bytes32 s) external {
        require(msg.sender == VENDOR && ecrecover(digest, v, r, s) == KEY, "no signature");
        _send(VENDOR, index * UNIT);
    }

    /// @dev The time lock.
    function refund() external {
        require(msg.sender == CLIENT && block.timestamp > EXPIRY, "not yet");
        _send(CLIENT, address(this).balance);
    }

    function _send(address to, uint256 amount) private {
        (bool ok,) = to.call{value: amount}("");
        require(ok, "refused");
    }
}
