"""
The accounts as a relay sees them: who may have a name, who owns it, what was revoked.

Authentication is `twisted.cred`'s: a portal, by default with the checker of
`chatrelay.accounts.authentication`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from chatrelay.accounts import secrets
from chatrelay.accounts.authentication import (
    AccountChecker,
    NameClaim,
    NameRealm,
    Prover,
    Store,
    look_up,
)
from chatrelay.claims import Claim, Decided, Grant, IGrant, Registration, Revoked
from chatrelay.errors import BadSecret, Busy, NameOwned, NotAllowed, Refusal, StoreFailed
from chatrelay.limits import Limits
from chatrelay.names import Name
from chatrelay.networks import network_of
from chatrelay.secret import check_secret, is_token
from chatrelay.store.accounts import Account, Accounts, Found, Revocation

T = TypeVar("T")

_FULL = "There are as many registered names as there may be."
_HAS_NONE = "Nobody registered this name: /register SECRET does it."
_OLD_NEEDED = "This name has a secret: write /register NEW OLD."
_NO_TOKEN = "A token does not serve as the old secret: write the secret itself."  # noqa: S105
_PRUNE_INTERVAL_S = 3600.0

_log = Logger(namespace="chatrelay")


class AccountClaims:
    """
    Decides by the accounts in a store.

    :ivar portal: what decides on claims; another `twisted.cred` checker than ours is
        registered here.
    """

    def __init__(
        self,
        store: Store,
        prover: Prover,
        *,
        limits: Limits,
        wall_clock: Callable[[], float],
        call_later: Callable[[Callable[[], None]], object],
        is_owned: Callable[[bytes], bool],
        revision: int,
    ) -> None:
        """
        Decide from now on.

        :param limits: how many names may be registered.
        :param wall_clock: seconds since the epoch.
        :param call_later: calls in the reactor's next turn.
        :param is_owned: whether a name had an account when that was last looked at.
        :param revision: the last revocation when that was looked at for the first time.
        """
        self._is_owned = is_owned
        self.portal = Portal(NameRealm(), [AccountChecker(store, prover, wall_clock)])
        self._store = store
        self._prover = prover
        self._limits = limits
        self._wall_clock = wall_clock
        self._revision = revision
        self._is_polling = False
        self._claims: list[tuple[Claim, Decided[Grant]]] = []
        self._free = Grant(is_proven=False, revision=0)
        self._call_later = call_later
        self._is_looking = False
        self._pruned_s = 0.0

    def decide(self, claim: Claim, decided: Decided[Grant]) -> None:
        """
        Decide by the portal, if the name is owned or a secret was shown.

        A name that nobody owns, as far as is known here, is granted at once; if somebody else has
        made an account of it since the last look, that takes it away with the next one.  All
        other claims that come in one turn are looked up by one job of the store: in a burst its
        thread would take longer to be woken for each than to look.
        """
        if claim.secret is None and not self._is_owned(claim.name.key):
            decided(self._granted_free(self._revision))
            return
        self._claims.append((claim, decided))
        if not self._is_looking:
            self._is_looking = True
            self._call_later(self._look)

    def _look(self) -> None:
        asked, self._claims = self._claims, []

        def over(result: T) -> T:
            if self._claims:
                self._look()
            else:
                self._is_looking = False
            return result

        def looked(found: list[Found | int]) -> None:
            for (claim, decided), what in zip(asked, found, strict=True):
                if isinstance(what, Found):
                    _tell(self._log_in(claim, what), claim.name, decided)
                    continue
                try:
                    decided(self._granted_free(what))
                except Exception:  # The claims behind it are others' and wait, too.
                    _log.failure("a decision failed")

        def failed(failure: Failure) -> None:
            for claim, decided in asked:
                _tell(fail(failure), claim.name, decided)

        claims = [claim for claim, _ in asked]
        looking = self._store.read(partial(_look_up_all, claims, self._wall_clock()))
        looking.addBoth(over).addCallbacks(looked, failed)
        looking.addErrback(lambda failure: _log.failure("a decision failed", failure))

    def _log_in(self, claim: Claim, found: Found) -> Deferred[Grant]:
        def with_account(grant: Grant) -> Grant:
            # Whoever checks, the log is that of the name's account.
            if grant.is_proven and found.account is not None:
                return grant._replace(account=found.account.number)
            return grant

        login = self.portal.login(NameClaim(claim, found), None, IGrant)
        return login.addCallback(_granted).addCallback(with_account)

    def confirm(self, name: Name, grant: Grant, decided: Decided[Grant]) -> None:
        """Look again if something was revoked since: that was told before this one has the name."""
        if self._revision <= grant.revision:
            decided(grant)
            return

        def unless(is_revoked: bool) -> Grant:
            if is_revoked:
                raise BadSecret(name.shown)
            return grant

        looking = self._store.read(lambda accounts: accounts.is_revoked(name.key, grant.revision))
        _tell(looking.addCallback(unless), name, decided)

    def _granted_free(self, revision: int) -> Grant:
        # One object for thousands of clients.
        if self._free.revision != revision:
            self._free = Grant(is_proven=False, revision=revision)
        return self._free

    def register(self, registration: Registration, decided: Decided[Grant]) -> None:
        """Make an account, or give it another secret; tokens of the old one are void."""
        _tell(ensureDeferred(self._register(registration)), registration.name, decided)

    def issue_token(self, name: Name, grant: Grant, decided: Decided[bytes]) -> None:
        """Make a token, of which only the hash is kept."""
        token = secrets.make_token()
        token_hash = secrets.token_hash(token)
        job = partial(_add_token, name.key, grant, token_hash, self._wall_clock())

        def made(is_made: bool) -> bytes:
            if not is_made:
                raise BadSecret(name.shown)
            return token

        _tell(self._store.write(job).addCallback(made), name, decided)

    def tick(self, revoked: Revoked) -> None:
        """Look for what the accounts tool, or somebody else's registration, has revoked."""
        if self._is_polling:
            return
        self._is_polling = True

        def found(revocations: list[Revocation]) -> None:
            self._is_polling = False
            for revocation in revocations:
                self._revision = revocation.sequence
                revoked(revocation.key, revocation.sequence)

        revision = self._revision
        polled = self._store.read(lambda accounts: accounts.revocations_after(revision))
        polled.addCallback(found).addErrback(self._could_not_poll)
        self._prune()

    def _could_not_poll(self, failure: Failure) -> None:
        self._is_polling = False
        # The store has logged it; the next second is another attempt.
        if not failure.check(Refusal):
            _log.failure("revoking failed", failure)

    def _prune(self) -> None:
        now_s = self._wall_clock()
        if abs(now_s - self._pruned_s) >= _PRUNE_INTERVAL_S:
            self._pruned_s = now_s
            pruned = self._store.write(lambda accounts: accounts.prune(now_s))
            pruned.addErrback(lambda failure: failure.trap(Refusal))

    async def _register(self, registration: Registration) -> Grant:
        name, host = registration.name, registration.host
        problem = check_secret(registration.secret)
        if problem is not None:
            raise BadSecret(name.shown, sentence=problem)
        network = network_of(host)
        now_s = self._wall_clock()
        found = await self._store.read(
            lambda accounts: accounts.look_up(name.key, network, None, now_s)
        )
        if found.account is None:
            if registration.old_secret is not None:
                raise BadSecret(name.shown, sentence=_HAS_NONE)
            secret_hash = await self._prover.hash(
                name,
                host,
                registration.is_wanted,
                partial(secrets.hash_secret, registration.secret),
            )
            job = partial(
                _add,
                name,
                registration.grant,
                secret_hash,
                network,
                self._wall_clock(),
                self._limits.max_accounts,
            )
        else:
            secret_hash = await self._change(registration, found.account, found)
            job = partial(_change, found.account, secret_hash, network, self._wall_clock())
        if not registration.is_wanted():
            raise Busy
        grant = await self._store.write(job)
        if isinstance(grant, Refusal):
            raise grant
        return grant

    async def _change(self, registration: Registration, account: Account, found: Found) -> str:
        name, old_secret = registration.name, registration.old_secret
        if old_secret is None:
            raise BadSecret(name.shown, sentence=_OLD_NEEDED)
        if is_token(old_secret):
            raise BadSecret(name.shown, sentence=_NO_TOKEN)
        if account.is_disabled or check_secret(old_secret) is not None:
            raise BadSecret(name.shown)

        def check() -> str | None:
            if not secrets.is_right(account.secret_hash, old_secret):
                return None
            return secrets.hash_secret(registration.secret)

        return await self._prover.prove(
            name, found, registration.host, registration.is_wanted, check
        )


def _look_up_all(claims: list[Claim], now_s: float, accounts: Accounts) -> list[Found | int]:
    """For each what there is about it; of a free name without a secret, the revision alone."""
    owned = accounts.owned([claim.name.key for claim in claims if claim.secret is None])
    revision = accounts.last_revocation()
    return [
        revision
        if claim.secret is None and claim.name.key not in owned
        else look_up(claim, now_s, accounts)
        for claim in claims
    ]


def _granted(login: tuple[type[Interface], object, Callable[[], None]]) -> Grant:
    _, grant, _ = login
    if not isinstance(grant, Grant):
        raise TypeError("a realm of names grants a Grant")
    return grant


def _add(
    name: Name,
    grant: Grant,
    secret_hash: str,
    network: str,
    now_s: float,
    max_accounts: int,
    accounts: Accounts,
) -> Grant | Refusal:
    if grant.is_proven and accounts.is_revoked(name.key, grant.revision):
        # Its account was removed, which is not for its owner to undo.
        return BadSecret(name.shown)
    if accounts.count() >= max_accounts:
        return NotAllowed(sentence=_FULL)
    # Two may want it in the same moment: one of them at another relay's, or the tool's.
    if not accounts.add(name, secret_hash, now_s):
        return NameOwned(name.shown)
    account = accounts.find(name.key)
    assert account is not None, "it was added"  # noqa: S101
    accounts.note_success(account.number, network, now_s)
    return Grant(is_proven=True, revision=accounts.last_revocation(), account=account.number)


def _change(
    account: Account, secret_hash: str, network: str, now_s: float, accounts: Accounts
) -> Grant | Refusal:
    now = accounts.find(account.key)
    is_same = now is not None and (now.number, now.secret_hash, now.is_disabled) == (
        account.number,
        account.secret_hash,
        False,
    )
    if not is_same:
        return BadSecret(account.shown)
    accounts.set_secret(account.number, secret_hash, now_s)
    accounts.note_success(account.number, network, now_s)
    return Grant(is_proven=True, revision=accounts.last_revocation(), account=account.number)


def _add_token(
    key: bytes, grant: Grant, token_hash: bytes, now_s: float, accounts: Accounts
) -> bool:
    account = accounts.find(key)
    # Who holds the name by what was revoked holds it until that is seen, and gets nothing more.
    if account is None or account.is_disabled or accounts.is_revoked(key, grant.revision):
        return False
    accounts.add_token(account.number, token_hash, now_s)
    return True


def _tell(deciding: Deferred[T], name: Name, decided: Decided[T]) -> None:
    def failed(failure: Failure) -> None:
        if failure.check(Refusal):
            decided(failure.value)  # type: ignore[arg-type]  # it was checked
        elif failure.check(UnauthorizedLogin):
            decided(BadSecret(name.shown))
        else:
            _log.failure("the accounts failed", failure)
            decided(StoreFailed(sentence="The relay failed to look this up; try again later."))

    deciding.addCallbacks(decided, failed)
    deciding.addErrback(lambda failure: _log.failure("a decision failed", failure))
