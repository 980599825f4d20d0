// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// What the design's own rules allow, each on a small model of that rule, and that ours does not.

import {OfflineFixture} from "../OfflineFixture.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice The rule of design/offline.md §0.1 for one coin: any fragment is redeemed by its path, once, while the coin lasts.
/// (That hops are signed is taken for granted: no component is broken in the attack.)
contract DesignsRedeem {
    uint256 public left;
    mapping(bytes32 fragment => bool) private _redeemed;

    constructor(uint256 amount) {
        left = amount;
    }

    function redeem(bytes32 fragment, uint256 value) external {
        require(!_redeemed[fragment] && value <= left, "no");
        _redeemed[fragment] = true;
        left -= value;
    }
}

/// @notice The rule of the decision D2 for one coin: an exit is paid once for each sequence of its wallet, while the coin lasts.
contract SequenceRedeem {
    uint256 public left;
    mapping(bytes32 wallet => mapping(uint256 sequence => bool)) private _paid;

    constructor(uint256 amount) {
        left = amount;
    }

    function redeem(bytes32 wallet, uint256 sequence, uint256 value) external {
        require(!_paid[wallet][sequence] && value <= left, "no");
        _paid[wallet][sequence] = true;
        left -= value;
    }
}

contract AttackTest is OfflineFixture {
    /// D1. B pays its fragment to C offline and has it redeemed on chain as well: no component is broken, and C has nothing.
    function test_attack_redeem_then_spend_offline() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory ofB = pay(begin(coin), B, AMOUNT);
        Trip memory ofC = pay(ofB, C, AMOUNT);

        DesignsRedeem model = new DesignsRedeem(AMOUNT);
        model.redeem(ofB.input, AMOUNT); // by B's owner, or by anyone who saw the path
        vm.expectRevert(bytes("no"));
        model.redeem(ofC.input, AMOUNT); // C accepted good money

        // Ours: a path that does not end in an exit pays nobody, and B's wallet, which spent its fragment, signs none.
        refused(ofB.path, IOfflineVault.NotAnExit.selector, 0, ofB.path.hops.length);
        vault.redeem(exit(ofC).path);
        assertEq(creditOf(C), AMOUNT);
    }

    /// D2. A hundredth of a coin, double-spent a hundred times by who broke one component, would empty it: of the wallets on
    /// the other payees' paths none is broken, so nobody would owe them anything either.
    function test_attack_leaked_key_of_a_small_payee_empties_the_coin() external eachAsset {
        Coin memory coin = depositOf(A, 1000);
        (Trip memory small, Trip memory rest) = bothParts(begin(coin), D, 10);
        Trip memory honest = pay(rest, B, 900);

        SequenceRedeem model = new SequenceRedeem(1000);
        for (uint256 i = 1; i <= 100; ++i) {
            model.redeem(devices[D].id, i, 10);
        }
        vm.expectRevert(bytes("no"));
        model.redeem(devices[B].id, 1, 900);

        // Ours: every spend of D's fragment is in D's part of the coin.
        vault.redeem(exit(small).path);
        for (uint256 i; i < 10; ++i) {
            Trip memory again = exit(small);
            refused(again.path, IOfflineVault.NotFree.selector, 1000, 990);
            again = exit(pay(small, E, 5));
            vm.expectPartialRevert(IOfflineVault.NotFree.selector);
            vault.redeem(again.path);
        }
        vault.redeem(exit(honest).path);
        vault.redeem(exit(change(rest, B, 900)).path); // a clone of A, now, with what A kept
        assertEq(creditOf(B), 900);
        assertEq(creditOf(D), 10);
        assertEq(creditOf(A), 90);
    }

    /// `vault_never_pays_more_than_coin`: whatever a leaked key signs, in whatever order it comes.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_attack_vault_never_pays_more_than_coin(uint256 seed) external eachAsset {
        Coin memory bystander = depositOf(C, AMOUNT);
        Coin memory coin = depositOf(A, 1000);
        (Trip memory leaked, Trip memory rest) = bothParts(begin(coin), D, 300); // [700, 1000)
        Trip memory honest = pay(rest, B, 500); // [200, 700)
        uint256 paid;
        for (uint256 i; i < 12; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            Trip memory t = leaked;
            // D's key signs what it likes, to itself and to an accomplice.
            for (uint256 hop; hop < seed % 4 && t.payer == D; ++hop) {
                uint128 amount = uint128((seed >> (16 * hop + 8)) % t.value) + 1;
                t = (seed >> (200 + hop)) % 2 == 0 || amount == t.value ? pay(t, E, amount) : change(t, E, amount);
            }
            uint256 value = t.value;
            try vault.redeem(exit(t).path) {
                paid += value;
            } catch {}
        }
        assertLe(paid, 300, "no more than the key held");
        assertEq(leftOf(coin), 1000 - paid, "vault never pays more than a coin");
        vault.redeem(exit(honest).path);
        assertEq(creditOf(B), 500, "others are untouched by a leaked key");
        vault.redeem(exit(begin(bystander)).path);
        assertEq(creditOf(C), AMOUNT);
    }

    /// Any other vault, and the same one on another chain, has other coins and another domain (O-16).
    function test_attack_replay_to_another_vault_or_chain() external {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = exit(begin(coin));
        IOfflineVault first = vault;
        vault = IOfflineVault(deployCode("OfflineVault.sol:OfflineVault"));
        for (uint256 w; w < 2; ++w) {
            devices[w].sequence = 0;
            register(w);
        }
        depositOf(A, AMOUNT); // the same wallet, amount and nonce
        vm.expectPartialRevert(IOfflineVault.BadSignature.selector);
        vault.redeem(t.path);
        vm.chainId(block.chainid + 1);
        vm.expectPartialRevert(IOfflineVault.UnknownCoin.selector);
        first.redeem(t.path);
    }

    /// O-1. A wallet's files are set back, and it pays again: of another coin, so that nothing stands in the way of either exit.
    /// Both payees are paid, and the two transfers with one sequence prove the rollback as soon as both reach the chain.
    function test_attack_rollback_snapshot_detected_on_settlement() external eachAsset {
        Coin memory coin = depositOf(A, AMOUNT);
        Coin memory second = depositOf(A, AMOUNT);
        Device memory snapshot = imageOf(A);
        Trip memory one = pay(begin(coin), B, AMOUNT);
        restore(A, snapshot);
        Trip memory other = pay(begin(second), C, AMOUNT);
        vault.redeem(exit(one).path);
        vault.redeem(exit(other).path);
        assertEq(creditOf(B) + creditOf(C), 2 * AMOUNT, "no payee loses by a rollback alone");
        equivocate(A, one.last, other.last);
        IOfflineVault.Wallet memory w = vault.walletOf(devices[A].id);
        assertTrue(w.equivocated);
        assertEq(w.revokedAt, 0, "that is its registrar's");
    }

    // ── P-256 pitfalls ──

    /// (r, s) out of range, zero, high; keys off the curve, at the origin, beyond the field: none verifies, with the
    /// precompile and without.
    function test_attack_p256_pitfalls() external {
        _pitfalls();
    }

    /// forge-config: default.evm_version = "prague"
    function test_attack_p256_pitfalls_without_the_precompile() external {
        _withoutPrecompile();
        _pitfalls();
    }

    function _pitfalls() private {
        IOfflineVault.Transfer memory one = pay(begin(depositOf(A, AMOUNT)), B, 1).last;
        bytes32 digest = transferDigest(one);
        IOfflineVault.Signature memory good = sign(A, digest);
        bytes32 n = bytes32(N);
        bytes32[2][10] memory bad = [
            [bytes32(0), good.s],
            [good.r, bytes32(0)],
            [bytes32(0), bytes32(0)],
            [n, good.s],
            [good.r, n],
            [good.r, bytes32(N - uint256(good.s))],
            [bytes32(uint256(n) + 1), good.s],
            [bytes32(type(uint256).max), good.s],
            [good.r, bytes32(type(uint256).max)],
            [good.s, good.r]
        ];
        for (uint256 i; i < bad.length; ++i) {
            _bad(one, IOfflineVault.Signature(bad[i][0], bad[i][1]), digest);
        }
        // r plus the order, where that still fits: the same residue, and no signature.
        if (uint256(good.r) < type(uint256).max - N) {
            _bad(one, IOfflineVault.Signature(bytes32(uint256(good.r) + N), good.s), digest);
        }
    }

    function _bad(IOfflineVault.Transfer memory one, IOfflineVault.Signature memory s, bytes32 digest) private {
        IOfflineVault.Transfer memory other = abi.decode(abi.encode(one), (IOfflineVault.Transfer));
        other.amount += 1;
        IOfflineVault.Signature memory second = sign(A, transferDigest(other));
        IOfflineVault.Key memory key = devices[A].key;
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.BadSignature.selector, digest, devices[A].id));
        vault.proveEquivocation(key, one, s, other, second);
    }

    /// A key that is no point of the curve is nobody's, though its hash is an id like any other.
    function test_attack_p256_invalid_keys_are_never_registered() external {
        _noKeys();
    }

    /// forge-config: default.evm_version = "prague"
    function test_attack_p256_invalid_keys_are_never_registered_without_the_precompile() external {
        _withoutPrecompile();
        _noKeys();
    }

    function _noKeys() private {
        IOfflineVault.Key memory a = devices[A].key;
        _noKey(IOfflineVault.Key(0, 0));
        _noKey(IOfflineVault.Key(a.x, bytes32(uint256(a.y) ^ 1)));
        _noKey(IOfflineVault.Key(a.y, a.x));
        _noKey(IOfflineVault.Key(bytes32(P256.P), a.y));
        // A point of the field plus its size: the same residue.
        _noKey(IOfflineVault.Key(bytes32(type(uint256).max), bytes32(type(uint256).max)));
    }

    function _noKey(IOfflineVault.Key memory key) private {
        IOfflineVault.Registration memory r = registrationOf(A);
        r.wallet = vault.walletIdOf(key);
        IOfflineVault.RegistrarSignature memory vouched = vouch(r);
        bytes32 digest = vault.registrationDigest(r);
        IOfflineVault.Signature memory any = sign(A, digest);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.BadSignature.selector, digest, r.wallet));
        vm.prank(r.owner);
        vault.register(r, key, registrar, vouched, any);
    }

    /// Without the precompile: the same verdicts, by Solidity.
    /// forge-config: default.evm_version = "prague"
    function test_p256_SameVerdictsWithoutThePrecompile() external {
        Coin memory coin = depositOf(A, AMOUNT);
        Trip memory t = exit(pay(pay(begin(coin), T, AMOUNT), B, 77));
        bytes memory whole = t.path.hops;
        _withoutPrecompile();
        uint256[3] memory places = [uint256(64 + 49 + 48 + 64 + 3), t.evidenceAt + 5, t.evidenceAt + 40];
        for (uint256 i; i < 3; ++i) {
            t.path.hops = bytes.concat(whole);
            t.path.hops[places[i]] ^= 0x20;
            vm.expectPartialRevert(IOfflineVault.BadSignature.selector);
            vault.redeem(t.path);
        }
        t.path.hops = whole;
        vault.redeem(t.path);
        assertEq(creditOf(B), 77);
        register(addDevice("later", true));
    }

    /// @dev The rules before EIP-7951: address 0x100 answers nothing, and success.
    function _withoutPrecompile() private view {
        // A signature that Wycheproof has: valid, were anyone there to say so.
        (bool ok, bytes memory answer) = address(0x100)
            .staticcall(
                abi.encode(
                    0xbb5a52f42f9c9261ed4361f59422a1e30036e7c32b270c8807a419feca605023,
                    5,
                    1,
                    0xa71af64de5126a4a4e02b7922d66ce9415ce88a4c9d25514d91082c8725ac957,
                    0x5d47723c8fbe580bb369fec9c2665d8e30a435b9932645482e7c9f11e872296b
                )
            );
        assertTrue(ok);
        assertEq(answer.length, 0, "there is no precompile");
    }
}
