// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";
import {Test} from "forge-std/Test.sol";

/// @notice A plain OpenZeppelin token that anyone may mint.
contract Token is ERC20("Test Token", "TT") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice What every ticket test starts from: a contract, a token, a payer with an escrow key, a merchant with a secret;
/// and helpers that open, sign and find winners.
abstract contract TicketFixture is Test {
    /// @dev Typed again by hand, so that a typo in the contract cannot cancel itself.
    bytes32 internal constant TICKET_TYPE = keccak256(
        "Ticket(address escrow,address recipient,bytes32 commitment,bytes32 r2,uint256 winThreshold,uint64 expiry,uint64 nonce)"
    );
    uint256 internal constant RHO_1_128 = 1 << 249;
    uint256 internal constant PRIZE = 0.01 ether;
    uint256 internal constant PENALTY = 0.2 ether;
    uint256 internal constant BALANCE = 1 ether;
    uint64 internal constant CAP = 1035;
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;
    address internal constant NATIVE = address(0);

    TicketEscrow internal escrows;
    Token internal token;
    address internal payer = makeAddr("payer");
    address internal merchant = makeAddr("merchant");
    address internal stranger = makeAddr("stranger");
    address internal escrow;
    uint256 internal escrowKey;
    bytes32 internal r1 = keccak256("r1");

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        escrows = new TicketEscrow();
        token = new Token();
        (escrow, escrowKey) = makeAddrAndKey("escrow");
        vm.deal(payer, 1_000_000 ether);
        token.mint(payer, 1_000_000 ether);
        vm.prank(payer);
        token.approve(address(escrows), type(uint256).max);
    }

    // ── opening ──

    function terms(address asset) internal pure returns (ITicketEscrow.Terms memory) {
        return
            ITicketEscrow.Terms({asset: asset, prize: PRIZE, maxThreshold: RHO_1_128, ticketCap: CAP, penalty: PENALTY});
    }

    function sign(uint256 key, bytes32 digest) internal pure returns (ITicketEscrow.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return ITicketEscrow.Signature(r, s, v);
    }

    function possession(uint256 key, address owner, ITicketEscrow.Terms memory t)
        internal
        view
        returns (ITicketEscrow.Signature memory)
    {
        return sign(
            key,
            escrows.openingDigest(
                ITicketEscrow.Opening(vm.addr(key), owner, t.asset, t.prize, t.maxThreshold, t.ticketCap, t.penalty)
            )
        );
    }

    function open(uint256 key, address owner, ITicketEscrow.Terms memory t, uint256 amount) internal {
        ITicketEscrow.Signature memory proof = possession(key, owner, t);
        vm.prank(owner);
        escrows.open{value: t.asset == NATIVE ? amount : 0}(vm.addr(key), t, amount, proof);
    }

    function openDefault(address asset) internal {
        open(escrowKey, payer, terms(asset), BALANCE + PENALTY);
    }

    // ── tickets ──

    function commitmentTo(address recipient, bytes32 secret) internal view returns (bytes32) {
        return escrows.commitmentOf(ITicketEscrow.CoinCommitment(recipient, secret));
    }

    function drawOf(bytes32 digest, bytes32 half) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(digest, half)));
    }

    /// @dev A ticket of `escrow_` to `recipient`; `r2` is ground until it wins (`wins`) or loses under `secret`.
    function ticket(address escrow_, address recipient, bytes32 secret, uint64 nonce, bool wins)
        internal
        view
        returns (ITicketEscrow.Ticket memory t)
    {
        t = ITicketEscrow.Ticket({
            escrow: escrow_,
            recipient: recipient,
            commitment: commitmentTo(recipient, secret),
            r2: bytes32(0),
            winThreshold: RHO_1_128,
            expiry: uint64(vm.getBlockTimestamp()) + 1 days,
            nonce: nonce
        });
        return grind(t, secret, wins);
    }

    /// @dev Tries `r2` until the ticket has the wanted outcome. What a payer that knows `r1` can do, and nobody else.
    function grind(ITicketEscrow.Ticket memory t, bytes32 secret, bool wins)
        internal
        view
        returns (ITicketEscrow.Ticket memory won)
    {
        bytes32 domain = escrows.domainSeparator();
        for (uint256 i;; ++i) {
            t.r2 = keccak256(abi.encode(t.nonce, t.recipient, i));
            bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, keccak256(abi.encode(TICKET_TYPE, t))));
            if ((drawOf(digest, secret) < t.winThreshold) == wins) return t;
        }
    }

    function signed(uint256 key, ITicketEscrow.Ticket memory t) internal view returns (ITicketEscrow.Winner memory) {
        return ITicketEscrow.Winner(t.r2, t.winThreshold, t.expiry, t.nonce, sign(key, escrows.ticketDigest(t)));
    }

    /// @dev A winner of the default escrow for the default merchant.
    function winner(uint64 nonce) internal view returns (ITicketEscrow.Winner memory) {
        return signed(escrowKey, ticket(escrow, merchant, r1, nonce, true));
    }

    function group(address escrow_, bytes32 secret, ITicketEscrow.Winner[] memory list)
        internal
        pure
        returns (ITicketEscrow.Group memory)
    {
        return ITicketEscrow.Group(escrow_, secret, list);
    }

    /// @dev Winners of the default escrow with nonces `first`, `first + 1`, …
    function winners(uint64 first, uint256 count) internal view returns (ITicketEscrow.Winner[] memory list) {
        list = new ITicketEscrow.Winner[](count);
        for (uint64 i; i < count; ++i) {
            list[i] = winner(first + i);
        }
    }
}
