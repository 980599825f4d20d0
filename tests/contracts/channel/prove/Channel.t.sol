// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelHash} from "contracts/channel/ChannelHash.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice What Halmos proves of the deployed bytecode (`make prove`): for every input within the bounds that a function
/// states, not for many. A `check_` function is no forge test. A call that reverts proves nothing of money and is left out,
/// but where it must revert; that the calls do succeed is what the tests of the steps show.
///
/// A channel in any state is laid into storage by hand, so that one call from anywhere is proven, and with it any number.
contract ChannelProof is Test {
    uint256 private constant CLIENT_KEY = 0xC11E;
    uint256 private constant VENDOR_KEY = 0x5E11;
    uint256 private constant RECEIPT_KEY = 0x5EC;
    address private constant BANK = address(0xBA2C);
    bytes32 private constant ID = keccak256("channel");
    uint64 private constant EXPIRY = 2_000_000_000;
    uint256 private constant FRESH = 1;
    uint256 private constant CLOSED = 3;
    /// @dev Storage: credit, two strings of EIP-712, operators, records, extensions, anchors, reputations, bank keys.
    uint256 private constant RECORDS = 4;
    uint256 private constant REPUTATIONS = 7;

    PaymentChannel private channels;
    address private client;
    address private vendor;
    address private receipts;

    function setUp() public {
        channels = new PaymentChannel();
        client = vm.addr(CLIENT_KEY);
        vendor = vm.addr(VENDOR_KEY);
        receipts = vm.addr(RECEIPT_KEY);
    }

    // ── money ──

    /// Conservation and "paid + refunded = F" of {close}, for any unit, length, settled and proven index.
    function check_close_conserves(uint128 unit, uint32 length, uint32 settled, uint32 index, bytes32 word) public {
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        IPaymentChannel.Proof memory p = _signedProof(index, word);
        IPaymentChannel.LastReceipt memory none;
        vm.warp(EXPIRY);
        vm.prank(vendor);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.close, (t, p, bytes32(0), none)));
        if (!ok) return;
        uint256 closedAt = index > settled ? index : settled;
        assert(closedAt <= length);
        assert(_credit(vendor) == (closedAt - settled) * unit);
        assert(_credit(client) == (length - closedAt) * unit);
        _ended(closedAt);
    }

    /// Of {cooperativeClose}, at any time.
    function check_cooperativeClose_conserves(uint128 unit, uint32 length, uint32 settled, uint32 index, uint64 time)
        public
    {
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        bytes32 digest = channels.cooperativeCloseDigest(IPaymentChannel.CooperativeClose(ID, index));
        IPaymentChannel.Signature memory ofClient = _sign(CLIENT_KEY, digest);
        IPaymentChannel.Signature memory ofVendor = _sign(VENDOR_KEY, digest);
        vm.warp(time);
        vm.prank(vendor);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.cooperativeClose, (t, index, ofClient, ofVendor)));
        if (!ok) return;
        assert(settled <= index && index <= length);
        assert(_credit(vendor) == uint256(index - settled) * unit);
        assert(_credit(client) == uint256(length - index) * unit);
        _ended(index);
    }

    /// Of {refund}; and only after expiry.
    function check_refund_conserves(uint128 unit, uint32 length, uint32 settled, uint64 time) public {
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        vm.warp(time);
        vm.prank(client);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.refund, (t)));
        if (!ok) return;
        assert(time > EXPIRY);
        assert(_credit(vendor) == 0);
        assert(_credit(client) == uint256(length - settled) * unit);
        _ended(settled);
    }

    /// Whatever the index: what both get and what was settled before is the deposit, and nothing overflows. The products are
    /// those that the three functions above are proven to credit. Bounded to units of 16 and lengths of 8 bits: beyond, the
    /// law of distribution takes a solver hours and a reader none.
    function check_split_isTheDeposit(uint16 unit, uint8 length, uint8 settled, uint8 index) public pure {
        vm.assume(settled <= index && index <= length);
        uint256 paid = uint256(index - settled) * unit;
        uint256 refunded = uint256(length - index) * unit;
        assert(paid + refunded + uint256(settled) * unit == uint256(length) * unit);
    }

    /// {checkpoint} pays what it settles, settles upwards, and ends nothing; never after expiry.
    function check_checkpoint_isMonotone(
        uint128 unit,
        uint32 length,
        uint32 settled,
        uint32 index,
        bytes32 word,
        uint64 time
    ) public {
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        IPaymentChannel.Proof memory p = _signedProof(index, word);
        vm.warp(time);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.checkpoint, (t, p)));
        if (!ok) return;
        assert(time <= EXPIRY);
        (IPaymentChannel.Status status, uint32 after_) = channels.statusOf(ID);
        assert(status == IPaymentChannel.Status.OPEN);
        assert(after_ == index && after_ > settled && after_ <= length);
        assert(_credit(vendor) == uint256(index - settled) * unit);
        assert(_credit(client) == 0);
    }

    // ── time ──

    /// {refund} until and including expiry, and {close} after it, are refused whatever else is true.
    function check_refund_notBeforeExpiry(uint128 unit, uint32 length, uint32 settled, uint64 time) public {
        vm.assume(time <= EXPIRY);
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        vm.warp(time);
        vm.prank(client);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.refund, (t)));
        assert(!ok);
    }

    function check_close_notAfterExpiry(uint128 unit, uint32 length, uint32 settled, uint32 index, uint64 time) public {
        vm.assume(time > EXPIRY);
        IPaymentChannel.Terms memory t = _channel(unit, length, settled, FRESH);
        IPaymentChannel.Proof memory p = _signedProof(index, bytes32(0));
        IPaymentChannel.LastReceipt memory none;
        vm.warp(time);
        vm.prank(vendor);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.close, (t, p, bytes32(0), none)));
        assert(!ok);
    }

    // ── the end ──

    /// Of a closed channel nothing pays: no step that moves money succeeds, at any time, from any caller.
    function check_closed_isFinal(uint8 step, uint32 index, address caller, uint64 time, bytes32 word) public {
        IPaymentChannel.Terms memory t = _channel(7, 100, 40, CLOSED);
        IPaymentChannel.Proof memory p = _signedProof(index, word);
        IPaymentChannel.LastReceipt memory none;
        IPaymentChannel.Signature memory nobody;
        bytes memory call;
        if (step == 0) call = abi.encodeCall(channels.checkpoint, (t, p));
        else if (step == 1) call = abi.encodeCall(channels.close, (t, p, bytes32(0), none));
        else if (step == 2) call = abi.encodeCall(channels.cooperativeClose, (t, index, nobody, nobody));
        else if (step == 3) call = abi.encodeCall(channels.refund, (t));
        else call = abi.encodeCall(channels.topUp, (t, t.permit, nobody));
        vm.warp(time);
        vm.prank(caller);
        (bool ok,) = address(channels).call(call);
        assert(!ok);
    }

    // ── who ──

    /// Nobody but the vendor closes (nobody is its operator here), nobody but the client refunds.
    function check_close_onlyVendor_refund_onlyClient(address caller, uint32 index, uint64 time, bool refunds) public {
        vm.assume(caller != (refunds ? client : vendor));
        IPaymentChannel.Terms memory t = _channel(7, 100, 40, FRESH);
        IPaymentChannel.Proof memory p = _signedProof(index, bytes32(0));
        IPaymentChannel.LastReceipt memory none;
        bytes memory call =
            refunds ? abi.encodeCall(channels.refund, (t)) : abi.encodeCall(channels.close, (t, p, bytes32(0), none));
        vm.warp(time);
        vm.prank(caller);
        (bool ok,) = address(channels).call(call);
        assert(!ok);
    }

    // ── reputation ──

    /// The bank cannot set, and a close together cannot raise, a reputation beyond 100.
    function check_reputation_staysInRange(uint8 ofClient, uint8 ofVendor, uint8 set, address customer) public {
        vm.assume(ofClient <= 100 && ofVendor <= 100);
        IPaymentChannel.Terms memory t = _channel(7, 100, 40, FRESH);
        _reputation(client, ofClient);
        _reputation(vendor, ofVendor);
        bytes32 digest = channels.cooperativeCloseDigest(IPaymentChannel.CooperativeClose(ID, 50));
        IPaymentChannel.Signature memory byClient = _sign(CLIENT_KEY, digest);
        IPaymentChannel.Signature memory byVendor = _sign(VENDOR_KEY, digest);
        vm.prank(client);
        (bool ok,) = address(channels).call(abi.encodeCall(channels.cooperativeClose, (t, 50, byClient, byVendor)));
        if (ok) {
            assert(channels.reputationOf(BANK, client) == (ofClient == 100 ? 100 : ofClient + 1));
            assert(channels.reputationOf(BANK, vendor) == (ofVendor == 100 ? 100 : ofVendor + 1));
        }
        vm.prank(BANK);
        (ok,) = address(channels).call(abi.encodeCall(channels.setReputation, (customer, set)));
        assert(ok == (set <= 100));
    }

    /// Two receipts lower by 30, to no less than 0, once; and move no money.
    function check_doubleReceipt_lowersOnce(uint8 reputation, bytes32 itemA, bytes32 itemB) public {
        vm.assume(reputation <= 100);
        IPaymentChannel.Terms memory t = _channel(7, 100, 40, FRESH);
        _reputation(client, reputation);
        IPaymentChannel.Receipt memory a = IPaymentChannel.Receipt(ID, 3, itemA, 21, 0, 0);
        IPaymentChannel.Receipt memory b = IPaymentChannel.Receipt(ID, 3, itemB, 21, 0, 0);
        IPaymentChannel.Signature memory ofA = _sign(RECEIPT_KEY, channels.receiptDigest(a));
        IPaymentChannel.Signature memory ofB = _sign(RECEIPT_KEY, channels.receiptDigest(b));
        bytes memory call = abi.encodeCall(channels.proveDoubleReceipt, (t, a, ofA, b, ofB));
        (bool ok,) = address(channels).call(call);
        if (!ok) return;
        assert(itemA != itemB);
        assert(channels.reputationOf(BANK, client) == (reputation > 30 ? reputation - 30 : 0));
        assert(_credit(client) == 0 && _credit(vendor) == 0);
        (ok,) = address(channels).call(call);
        assert(!ok);
    }

    // ── the walk ──

    /// The assembly equals its plain twin for every word and id, over the rest (0 to 7 steps) and one unrolled round.
    function check_walk_equalsItsTwin(bytes32 word, bytes32 id) public pure {
        bytes32 plain = word;
        for (uint256 steps; steps <= 9; ++steps) {
            assert(ChannelHash.walk(word, id, steps) == plain);
            plain = keccak256(abi.encode(plain, id));
        }
    }

    // ── states ──

    /// @dev A channel with these numbers, in any state that the contract can bring it into.
    function _channel(uint128 unit, uint32 length, uint32 settled, uint256 phase)
        private
        returns (IPaymentChannel.Terms memory t)
    {
        vm.assume(unit != 0 && length != 0 && length <= 1 << 20 && settled <= length);
        t.permit.channelId = ID;
        t.permit.client = client;
        t.permit.vendor = vendor;
        t.permit.receiptKey = receipts;
        t.permit.unit = unit;
        t.permit.length = length;
        t.permit.expiry = EXPIRY;
        t.bank = BANK;
        bytes32 hash = channels.termsHash(t);
        vm.store(
            address(channels),
            keccak256(abi.encode(ID, RECORDS)),
            bytes32((uint256(hash) >> 32) | (uint256(settled) << 224) | (phase << 248))
        );
    }

    function _reputation(address customer, uint8 value) private {
        bytes32 slot = keccak256(abi.encode(customer, keccak256(abi.encode(BANK, REPUTATIONS))));
        vm.store(address(channels), slot, bytes32(uint256(value)));
        assert(channels.reputationOf(BANK, customer) == value);
    }

    /// @dev A proof at a checkpoint that the receipt key signed: any index, no walk.
    function _signedProof(uint32 index, bytes32 word) private view returns (IPaymentChannel.Proof memory p) {
        vm.assume(index != 0);
        (p.index, p.signedIndex, p.word, p.signedWord) = (index, index, word, word);
        p.signature =
            _sign(RECEIPT_KEY, channels.checkpointDigest(IPaymentChannel.Checkpoint(ID, index, word, bytes32(0))));
    }

    function _sign(uint256 key, bytes32 digest) private pure returns (IPaymentChannel.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return IPaymentChannel.Signature(r, s, v);
    }

    function _credit(address account) private view returns (uint256) {
        return channels.creditOf(address(0), account);
    }

    function _ended(uint256 settled) private view {
        (IPaymentChannel.Status status, uint32 at_) = channels.statusOf(ID);
        assert(status == IPaymentChannel.Status.CLOSED && at_ == settled);
    }
}
