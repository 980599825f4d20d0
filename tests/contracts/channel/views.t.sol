// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelFixture} from "./ChannelFixture.sol";
import {ChannelHash} from "contracts/channel/ChannelHash.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice Digests against EIP-712 written out by hand, constants against the design, the assembly against the compiler's
/// own encoding, and empty views.
contract ViewsTest is ChannelFixture {
    // Typed by hand from the design's section 1.1.
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant PERMIT_TYPE = keccak256(
        "OpenPermit(bytes32 channelId,address client,address vendor,address receiptKey,address asset,uint128 unit,uint32 length,bytes32 anchor,uint8 clientReputation,uint8 vendorReputation,uint64 issuedAt,uint64 expiry)"
    );
    bytes32 private constant RECEIPT_TYPE = keccak256(
        "Receipt(bytes32 channelId,uint32 index,bytes32 itemHash,uint128 cumulative,uint64 issuedAt,bytes32 transcript)"
    );
    bytes32 private constant CHECKPOINT_TYPE =
        keccak256("Checkpoint(bytes32 channelId,uint32 index,bytes32 word,bytes32 locksRoot)");
    bytes32 private constant CLOSE_TYPE = keccak256("CooperativeClose(bytes32 channelId,uint32 index)");

    function test_constants_AreTheDesigns() external view {
        assertEq(channels.MAX_LENGTH(), 2 ** 20);
        assertEq(channels.MAX_LIFE(), 365 * 24 * 3600);
        assertEq(channels.MIN_REPUTATION(), 50);
        assertEq(channels.MAX_REPUTATION(), 100);
        assertEq(channels.BAD_LOCK_PENALTY(), 15);
        assertEq(channels.DOUBLE_RECEIPT_PENALTY(), 30);
    }

    function test_types_AreTheDesigns() external pure {
        assertEq(ChannelHash.OPEN_PERMIT_TYPEHASH, PERMIT_TYPE);
        assertEq(ChannelHash.RECEIPT_TYPEHASH, RECEIPT_TYPE);
        assertEq(ChannelHash.CHECKPOINT_TYPEHASH, CHECKPOINT_TYPE);
        assertEq(ChannelHash.COOPERATIVE_CLOSE_TYPEHASH, CLOSE_TYPE);
    }

    function test_eip712Domain_NamesWhatIsSigned() external view {
        (, string memory name, string memory version, uint256 chainId, address at_,,) = channels.eip712Domain();
        assertEq(name, "Micropay Channel");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(at_, address(channels));
        assertEq(channels.domainSeparator(), _domain(block.chainid));
    }

    /// Rule E1: after a fork of the chain, what was signed for the old one is nothing here.
    function testFuzz_domain_IsRecomputedWhenTheChainIdChanges(uint64 chainId) external {
        chainId = uint64(bound(chainId, 1, type(uint64).max - 1));
        vm.assume(chainId != 31_337);
        IPaymentChannel.OpenPermit memory permit;
        bytes32 digest = channels.permitDigest(permit);
        bytes32 channelId = channels.channelIdOf(client, vendor, SALT);
        vm.chainId(chainId);
        assertEq(channels.domainSeparator(), _domain(chainId));
        assertNotEq(channels.permitDigest(permit), digest);
        assertNotEq(channels.channelIdOf(client, vendor, SALT), channelId);
        vm.chainId(31_337);
        assertEq(channels.permitDigest(permit), digest);
    }

    /// The assembly against the compiler's own encoding, in two parts: one call takes no more arguments.
    function testFuzz_permitDigest_IsEip712(IPaymentChannel.OpenPermit memory p) external view {
        bytes memory first = abi.encode(PERMIT_TYPE, p.channelId, p.client, p.vendor, p.receiptKey, p.asset, p.unit);
        bytes memory rest = abi.encode(p.length, p.anchor, p.clientReputation, p.vendorReputation, p.issuedAt, p.expiry);
        assertEq(channels.permitDigest(p), _digest(keccak256(bytes.concat(first, rest))));
    }

    function testFuzz_receiptDigest_IsEip712(IPaymentChannel.Receipt memory r) external view {
        bytes32 struct_ = keccak256(
            abi.encode(RECEIPT_TYPE, r.channelId, r.index, r.itemHash, r.cumulative, r.issuedAt, r.transcript)
        );
        assertEq(channels.receiptDigest(r), _digest(struct_));
    }

    function testFuzz_checkpointDigest_IsEip712(IPaymentChannel.Checkpoint memory c) external view {
        bytes32 struct_ = keccak256(abi.encode(CHECKPOINT_TYPE, c.channelId, c.index, c.word, c.locksRoot));
        assertEq(channels.checkpointDigest(c), _digest(struct_));
    }

    function testFuzz_cooperativeCloseDigest_IsEip712(IPaymentChannel.CooperativeClose memory c) external view {
        bytes32 struct_ = keccak256(abi.encode(CLOSE_TYPE, c.channelId, c.index));
        assertEq(channels.cooperativeCloseDigest(c), _digest(struct_));
    }

    function testFuzz_channelIdOf_BindsChainContractAndParties(address c, address v, bytes32 salt) external view {
        assertEq(channels.channelIdOf(c, v, salt), keccak256(abi.encode(block.chainid, address(channels), c, v, salt)));
    }

    /// It does not depend on the chain: a deposit must find its way out of a fork.
    function testFuzz_termsHash_IsOfThePermitItsBankAndTag(IPaymentChannel.Terms memory t, uint64 chainId) external {
        bytes32 expected = keccak256(abi.encode(keccak256(abi.encode(PERMIT_TYPE, t.permit)), t.bank, t.tag0));
        assertEq(channels.termsHash(t), expected);
        vm.chainId(bound(chainId, 1, type(uint64).max - 1));
        assertEq(channels.termsHash(t), expected);
    }

    function testFuzz_tag_HashesFourWords(bytes32 id, uint256 index, bytes32 r, bytes32 s) external pure {
        assertEq(ChannelHash.tag(id, index, r, s), keccak256(abi.encode(id, index, r, s)));
    }

    function testFuzz_open_UnmasksBothHalves(bytes32 lockR, bytes32 lockS, bytes32 r, bytes32 s) external pure {
        (bytes32 previousR, bytes32 previousS) = ChannelHash.open(lockR, lockS, r, s);
        bytes memory x = abi.encode(r, s);
        assertEq(previousR, lockR ^ keccak256(bytes.concat(hex"01", x)));
        assertEq(previousS, lockS ^ keccak256(bytes.concat(hex"02", x)));
    }

    // ── the walk and its twin ──

    /// The assembly against plain Solidity, over every way the unrolled rounds and the rest can meet.
    /// forge-config: default.fuzz.runs = 256
    function testFuzz_walk_EqualsItsPlainTwin(bytes32 word, bytes32 id, uint16 steps) external pure {
        steps = uint16(bound(steps, 0, 600));
        assertEq(ChannelHash.walk(word, id, steps), wordOf(id, word, steps, 0));
    }

    function test_walk_EveryShortLength() external pure {
        bytes32 word = keccak256("word");
        bytes32 id = keccak256("id");
        for (uint32 steps; steps <= 40; ++steps) {
            assertEq(ChannelHash.walk(word, id, steps), wordOf(id, word, steps, 0));
        }
    }

    /// It uses the scratch space alone: no memory is allocated or changed.
    function testFuzz_walk_LeavesMemoryAsItWas(bytes32 word, bytes32 id, uint8 steps, bytes32 content) external pure {
        bytes32[] memory before = new bytes32[](1);
        before[0] = content;
        uint256 free;
        assembly ("memory-safe") {
            free := mload(0x40)
        }
        ChannelHash.walk(word, id, steps);
        uint256 free2;
        bytes32 zero;
        assembly ("memory-safe") {
            free2 := mload(0x40)
            zero := mload(0x60)
        }
        assertEq(free2, free);
        assertEq(zero, 0);
        assertEq(before[0], content);
    }

    // ── empty ──

    function testFuzz_views_OfWhatDoesNotExistAreEmpty(IPaymentChannel.Terms memory t, address a, address b)
        external
        view
    {
        IPaymentChannel.Channel memory nothing;
        assertEq(keccak256(abi.encode(channels.channelOf(t))), keccak256(abi.encode(nothing)));
        (uint32 index, bytes28 word) = channels.anchorOf(t);
        assertEq(index, 0);
        assertEq(word, 0);
        (IPaymentChannel.Status status, uint32 settled) = channels.statusOf(t.permit.channelId);
        assertEq(uint256(status), 0);
        assertEq(settled, 0);
        vm.assume(a != bank);
        assertEq(channels.reputationOf(a, b), 0);
        assertEq(channels.creditOf(a, b), 0);
        assertFalse(channels.isOperator(a, b));
    }

    function test_views_OfUnknownTermsOfAChannelAreEmpty() external {
        IPaymentChannel.Terms memory t = openDefault(NATIVE);
        t.tag0 = 0;
        IPaymentChannel.Channel memory nothing;
        assertEq(keccak256(abi.encode(channels.channelOf(t))), keccak256(abi.encode(nothing)));
        (uint32 index, bytes28 word) = channels.anchorOf(t);
        assertEq(index, 0);
        assertEq(word, 0);
    }

    function test_receive_RevertWhen_ValueIsSentWithoutACall() external {
        vm.prank(client);
        (bool ok,) = address(channels).call{value: 1}("");
        assertFalse(ok, "nothing could ever take it out");
    }

    function _domain(uint256 chainId) private view returns (bytes32) {
        return
            keccak256(
                abi.encode(DOMAIN_TYPE, keccak256("Micropay Channel"), keccak256("1"), chainId, address(channels))
            );
    }

    function _digest(bytes32 struct_) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", _domain(block.chainid), struct_));
    }
}
