"""
Whether a client may have a name that is owned: a `twisted.cred` checker on the store.

The accounts are read at each claim, so that what the accounts tool does is true at once.
Whoever is checked against a hash waits for `chatrelay.accounts.hashing`, behind the bounds of
`chatrelay.accounts.guessing` (docs/security.rst).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Protocol, TypeVar

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from zope.interface import Attribute, Interface, implementer

from chatrelay.accounts import secrets
from chatrelay.accounts.guessing import Guesses, accounts_of
from chatrelay.accounts.hashing import HashQueue, Work
from chatrelay.claims import ONE_WORD, Claim, Grant, IGrant
from chatrelay.console import Console
from chatrelay.errors import BadSecret, Busy, NameOwned, RateLimited, Refusal
from chatrelay.limits import Limits
from chatrelay.names import Name
from chatrelay.networks import network_of
from chatrelay.secret import check_secret, is_token
from chatrelay.store.accounts import Account, Accounts, Found, TokenUse

T = TypeVar("T")


class Store(Protocol):
    """Where the accounts are: `chatrelay.store.thread.StoreThread`."""

    def read(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """Have a job read, in its turn; fires with what it returns, or fails."""

    def write(self, job: Callable[[Accounts], T]) -> Deferred[T]:
        """Have a job write, in its turn; fires once that is committed, or fails."""


def look_up(claim: Claim, now_s: float, accounts: Accounts) -> Found:
    """Read what a claim is decided by; a job of the store."""
    secret = claim.secret
    token_hash = secrets.token_hash(secret) if secret is not None and is_token(secret) else None
    return accounts.look_up(claim.name.key, network_of(claim.host), token_hash, now_s)


def _still_there(account: Account, accounts: Accounts) -> int | None:
    now = accounts.find(account.key)
    is_same = now is not None and (now.number, now.secret_hash, now.is_disabled) == (
        account.number,
        account.secret_hash,
        False,
    )
    return accounts.last_revocation() if is_same else None


class Prover:
    """Checks secrets against hashes, as often as the bounds of a relay allow."""

    def __init__(
        self,
        hashes: HashQueue[object],
        limits: Limits,
        seconds: Callable[[], float],
        console: Console,
    ) -> None:
        """
        Begin with nobody having guessed.

        :param seconds: a clock that never jumps.
        :param console: told of wrong secrets.
        """
        self._hashes = hashes
        self._guesses = Guesses(limits)
        self._seconds = seconds
        self._console = console

    async def prove(
        self,
        name: Name,
        found: Found,
        host: str,
        is_wanted: Callable[[], bool],
        check: Callable[[], T | None],
    ) -> T:
        """
        Do slowly what needs the secret of an account.

        :param check: run in a thread; ``None`` says that the secret is wrong.
        :returns: what `check` returned.
        :raises BadSecret: it was wrong.
        :raises RateLimited: too many were wrong before; it was not tried.
        :raises Busy: too many wait.
        """
        network = network_of(host)
        counts = accounts_of(network, name.key, is_known=found.is_known)

        def may_try() -> None:
            wait_s = self._guesses.wait_s(counts, self._seconds())
            if wait_s > 0:
                sentence = f"Too many secrets were wrong; try again in {ceil(wait_s)} s."
                raise RateLimited(name.shown, sentence=sentence)

        may_try()
        checked = await self.hash(name, host, is_wanted, check, may_try, is_known=found.is_known)
        if checked is None:
            self._guesses.wrong(counts, self._seconds())
            self._console.wrong_secret(name.shown, host)
            raise BadSecret(name.shown)
        self._guesses.right(network, name.key)
        return checked

    def hash(
        self,
        name: Name,
        host: str,
        is_wanted: Callable[[], bool],
        work: Callable[[], T],
        may_go_on: Callable[[], None] = lambda: None,
        *,
        is_known: bool = False,
    ) -> Deferred[T]:
        """
        Do something slow in its turn.

        :param is_wanted: asked when its turn comes.
        :param work: run in a thread.
        :returns: fires with what `work` returns.  Fails with `Busy`, with what `may_go_on`
            or `work` raises.
        """
        answer: Deferred[T] = Deferred()

        def check() -> None:
            if not is_wanted():
                raise Busy
            may_go_on()

        def done(result: object) -> None:
            # A thread hands on whatever was raised there; none of it is a right secret.
            if isinstance(result, BaseException):
                answer.errback(result)
            else:
                answer.callback(result)  # type: ignore[arg-type]  # it is what `work` returned

        self._hashes.add(Work(network_of(host), name.key, is_known, check, work, done))
        return answer


class INameClaim(ICredentials):
    """Credentials: a claim of a name."""

    claim = Attribute("The `chatrelay.claims.Claim`.")
    found = Attribute("What the store has about it, if that was looked up already, or ``None``.")


@implementer(INameClaim)
class NameClaim:
    """
    The credentials that a claim is.

    :ivar claim: the claim.
    :ivar found: what the store has about it, if that was looked up already.
    """

    def __init__(self, claim: Claim, found: Found | None = None) -> None:
        self.claim = claim
        self.found = found


@implementer(ICredentialsChecker)
class AccountChecker:
    """Decides on claims of names by the accounts in a store."""

    credentialInterfaces = (INameClaim,)  # noqa: N815 - Twisted's name

    def __init__(self, store: Store, prover: Prover, wall_clock: Callable[[], float]) -> None:
        """
        Check against the accounts of a store.

        :param wall_clock: seconds since the epoch.
        """
        self._store = store
        self._prover = prover
        self._wall_clock = wall_clock

    def requestAvatarId(  # type: ignore[override]  # our ids are no bytes
        self,
        credentials: NameClaim,
    ) -> Deferred[Grant]:
        """
        Decide on one claim.

        :returns: fires with what the name is granted on, also for a name that nobody owns.
            Fails with the refusal.
        """
        claim, found = credentials.claim, credentials.found
        if found is None or (claim.secret is not None and not is_token(claim.secret)):
            return ensureDeferred(self._check(claim, found))
        try:
            return succeed(self._judge(claim, found))
        except Refusal as refusal:
            return fail(refusal)

    async def _check(self, claim: Claim, found: Found | None) -> Grant:
        if found is None:
            found = await self._store.read(partial(look_up, claim, self._wall_clock()))
        account = found.account
        if account is None or claim.secret is None or is_token(claim.secret):
            return self._judge(claim, found)
        self._check_enabled(account)
        return await self._check_secret(claim, claim.secret, account, found)

    def _judge(self, claim: Claim, found: Found) -> Grant:
        """Decide what needs no hashing: no secret, a token, a name without an account."""
        name, secret, account = claim.name, claim.secret, found.account
        if account is None:
            if secret is not None:
                raise BadSecret(name.shown, sentence=ONE_WORD)
            return Grant(is_proven=False, revision=found.revision)
        if secret is None:
            raise NameOwned(name.shown)
        self._check_enabled(account)
        return self._check_token(claim, account, secrets.token_hash(secret), found)

    @staticmethod
    def _check_enabled(account: Account) -> None:
        if account.is_disabled:
            raise BadSecret(account.shown, sentence="The account of this name is disabled.")

    def _check_token(
        self, claim: Claim, account: Account, token_hash: bytes, found: Found
    ) -> Grant:
        if found.token_use is TokenUse.UNKNOWN:
            sentence = "This token was revoked, or not used for 30 days."
            raise BadSecret(claim.name.shown, sentence=sentence)
        if found.token_use is TokenUse.GOOD_TO_NOTE:
            network = network_of(claim.host)

            def note(accounts: Accounts) -> None:
                now_s = self._wall_clock()
                accounts.note_token_use(account.number, token_hash, now_s)
                accounts.note_success(account.number, network, now_s)

            self._note(note)
        return Grant(is_proven=True, revision=found.revision)

    async def _check_secret(
        self, claim: Claim, secret: bytes, account: Account, found: Found
    ) -> Grant:
        if check_secret(secret) is not None:
            raise BadSecret(claim.name.shown)

        def check() -> bool | None:
            return secrets.is_right(account.secret_hash, secret) or None

        await self._prover.prove(claim.name, found, claim.host, claim.is_wanted, check)
        # It took time, in which the account may have been disabled, removed or reset.
        revision = await self._store.read(partial(_still_there, account))
        if revision is None:
            raise BadSecret(claim.name.shown)
        network = network_of(claim.host)
        self._note(
            lambda accounts: accounts.note_success(account.number, network, self._wall_clock())
        )
        return Grant(is_proven=True, revision=revision)

    def _note(self, job: Callable[[Accounts], None]) -> None:
        # Nobody waits for it, and who has shown his secret is not turned away because it
        # can not be written down; the store has logged why.
        self._store.write(job).addErrback(lambda failure: failure.trap(Refusal))


@implementer(IRealm)
class NameRealm:
    """The realm of names: an avatar is what its name was granted on."""

    def requestAvatar(  # type: ignore[override]
        self,
        avatarId: Grant,  # noqa: N803 - likewise
        mind: object,  # noqa: ARG002 - a grant has no use for it
        *interfaces: type[Interface],
    ) -> tuple[type[Interface], Grant, Callable[[], None]]:
        """
        Make an avatar of what a checker returned.

        :raises TypeError: none of the interfaces is `IGrant`.
        """
        if IGrant not in interfaces:
            raise TypeError(f"names are granted as {IGrant.__name__}")
        return IGrant, avatarId, lambda: None
